"""What else could make views harder, or images harder to tell apart by a short cut: controls, a few lines each.

The first two change every random view and need no network; train.py puts them behind the random augmentation, and
RandAugment within it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from idaa_transforms import IDAATransform


def channels_last(x: Tensor) -> Tensor:
    """Images in the memory format that convolutions like; signals as they are."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def mixup(x: Tensor, most: float) -> Tensor:
    """Mixup noise (DACL; Verma et al., ICML 2021): up to ``most`` of another image of the batch in each."""
    share = most * torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device)
    return torch.lerp(x, x[torch.randperm(len(x), device=x.device)], share)


def quantize(x: Tensor, bins: int) -> Tensor:
    """Randomized quantization (Wu et al., ICCV 2023): each channel of each image gets random bins between its least and
    its largest value, and all values of a bin become one random value of that bin."""
    flat = x.flatten(2)
    low, high = flat.amin(2, keepdim=True), flat.amax(2, keepdim=True)
    inner = torch.rand(*flat.shape[:2], bins - 1, device=x.device).sort(2).values
    edges = torch.cat([torch.zeros_like(low), inner, torch.ones_like(low)], 2) * (high - low) + low
    values = torch.lerp(edges[..., :-1], edges[..., 1:], torch.rand(*flat.shape[:2], bins, device=x.device))
    return values.gather(2, torch.searchsorted(edges[..., 1:-1].contiguous(), flat.contiguous())).view_as(x)


DISTURB = {"mixup": mixup, "quantize": quantize}


class Disturb(nn.Module):
    """One of these as the last part of a random augmentation."""

    def __init__(self, how: str, amount: float) -> None:
        super().__init__()
        self.how, self.amount = how, amount

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to the same."""
        return DISTURB[self.how](x, self.amount)


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
