"""The callback, with a real trainer, and a module whose batches are those of solo-learn: (index, views, labels)."""

import runpy
import sys

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from idaa_transforms import IDAATransform, objectives
from idaa_transforms.lightning import IDAACallback
from idaa_transforms.losses import nt_xent

pytestmark = pytest.mark.slow


class Framework(pl.LightningModule):
    """Owns its training step, as solo-learn's methods do."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder, self.seen, self.dtypes = encoder, [], set()

    def forward(self, x):
        z = self.encoder(x)
        self.dtypes.add(z.dtype)
        return {"z": z}

    def training_step(self, batch, batch_idx):
        _, views, _ = batch
        self.seen.append([view.clone() for view in views])
        first, *others = [self(view)["z"].float() for view in views]
        return sum(nt_xent(first, other).mean() for other in others)

    def configure_optimizers(self):
        return torch.optim.SGD(self.encoder.parameters(), lr=0.01)


def make_loss(module, batch):
    _, views, _ = batch
    return objectives.simclr(lambda v: module(v)["z"].float(), module(views[1])["z"].float())


def batches():
    x = torch.rand(8, 2, 3, 16, 16, generator=torch.Generator().manual_seed(6))
    data = [(i, [x[i, 0], x[i, 1]], i % 3) for i in range(8)]
    return data, DataLoader(data, batch_size=4)


def fit(module, callback, precision="32-true"):
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", precision=precision, callbacks=[callback], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    data, loader = batches()
    trainer.fit(module, loader)
    return [[torch.stack([data[i][1][v] for i in rows]) for v in (0, 1)] for rows in (range(4), range(4, 8))]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("add", [False, True])
def test_a_hard_view_takes_the_place_of_the_first_or_joins_them(encoder, vae, add, precision):
    module = Framework(encoder.train())
    given = fit(module, IDAACallback(IDAATransform(vae), make_loss, add=add), precision)
    assert len(module.seen) == 2
    for views, (first, second) in zip(module.seen, given, strict=True):
        assert len(views) == (3 if add else 2)
        hard = views[2 if add else 0]
        assert not torch.equal(hard, first)
        assert (hard - first).abs().mean() < 0.1
        assert torch.equal(views[1], second)
        assert not add or torch.equal(views[0], first)
    assert module.dtypes == {torch.bfloat16 if precision == "bf16-mixed" else torch.float32}  # in the attack too


def test_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_lightning", None)
    with pytest.raises(ImportError, match=r"pytorch_lightning is needed for this: pip install 'idaa_transforms\[light"):
        runpy.run_module("idaa_transforms.lightning")
