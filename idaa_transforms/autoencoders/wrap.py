"""Use any encoder and decoder as an autoencoder."""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from .protocol import latent_of


class Wrapped(nn.Module):
    """An autoencoder out of any two callables.

    Args:
        encode: images, normalised as ``mean`` and ``std`` say, to a latent of any shape with the batch first, or to an
            object whose ``mean`` is that latent. Deterministic.
        decode: the latent back to images.
        mean, std: per channel: ``(image in [0, 1] - mean) / std`` is what ``encode`` takes and ``decode`` gives. 0 and
            1 for images in [0, 1], 0.5 and 0.5 for [-1, 1].
        latent_scale: the unit of eps: about the standard deviation of the latent over images.
        module: what holds the weights, so that ``.to()`` moves them. Default: ``encode`` and ``decode`` themselves
            where they are modules, or the modules they are methods of.
        image_size: the only (height, width) it takes, of signals (length,); others are resampled. None for any.
        factor: height and width are padded to a multiple of it, by repeating the border, and the views cropped back.
        axes: after the channels: 2 of images, 1 of signals (B, C, L).

    Example:
        >>> autoencoder = Wrapped(net.encode, net.decode, mean=[0.5] * 3, std=[0.5] * 3, factor=8)
        >>> aug = IDAATransform(autoencoder, eps=0.05)
    """

    def __init__(
        self,
        encode: Callable[[Tensor], Any],
        decode: Callable[[Tensor], Tensor],
        *,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        latent_scale: float = 1.0,
        module: nn.Module | None = None,
        image_size: tuple[int, ...] | None = None,
        factor: int = 1,
        axes: int = 2,
    ) -> None:
        super().__init__()
        if latent_scale <= 0 or factor < 1:
            raise ValueError(f"latent_scale={latent_scale!r} must be above 0, and factor={factor!r} at least 1")
        owners = [module] if module is not None else [_owner(encode), _owner(decode)]
        self.parts = nn.ModuleList(dict.fromkeys(owner for owner in owners if owner is not None))
        self._encode, self._decode = (encode,), (decode,)  # in tuples, so that modules are registered once
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        self.channels, self.image_size, self.factor = len(self.mean), image_size, factor
        self.axes = len(image_size) if image_size else axes
        self.latent_scale = float(latent_scale)

    def encode(self, x: Tensor) -> Tensor:
        """Normalised images (B, C, H, W) to the latent."""
        return latent_of(self._encode[0](x))

    def decode(self, z: Tensor) -> Tensor:
        """The latent to normalised images."""
        return self._decode[0](z)


def _owner(function: Any) -> nn.Module | None:
    owner = function.__self__ if isinstance(function, types.MethodType) else function
    return owner if isinstance(owner, nn.Module) else None
