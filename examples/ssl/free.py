"""Hard views for the price of the latent step alone: an experiment.

Every image keeps a delta of its own over the epochs. The image is moved by it before random augmentation, and the
gradient of the training step, which has to go back through the network anyway, moves delta for the next time.
"""

from __future__ import annotations

from typing import Any

import torch
from config import Config
from network import Model
from torch import Tensor, nn


class FreeDeltas(nn.Module):
    """A delta for each image and each of the views that are hard, float16, random signs at first."""

    def __init__(self, config: Config, model: Model, attack: Any, images: Tensor) -> None:
        super().__init__()
        self.config, self.images, self._parts = config, images, (model, attack)
        with torch.no_grad():
            z = attack.codec.encode(model.normalise(images[:1].float() / 255))
        shape = (len(images), config.free_views, *z.shape[1:])
        start = config.eps * torch.randn(shape, generator=torch.Generator().manual_seed(config.seed)).sign()
        self.register_buffer("delta", start.half())

    def update(self, augment: nn.ModuleList, optimiser: torch.optim.Optimizer, index: Tensor, eps: float) -> Tensor:
        """One step of training on the images at ``index``: its loss twice, (2,)."""
        model, attack = self._parts
        size = self.config.step_size or eps
        x = self.images[index].float() / 255
        normal = model.normalise(x)
        with torch.no_grad():
            z = attack.codec.encode(normal)
            before = attack.codec.decode(z, normal.shape)
        deltas = self.delta[index].float().requires_grad_()
        std = normal.new_tensor(model.std).view(-1, 1, 1)
        views = [
            x + std * (attack.codec.decode(z + deltas[:, i].to(z.dtype), normal.shape) - before).float()
            for i in range(self.config.free_views)
        ]
        if self.config.share < 1:
            hard = torch.rand(len(x), 1, 1, 1) < self.config.share
            views = [torch.where(hard, view, x) for view in views]
        views += [x] * (2 - len(views))
        a, b = (model(model.normalise(augment[0](view))) for view in views)
        loss = model.method.loss(a, b)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            slope = deltas.grad.sign()
            self.delta[index] = (deltas + size * slope).clamp(-eps, eps).half()
            model.method.update([a.detach(), b.detach()])
            model.follow()
        return loss.detach().repeat(2)
