"""The methods and attributes that a transform needs of an autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn


@runtime_checkable
class Autoencoder(Protocol):
    """Any ``nn.Module`` with these members. Rows of a batch must not mix in eval mode.

    More are looked at where they exist: ``channels``, for clear errors early; ``image_size``, the only (height, width)
    it takes: images of other sizes are resampled to it, and what ``decode`` gives back to theirs; ``factor``: height
    and width are padded to a multiple of it, and the views cropped back; ``encode_mean``: called instead of ``encode``
    where the latent is all that is asked for. Of signals (B, C, L), ``image_size`` is (length,); where any length
    does, ``axes = 1`` says that there is one axis.
    """

    @property
    def mean(self) -> Sequence[float]:
        """A number a channel; ``(image in [0, 1] - mean) / std`` is what ``encode`` takes and ``decode`` gives."""

    @property
    def std(self) -> Sequence[float]:
        """See ``mean``."""

    @property
    def latent_scale(self) -> float:
        """The unit of eps in the latent's own numbers, which is about the standard deviation of z over images."""

    def encode(self, x: Tensor) -> Any:
        """Images to the latent (B, ...): a tensor, or an object whose ``mean`` is one, such as a posterior."""

    def decode(self, z: Tensor) -> Tensor:
        """Latents to images."""


class PixelSpace(nn.Module):
    """The autoencoder that does nothing. Its latent is the image, so that a step in it is a step in the pixels.

    Args:
        axes: after the channels: 2 of images, 1 of signals.
    """

    mean: Sequence[float] = ()
    std: Sequence[float] = ()
    latent_scale = 1.0

    def __init__(self, axes: int = 2) -> None:
        super().__init__()
        self.axes = axes

    def encode(self, x: Tensor) -> Tensor:
        """The images themselves."""
        return x

    def decode(self, z: Tensor) -> Tensor:
        """The images themselves."""
        return z


def axes_of(autoencoder: Any) -> int:
    """How many axes come after the channels: 2 of images, 1 of signals."""
    size = getattr(autoencoder, "image_size", None)
    return len(size) if size else int(getattr(autoencoder, "axes", 2))


def latent_of(encoded: Any) -> Tensor:
    """The tensor z in what ``encode`` returned: itself, or the mean of a posterior."""
    return encoded if isinstance(encoded, Tensor) else encoded.mean
