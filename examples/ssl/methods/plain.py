"""Plain, one-directional InfoNCE on a linear head, the simplest method of the IDAA paper; and UEL, which differs in the
loss alone."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from idaa_transforms import objectives
from idaa_transforms.functional import Loss
from idaa_transforms.losses import info_nce, instance_spreading

from .base import Features, Method, View

TEMPERATURE = 0.1


class Plain(Method):
    """Each first view has to find its second view among those of the batch."""

    recipe: ClassVar[dict[str, Any]] = {
        "optimiser": "sgd",
        "lr": 0.03,
        "weight_decay": 5e-4,
        "batch_size": 128,
        "epochs": 301,
        "schedule": "steps",
        "crop": 0.2,
        "jitter": (0.4, 0.4, 0.4, 0.4),
        "jitter_p": 1.0,
        "eps": 1.0,
        "weights": "cifar10-vae-z128",
        "sigma": 0.1,
    }

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projector = nn.Linear(width, 128)

    def loss(self, a: View, b: View) -> Tensor:
        """Rows a, columns b."""
        return info_nce(self.embed(a.features), self.embed(b.features), TEMPERATURE).mean()

    def attack(self, features: Features, anchor: View) -> Loss:
        """Rows are the anchor, columns the views."""
        return objectives.plain(lambda v: self.embed(features(v)), self.embed(anchor.features), TEMPERATURE)


class UEL(Plain):
    """Unsupervised embedding learning by instance spreading (Ye et al., CVPR 2019): partners attract, every other
    instance spreads."""

    def loss(self, a: View, b: View) -> Tensor:
        """The instance loss on [a; b]."""
        return instance_spreading(self.embed(a.features), self.embed(b.features), TEMPERATURE).mean()

    def attack(self, features: Features, anchor: View) -> Loss:
        """The instance loss on [anchor; views]."""
        return objectives.uel(lambda v: self.embed(features(v)), self.embed(anchor.features), TEMPERATURE)
