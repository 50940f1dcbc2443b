"""SimSiam: Chen and He, CVPR 2021."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules import SimSiamPredictionHead
from lightly.models.modules.heads import ProjectionHead
from torch import Tensor, nn

from idaa_transforms import objectives
from idaa_transforms.functional import Loss

from .base import Features, Method, View


class SimSiam(Method):
    """A predictor on one side, no gradient on the other, no negatives."""

    recipe: ClassVar[dict[str, Any]] = {
        "optimiser": "sgd",
        "lr": 0.03,
        "weight_decay": 5e-4,
        "batch_size": 256,
        "epochs": 300,
        "warmup_epochs": 10,
        "crop": 0.2,
        "jitter": (0.4, 0.4, 0.4, 0.1),
        "jitter_p": 0.8,
        "eps": 1.0,
        "weights": "cifar10-vae-z128",
        "sigma": 0.5,
    }

    def __init__(self, width: int) -> None:
        super().__init__()
        last = nn.BatchNorm1d(2048, affine=False)
        self.projector = ProjectionHead([(width, 2048, nn.BatchNorm1d(2048), nn.ReLU()), (2048, 2048, last, None)])
        self.predictor = SimSiamPredictionHead(2048, 512, 2048)
        self.criterion = NegativeCosineSimilarity()

    def loss(self, a: View, b: View) -> Tensor:
        """Half of each direction."""
        za, zb = self.embed(a.features), self.embed(b.features)
        ab, ba = self.criterion(self.predictor(za), zb.detach()), self.criterion(self.predictor(zb), za.detach())
        return (ab + ba) / 2

    def attack(self, features: Features, anchor: View) -> Loss:
        """The distance of the views' prediction to the anchor's projection."""
        return objectives.simsiam(lambda v: self.embed(features(v)), self.predictor, self.embed(anchor.features))

    def constant_lr(self) -> Iterable[nn.Parameter]:
        """The predictor's."""
        return self.predictor.parameters()
