"""Controls: what a view could be but IDAA's."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from idaa_transforms import IDAATransform


def channels_last(x: Tensor) -> Tensor:
    """Images in the memory format that convolutions like; signals as they are."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


class RandAugment(nn.Module):
    """RandAugment (Cubuk et al., NeurIPS 2020), other operations for each image. Of many processes that stream pictures
    each draws the same for its first image, its second, and so on."""

    def __init__(self, operations: int, magnitude: int = 10) -> None:
        super().__init__()
        self.one = v2.RandAugment(operations, magnitude)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to the same."""
        return torch.stack([self.one(image) for image in x])


@torch.no_grad()
def random_step(attack: IDAATransform, x: Tensor, eps: float, like: Tensor | None = None) -> Tensor:
    """IDAA's view of ``x`` with the signs of its step drawn instead of those that raise the loss. With the views
    ``like`` each change is made as long in the pixels (L2) as theirs."""
    z = attack.codec.encode(x)
    step = eps * attack.autoencoder.latent_scale * torch.randn_like(z).sign()
    change = attack.codec.decode(z + step, x.shape) - attack.codec.decode(z, x.shape)
    if like is None:
        return x + change
    longer = (like - x).flatten(1).norm(dim=1) / change.flatten(1).norm(dim=1).clamp(min=1e-6)
    return torch.addcmul(x, change, longer.view(-1, *[1] * (x.ndim - 1)))
