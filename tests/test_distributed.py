"""Several processes attack as one does on the joined batch, and a DDP or FSDP2 model in the closure stays in step."""

import distributed_run
import pytest
import torch
from several import together

pytestmark = pytest.mark.slow


def test_two_processes_agree_with_one(tmp_path):
    distributed_run.main(tmp_path / "alone.pt")
    together(distributed_run.main, tmp_path / "found.pt")
    alone, found = torch.load(tmp_path / "alone.pt"), torch.load(tmp_path / "found.pt")
    views = found.pop("a rank that draws no image")
    share = len(views) // 2
    assert (views[:share] != alone["images"][:share]).flatten(1).any(1).all()
    assert torch.equal(views[share:], alone["images"][share:])
    for name, value in found.items():
        torch.testing.assert_close(value, alone[name], atol=1e-9, rtol=1e-7, msg=lambda m, name=name: f"{name}: {m}")
