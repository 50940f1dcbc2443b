"""Measure how well an autoencoder reconstructs natural images, to detect wrong settings or weights."""

from __future__ import annotations

import torch

from ..autoencoders._codec import Codec
from ..sample import cifar10_sample
from .protocol import Autoencoder


@torch.no_grad()
def explained_variance(autoencoder: Autoencoder, size: int = 64) -> float:
    """How much of the variance of a few natural images the reconstruction explains: 1 is perfect, 0 no better than
    grey. Low values say that range, channel order or weights are not what they should be."""
    height, width = getattr(autoencoder, "image_size", None) or (size, size)
    x = cifar10_sample((height, width))[0][:8, : len(autoencoder.mean) or 3]
    codec = Codec(autoencoder, None, None)
    device = next((p.device for p in codec.autoencoder.parameters()), x.device)
    x = x.to(device)
    error = codec.decode(codec.encode(x), x.shape) - x
    return 1 - float(error.square().mean() / (x - x.mean((0, 2, 3), keepdim=True)).square().mean())
