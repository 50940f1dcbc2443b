"""What else could make views harder, or images harder to tell apart by a short cut: controls, a few lines each.

The first three change every random view and need no network; train.py puts them behind the random augmentation, and
RandAugment within it.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from idaa_transforms import IDAATransform, preserve_state
from idaa_transforms.losses import nt_xent
from idaa_transforms.random import MixupNoise, RandomQuantize

if TYPE_CHECKING:
    from network import Model


def channels_last(x: Tensor) -> Tensor:
    """Images in the memory format that convolutions like; signals as they are."""
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def noise(x: Tensor, sd: float) -> Tensor:
    """Gaussian noise with standard deviation ``sd`` on images (B, C, H, W) in [0, 1], or signals (B, C, L)."""
    noisy = x + sd * torch.randn_like(x)
    return noisy.clamp(0, 1) if x.ndim == 4 else noisy


def mixup(x: Tensor, most: float) -> Tensor:
    """Up to ``most`` of another image of the batch in each."""
    return MixupNoise(most)(x)


def quantize(x: Tensor, bins: int) -> Tensor:
    """The values of each channel of each image in random ``bins``."""
    return RandomQuantize(bins)(x)


DISTURB = {"mixup": mixup, "noise": noise, "quantize": quantize}


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
def random_step(attack: IDAATransform, x: Tensor, eps: float) -> Tensor:
    """IDAA's view of ``x`` with the signs of its step drawn instead of those that raise the loss."""
    z = attack.codec.encode(x)
    step = eps * attack.autoencoder.latent_scale * torch.randn_like(z).sign()
    return x + attack.codec.decode(z + step, x.shape) - attack.codec.decode(z, x.shape)


@torch.no_grad()
def hardest_pair(model: Model, views: list[Tensor]) -> list[Tensor]:
    """Hard view pretraining (Ferreira et al., ICLR 2025): of all pairs of random ``views``, each (B, C, H, W), the one
    with the largest NT-Xent, image by image. One pass forward for each view."""
    with preserve_state(model):
        embedded = [model.method.embed(model(view).features) for view in views]
    pairs = list(itertools.combinations(range(len(views)), 2))
    worst = torch.stack([nt_xent(embedded[i], embedded[j]) for i, j in pairs]).argmax(0)
    stacked, rows = torch.stack(views), torch.arange(len(worst), device=worst.device)
    chosen = torch.tensor(pairs, device=worst.device)[worst]
    return [channels_last(stacked[chosen[:, side], rows]) for side in (0, 1)]
