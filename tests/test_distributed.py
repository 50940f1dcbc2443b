"""Several processes attack as one does on the joined batch, and a DDP or FSDP2 model in the closure stays in step."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.slow

RUN = str(Path(__file__).with_name("distributed_run.py"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "found.pt"
    subprocess.run([sys.executable, RUN, str(out)], check=True)
    return torch.load(out)


def test_two_processes_agree_with_one(alone, tmp_path):
    processes = 2
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    subprocess.run([*torchrun, RUN, str(tmp_path / "found.pt")], check=True)
    found = torch.load(tmp_path / "found.pt")
    views = found.pop("a rank that draws no image")
    share = len(views) // processes
    assert (views[:share] != alone["images"][:share]).flatten(1).any(1).all()
    assert torch.equal(views[share:], alone["images"][share:])
    for name, value in found.items():
        torch.testing.assert_close(value, alone[name], atol=1e-9, rtol=1e-7, msg=lambda m, name=name: f"{name}: {m}")
