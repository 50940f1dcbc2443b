"""The one place where the range and dtype of images meet those of an autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from .protocol import Autoencoder, latent_of


class Codec(nn.Module):
    """A frozen autoencoder that takes and gives images in the caller's own space.

    Args:
        autoencoder: frozen here, for good, and kept in eval mode, also through ``.train()``.
        mean, std: per channel, what the caller's images are normalised by; None for images in [0, 1].
    """

    _scale: Tensor
    _shift: Tensor

    def __init__(self, autoencoder: Autoencoder, mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
        super().__init__()
        if not (isinstance(autoencoder, nn.Module) and isinstance(autoencoder, Autoencoder)):
            raise TypeError(
                f"autoencoder is a {type(autoencoder).__name__}; it must be an nn.Module with encode, decode, "
                "mean, std and latent_scale. For weights by name use IDAATransform.from_pretrained"
            )
        self.autoencoder = autoencoder.requires_grad_(False).eval()
        channels = len(autoencoder.mean)
        if channels and mean and len(mean) != channels:
            raise ValueError(f"mean={mean} and std={std} must have one number for each of the {channels} channels")
        # x * scale + shift is what the autoencoder takes. Buffers, because making them at each call would wait for the
        # device; not persistent, because they follow from the arguments.
        ours = torch.tensor([mean or [0.0] * channels, std or [1.0] * channels], dtype=torch.float64)[:, :channels]
        theirs = torch.tensor([list(autoencoder.mean), list(autoencoder.std)], dtype=torch.float64)
        self._same = torch.equal(ours, theirs)
        self.register_buffer("_scale", (ours[1] / theirs[1]).float().view(-1, 1, 1), persistent=False)
        self.register_buffer("_shift", ((ours[0] - theirs[0]) / theirs[1]).float().view(-1, 1, 1), persistent=False)

    @property
    def dtype(self) -> torch.dtype | None:
        """What the autoencoder computes in, whatever the caller's autocast says; None if it has no weights."""
        return next((p.dtype for p in self.autoencoder.parameters() if p.is_floating_point()), None)

    def encode(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to the latent (B, ...); clips (B, T, C, H, W), frame by frame, to (B, T, ...)."""
        return latent_of(self._encode(x)).unflatten(0, x.shape[:-3])

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the posterior, each in the shape of the latent."""
        encoded = self._encode(x)
        if not hasattr(encoded, "log_variance"):
            raise ValueError(
                f"scale='posterior' needs an autoencoder whose encode gives a posterior with mean and log_variance; "
                f"that of {type(self.autoencoder).__name__} gives a {type(encoded).__name__}: use scale='latent'"
            )
        mean, sd = encoded.mean, torch.exp(0.5 * encoded.log_variance)
        return mean.unflatten(0, x.shape[:-3]), sd.unflatten(0, x.shape[:-3])

    def _encode(self, x: Tensor) -> Any:
        with torch.autocast(x.device.type, enabled=False):
            if not self._same:
                x = torch.addcmul(self._shift, x.to(torch.promote_types(x.dtype, torch.float32)), self._scale)
            x = x.to(self.dtype or x.dtype)
            height, width = (-n % getattr(self.autoencoder, "factor", 1) for n in x.shape[-2:])
            x = functional.pad(x, (0, width, 0, height), mode="replicate") if height or width else x
            return self.autoencoder.encode(x.flatten(0, -4))

    def decode(self, z: Tensor, shape: Sequence[int]) -> Tensor:
        """Latents to images, or clips, whose ``shape`` ends like this one, in float32 at least."""
        with torch.autocast(z.device.type, enabled=False):
            frames = z.to(self.dtype or z.dtype).flatten(0, len(shape) - 4)
            image = self.autoencoder.decode(frames).unflatten(0, z.shape[: len(shape) - 3])
            image = image.to(torch.promote_types(image.dtype, torch.float32))
            image = image[..., : shape[-2], : shape[-1]]
            return image if self._same else (image - self._shift) / self._scale

    def train(self, mode: bool = True) -> Self:
        """Set the flag of this module alone: the autoencoder stays in eval mode."""
        self.training = mode
        return self
