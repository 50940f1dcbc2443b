"""UEL, unsupervised embedding learning by instance spreading: Ye et al., CVPR 2019."""

from __future__ import annotations

from torch import Tensor

from idaa_transforms import objectives
from idaa_transforms.functional import Loss
from idaa_transforms.losses import instance_spreading

from .base import Features, View
from .plain import TEMPERATURE, Plain


class UEL(Plain):
    """Partners attract, every other instance spreads. Everything but the loss is as in Plain."""

    def loss(self, a: View, b: View) -> Tensor:
        """The instance loss on [a; b]."""
        return instance_spreading(self.embed(a.features), self.embed(b.features), TEMPERATURE).mean()

    def attack(self, features: Features, anchor: View) -> Loss:
        """The instance loss on [anchor; views]."""
        return objectives.uel(lambda v: self.embed(features(v)), self.embed(anchor.features), TEMPERATURE)
