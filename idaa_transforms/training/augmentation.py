"""The random augmentation that the VAEs are trained on."""

from __future__ import annotations

from torch import nn


def ssl_augmentation(size: tuple[int, int], crop: bool = True) -> nn.Module:
    """SimCLR's random augmentation without blur, on batches in [0, 1]: what the paper trains its VAEs on."""
    import kornia.augmentation as K

    return nn.Sequential(
        K.RandomResizedCrop(size, scale=(0.08, 1.0)) if crop else nn.Identity(),
        K.RandomHorizontalFlip(),
        K.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        K.RandomGrayscale(p=0.2),
    )
