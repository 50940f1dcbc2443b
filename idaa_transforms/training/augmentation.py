"""The random augmentation that the VAEs are trained on."""

from __future__ import annotations

from torch import nn

from ..autoencoders.conv import ConvVAE
from .signals import SignalAugmentation


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


def random_augmentation(vae: ConvVAE, crop: bool = True) -> nn.Module:
    """What ``vae`` is trained on: :func:`ssl_augmentation` of images or, if it takes signals, small changes of them."""
    if len(vae.image_size) == 1:
        return SignalAugmentation(vae.std)
    height, width = vae.image_size
    return ssl_augmentation((height, width), crop, vae.channels)
