"""AdCo: Hu et al., CVPR 2021. Negatives are not stored but learned: they climb the loss that the network descends
(section 3 there). Symmetric, without multi-crop."""

from __future__ import annotations

import torch
from torch import Tensor

from idaa_transforms.losses import info_nce

from .base import View
from .moco import MoCo

RATE, MOMENTUM, DECAY = 3.0, 0.9, 1e-4  # of the negatives


class AdCo(MoCo):
    """MoCo with a queue of adversaries. Their optimiser, SGD with momentum at a constant rate, is in buffers, so that a
    checkpoint has it. They begin at random; the paper's begin as keys of images."""

    temperature, steep = 0.14, 0.03  # of the network's step and of the negatives'; the paper's for 8,192, its fewest
    velocity: Tensor

    def __init__(self, width: int) -> None:
        super().__init__(width)
        del self.place  # nothing is enqueued
        self.register_buffer("velocity", torch.zeros_like(self.queue))

    def update(self, views: list[View]) -> None:
        """A step up of the negatives, at a temperature of their own, against the queries of both views."""
        negatives = self.queue.clone().requires_grad_()
        queries, keys = (
            torch.cat([self.embed(x.features) for x in views]),
            torch.cat([x.target for x in reversed(views)]),
        )
        with torch.enable_grad():
            loss = info_nce(queries, keys, self.steep, negatives).mean()
        (gradient,) = torch.autograd.grad(loss, negatives)
        self.velocity.mul_(MOMENTUM).add_(gradient - DECAY * negatives.detach())
        self.queue.add_(RATE * self.velocity)
