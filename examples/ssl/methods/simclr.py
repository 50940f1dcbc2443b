"""SimCLR: Chen et al., ICML 2020."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from lightly.models.modules import SimCLRProjectionHead
from torch import Tensor
from torch.nn import functional as F

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

    def loss(self, a: View, b: View) -> Tensor:
        """Both directions, all other views as negatives."""
        z = [F.normalize(self.embed(view.features), dim=1) for view in (a, b)]
        aa, ab, ba, bb = (torch.einsum("nc,mc->nm", x, y) / self.temperature for x in z for y in z)
        scores = torch.cat([torch.cat([ab, others(aa)], 1), torch.cat([ba, others(bb)], 1)])
        partner = torch.arange(len(aa), device=scores.device).repeat(2)
        return F.cross_entropy(scores, partner)

    def attack(self, features: Features, anchor: View) -> Loss:
        """The same loss."""
        return objectives.simclr(lambda v: self.embed(features(v)), self.embed(anchor.features), self.temperature)


def others(similar: Tensor) -> Tensor:
    """A matrix (B, B) without its diagonal, (B, B - 1), by strides alone: a mask would make a GPU wait for the host."""
    n = len(similar)
    return similar.flatten()[1:].view(n - 1, n + 1)[:, :-1].reshape(n, n - 1)
