"""BYOL: Grill et al., NeurIPS 2020. Not in the paper's tables; the recipe is SimSiam's, its nearest relative there."""

from __future__ import annotations

from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules import BYOLPredictionHead, BYOLProjectionHead
from torch import Tensor

from idaa_transforms import objectives
from idaa_transforms.functional import Loss

from .base import Features, Method, View
from .simsiam import SimSiam


class BYOL(Method):
    """Predict what the target network, a moving average, says of the other view."""

    recipe = SimSiam.recipe
    momentum = 0.99

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projector = BYOLProjectionHead(width, 2048, 256)
        self.predictor = BYOLPredictionHead(256, 2048, 256)
        self.criterion = NegativeCosineSimilarity()

    def loss(self, a: View, b: View) -> Tensor:
        """Half of each direction."""
        ab, ba = (
            self.criterion(self.predictor(self.embed(x.features)), y.target.detach()) for x, y in ((a, b), (b, a))
        )
        return (ab + ba) / 2

    def attack(self, features: Features, anchor: View) -> Loss:
        """The distance of the views' prediction to what the target network says of the anchor."""
        return objectives.simsiam(lambda v: self.embed(features(v)), self.predictor, anchor.target)
