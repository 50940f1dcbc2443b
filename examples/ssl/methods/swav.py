"""SwAV without multi-crop: Caron et al., NeurIPS 2020. Not in the paper's tables; the recipe is SimCLR's."""

from __future__ import annotations

from lightly.loss import SwaVLoss
from lightly.loss.swav_loss import sinkhorn
from lightly.models.modules import SwaVProjectionHead
from lightly.models.utils import normalize_weight
from torch import Tensor, nn
from torch.nn import functional as F

from idaa_transforms import objectives
from idaa_transforms.functional import Loss

from .base import Features, Method, View
from .simclr import SimCLR


class SwAV(Method):
    """Predict the cluster of one view from the other."""

    recipe = SimCLR.recipe

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projector = SwaVProjectionHead(width, 512, 128)
        self.prototypes = nn.Linear(128, 512, bias=False)  # lightly's have a bias, which the paper's have not
        self.criterion = SwaVLoss()
        self.update([])

    def _scores(self, view: View) -> Tensor:
        return self.prototypes(F.normalize(self.embed(view.features), dim=1))

    def loss(self, a: View, b: View) -> Tensor:
        """Swapped prediction."""
        return self.criterion([self._scores(a), self._scores(b)], []).squeeze()

    def attack(self, features: Features, anchor: View) -> Loss:
        """Cross-entropy of the views with the anchor's codes."""
        return objectives.swav(lambda v: self.embed(features(v)), self.prototypes, sinkhorn(self._scores(anchor)))

    def update(self, views: list[View]) -> None:
        """Prototypes stay on the sphere."""
        normalize_weight(self.prototypes.weight)
