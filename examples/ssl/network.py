"""A backbone with a method on top, and the view that each makes of a batch."""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext

import torch
from config import Config
from lightly.models.utils import update_momentum
from methods import View, methods_of
from torch import Tensor, distributed, nn

from examples.shared.backbones import build_backbone, statistics_of
from examples.shared.parallel import gather, synchronise
from idaa_transforms import preserve_state
from idaa_transforms.batchnorm import branch, convert_dual_batchnorm
from idaa_transforms.functional import Loss


class Model(nn.Module):
    """Backbone, method and, for methods that have one, a target network that follows them.

    In a run of many processes each sees its share of the images, and gets everybody's features.
    """

    def __init__(self, config: Config, size: int, statistics: tuple[list[float], list[float]] | None = None) -> None:
        super().__init__()
        self.config = config
        self.mean, self.std = statistics or statistics_of(config.data)
        shape = (-1, 1) if config.signals else (-1, 1, 1)
        self.register_buffer("shift", torch.tensor(self.mean).view(shape), persistent=False)
        self.register_buffer("scale", torch.tensor(self.std).view(shape), persistent=False)
        small = size <= 64 or config.signals
        self.backbone = build_backbone(config.backbone, config.backbone_options, small, config.maxpool, len(self.mean))
        self.method = methods_of(config.scale)[config.method](self.backbone.num_features)
        if config.temperature:
            self.method.temperature = config.temperature
        if distributed.is_initialized():
            self.backbone = synchronise(self.backbone, config.device)
        self.dual = config.dual_bn and config.view != "none"
        if self.dual:
            convert_dual_batchnorm(self.backbone)
        self.target: nn.ModuleList | None = None
        if self.method.momentum:
            self.target = copy.deepcopy(self._followed()).requires_grad_(False)

    def _followed(self) -> nn.ModuleList:
        return nn.ModuleList([self.backbone, self.method.projector])

    def normalise(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1], or signals (B, C, L), to what the network takes."""
        x = (x - self.shift) / self.scale
        return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x  # which convolutions like

    def encode(self, x: Tensor, backbone: nn.Module | None = None) -> Tensor:
        """Normalised images (b, C, H, W) to features (b, width) in float32, of this process alone.
        A signal (b, C, L) is an image of height 1, which makes a network in one dimension of any."""
        x = x[:, :, None] if x.ndim == 3 else x
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bool(self.config.bf16)):
            return (backbone or self.backbone)(x).float()

    def forward(self, x: Tensor, hard: bool = False) -> View:
        """A batch of views; ``hard`` ones go through the batch norms for them."""
        with self._branch(hard):
            features = gather(self.encode(x))
            if self.target is None:
                return View(features)
            backbone, projector = self.target
            with torch.no_grad():
                return View(features, projector(gather(self.encode(x, backbone))))

    def closure(self, anchor: View) -> Loss:
        """What an attack raises: the method's loss against ``anchor``, with the batch norms of hard views."""

        def features(x: Tensor) -> Tensor:
            with self._branch(hard=True):
                return gather(self.encode(x))

        with torch.no_grad(), preserve_state(self.method):
            loss = self.method.attack(features, anchor.detach())
        return lambda views: loss(views).sum()

    @torch.no_grad()
    def follow(self) -> None:
        """Move the target network a little towards the others."""
        if self.target is not None:
            update_momentum(self._followed(), self.target, self.method.momentum)

    def _branch(self, hard: bool) -> AbstractContextManager[None]:
        return branch(self, "adversarial") if hard and self.dual else nullcontext()
