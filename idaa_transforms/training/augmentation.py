"""The random augmentation that the VAEs are trained on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..autoencoders.conv import ConvVAE


def ssl_augmentation(size: tuple[int, int], crop: bool = True, channels: int = 3) -> nn.Module:
    """SimCLR's random augmentation without blur, on batches in [0, 1]: what the paper trains its VAEs on.

    Images of another number of ``channels`` than 3 have no hue and saturation: brightness and contrast alone vary.
    """
    import kornia.augmentation as K

    colours = (
        [K.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8), K.RandomGrayscale(p=0.2)]
        if channels == 3
        else [K.RandomBrightness((0.2, 1.8), p=0.8), K.RandomContrast((0.2, 1.8), p=0.8)]
    )
    return nn.Sequential(
        K.RandomResizedCrop(size, scale=(0.08, 1.0)) if crop else nn.Identity(),
        K.RandomHorizontalFlip(),
        *colours,
    )


class SignalAugmentation(nn.Module):
    """Small random changes of signals (B, C, L), each signal its own: a window of at least ``crop`` of its length,
    stretched to all of it; all channels louder or quieter, by exp of a normal number times ``gain``; and white noise.

    Args:
        std: of each channel, the unit of the noise.
        crop: the shortest window, a share of the length.
        gain: standard deviation of the logarithm of the factor.
        noise: standard deviation of the noise, in units of ``std``.
    """

    def __init__(self, std: Sequence[float], crop: float = 0.5, gain: float = 0.1, noise: float = 0.02) -> None:
        super().__init__()
        self.crop, self.gain, self.noise = crop, gain, noise
        self.register_buffer("std", torch.tensor(std).view(-1, 1), persistent=False)
        self.std: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, L) to the same."""
        batch, _, length = x.shape
        share = self.crop + (1 - self.crop) * torch.rand(batch, 1, device=x.device)
        first = torch.rand(batch, 1, device=x.device) * (1 - share) * (length - 1)
        place = first + share * torch.arange(length, device=x.device)  # (B, L), between 0 and L - 1
        below = place.long().clamp(max=max(length - 2, 0))
        weight = (place - below)[:, None]
        left, right = (x.gather(2, i[:, None].expand_as(x)) for i in (below, (below + 1).clamp(max=length - 1)))
        factor = torch.exp(self.gain * torch.randn(batch, 1, 1, device=x.device))
        return factor * torch.lerp(left, right, weight) + self.noise * self.std.to(x) * torch.randn_like(x)


def random_augmentation(vae: ConvVAE, crop: bool = True) -> nn.Module:
    """What ``vae`` is trained on: :func:`ssl_augmentation` of images or, if it takes signals, small changes of them."""
    if len(vae.image_size) == 1:
        return SignalAugmentation(vae.std)
    height, width = vae.image_size
    return ssl_augmentation((height, width), crop, vae.channels)
