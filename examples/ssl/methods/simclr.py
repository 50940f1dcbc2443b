"""SimCLR: Chen et al., ICML 2020."""

from __future__ import annotations

from typing import Any, ClassVar

from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from torch import Tensor

from idaa_transforms import objectives
from idaa_transforms.functional import Loss

from .base import Features, Method, View


class SimCLR(Method):
    """NT-Xent between all views of a batch, behind an MLP that is thrown away afterwards."""

    temperature = 0.5
    recipe: ClassVar[dict[str, Any]] = {
        "optimiser": "adam",
        "lr": 3e-4,
        "batch_size": 256,
        "epochs": 300,
        "flat_epochs": 10,
        "crop": 0.08,
        "jitter": (0.8, 0.8, 0.8, 0.2),
        "jitter_p": 0.8,
        "eps": 0.1,
        "sigma": 0.5,
    }

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projector = SimCLRProjectionHead(width, 512, 64, batch_norm=False)
        self.criterion = NTXentLoss(self.temperature)

    def loss(self, a: View, b: View) -> Tensor:
        """Both directions, all other views as negatives."""
        return self.criterion(self.embed(a.features), self.embed(b.features))

    def attack(self, features: Features, anchor: View) -> Loss:
        """The same loss."""
        return objectives.simclr(lambda v: self.embed(features(v)), self.embed(anchor.features), self.temperature)
