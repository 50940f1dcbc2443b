"""MoCo v2: He et al., CVPR 2020; Chen et al., 2020. Not in the paper's tables; augmentation and eps are SimCLR's.

lightly's loss with a memory bank would enqueue at every call, the attack's and the third view's too, and its bank is
not saved in checkpoints. So the queue is a buffer here.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from lightly.models.modules import MoCoProjectionHead
from torch import Tensor
from torch.nn import functional as F

from idaa_transforms import objectives
from idaa_transforms.functional import Loss
from idaa_transforms.losses import info_nce

from .base import Features, Method, View
from .simclr import SimCLR


class MoCo(Method):
    """Find the momentum encoder's key of the other view among a queue of earlier keys."""

    recipe = SimCLR.recipe | {"optimiser": "sgd", "lr": 0.06, "weight_decay": 5e-4, "sigma": 0.1}
    momentum = 0.99
    temperature = 0.2
    length: ClassVar[int] = 4096  # of the queue
    queue: Tensor
    place: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projector = MoCoProjectionHead(width, 512, 128)
        self.register_buffer("queue", F.normalize(torch.randn(self.length, 128), dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    def loss(self, a: View, b: View) -> Tensor:
        """Half of each direction, so that both views learn."""
        ab, ba = (info_nce(self.embed(x.features), y.target, self.temperature, self.queue) for x, y in ((a, b), (b, a)))
        return (ab + ba).mean() / 2

    def attack(self, features: Features, anchor: View) -> Loss:
        """The views as queries."""
        return objectives.moco(lambda v: self.embed(features(v)), anchor.target, self.queue, self.temperature)

    def update(self, views: list[View]) -> None:
        """Enqueue the keys of the last random view."""
        keys = F.normalize(views[-1].target, dim=1)
        where = (self.place + torch.arange(len(keys), device=keys.device)) % self.length
        self.queue[where] = keys
        self.place = (self.place + len(keys)) % self.length
