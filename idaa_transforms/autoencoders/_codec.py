"""Convert between the user's images and an autoencoder's: range, size and dtype."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._pytree import tree_map

from ._resample import resample
from .protocol import Autoencoder, axes_of, latent_of

Statistics = tuple[float, ...] | None
Network = Callable[[Any, Tensor], Any]
_COMPILE = inspect.signature(torch.compile).parameters


def _mean(autoencoder: Any, x: Tensor) -> Tensor:
    return latent_of(getattr(autoencoder, "encode_mean", autoencoder.encode)(x))


def _posterior(autoencoder: Any, x: Tensor) -> Any:
    return autoencoder.encode(x)


def _image(autoencoder: Any, z: Tensor) -> Tensor:
    return autoencoder.decode(z)


def _kept(network: Network) -> Network:
    """With its outputs copied: a CUDA graph writes those of the next call over those of the last."""
    return lambda autoencoder, x: tree_map(torch.clone, network(autoencoder, x))


class Codec:
    """A frozen autoencoder that takes and gives images in the caller's own space, and at the caller's own size.

    Where x has another size than the autoencoder's ``image_size``, E sees it resampled, and what D gives is resampled
    to x: an autoencoder like any other, that leaves all fine detail to the residual.

    It is no nn.Module, so that the autoencoder is no part of the model that a transform may be a part of: it is not in
    state_dict, parameters() or modules(), nothing trains it, and apply, train and to_empty pass it by.

    Args:
        autoencoder: frozen here, for good, and in eval mode.
        mean, std: per channel, what the caller's images are normalised by; None for images in [0, 1].
    """

    @torch.inference_mode(False)
    def __init__(self, autoencoder: Autoencoder, mean: Statistics, std: Statistics) -> None:
        if not (isinstance(autoencoder, nn.Module) and isinstance(autoencoder, Autoencoder)):
            raise TypeError(
                f"autoencoder is a {type(autoencoder).__name__}; it must be an nn.Module with encode, decode, "
                "mean, std and latent_scale. For weights by name use IDAATransform.from_pretrained"
            )
        self.autoencoder: Any = autoencoder.requires_grad_(False).eval()
        self.mean, self.std = mean, std
        self.axes = axes_of(autoencoder)  # 2 of images, 1 of signals: they come after the channels
        self._mean: Network = _mean
        self._posterior: Network = _posterior
        self._image: Network = _image
        self._weight = next((p for p in autoencoder.parameters() if p.is_floating_point()), None)
        self.device = torch.get_default_device() if self._weight is None else self._weight.device
        if self.device.type == "meta":
            if self._weight is not None:
                raise ValueError(
                    f"the {type(autoencoder).__name__} was made on the meta device and has no values; make it under "
                    '`with torch.device("cpu"):`, or load a transform by from_pretrained, which does'
                )
            self.device = torch.device("cpu")
        channels = len(autoencoder.mean) or len(mean or ())  # an autoencoder without any takes what there is
        if mean and len(mean) != channels:
            raise ValueError(f"mean={mean} and std={std} must have one number for each of the {channels} channels")
        # x * scale + shift is what the autoencoder takes. Kept on the device, where making them would wait for it.
        exact = partial(torch.tensor, dtype=torch.float64, device="cpu")
        ours = exact([mean or [0.0] * channels, std or [1.0] * channels])
        theirs = exact([[0.0] * channels, [1.0] * channels])
        if len(autoencoder.mean):
            theirs = exact([list(autoencoder.mean), list(autoencoder.std)])
        self._same = torch.equal(ours, theirs)
        values = torch.cat([ours, (ours[1:] / theirs[1:]), (ours[:1] - theirs[:1]) / theirs[1:]]).float()
        self._statistics = values.view(4, channels, *[1] * self.axes).to(self.device)  # mean, std, scale, shift

    @torch.inference_mode(False)
    def to(self, device: torch.device, dtype: torch.dtype | None) -> None:
        """Move the autoencoder, and cast it where ``dtype`` is given."""
        self.autoencoder.to(device, dtype)
        self.device, self._statistics = device, self._statistics.to(device)

    def from_unit(self, values: tuple[float, float]) -> tuple[float | Tensor, float | Tensor]:
        """``values`` of images in [0, 1], in the caller's space: numbers, or tensors (C, 1, 1), of signals (C, 1)."""
        if self.mean is None:
            return values
        mean, std = self._statistics[:2]
        return (values[0] - mean) / std, (values[1] - mean) / std

    def compile(self, **options: Any) -> None:
        """Compile ``encode`` and ``decode`` of the autoencoder, each as one graph for batches of any size.

        A copy, or one that is loaded from a pickle, is not compiled.

        Args:
            options: of ``torch.compile``, before our own: ``fullgraph=True, dynamic=True`` and, where torch has it,
                ``isolate_recompiles=True``, so that several transforms do not share one limit of recompilations.
        """
        isolate = {"isolate_recompiles": True} if "isolate_recompiles" in _COMPILE else {}
        options = {"fullgraph": True, "dynamic": True, **isolate, **options}
        networks: list[Network] = [torch.compile(network, **options) for network in (_mean, _posterior, _image)]
        if options.keys() & {"mode", "options"}:  # where CUDA graphs are asked for
            networks = [_kept(network) for network in networks]
        self._mean, self._posterior, self._image = networks

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_mean": _mean, "_posterior": _posterior, "_image": _image}

    @property
    def dtype(self) -> torch.dtype | None:
        """What the autoencoder computes in, whatever the caller's autocast says; None if it has no weights."""
        return None if self._weight is None else self._weight.dtype

    def encode(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) of any size, or signals (B, C, L), to the latent (B, ...); clips (B, T, C, H, W), frame
        by frame, to (B, T, ...)."""
        return self._encode(x, self._mean).unflatten(0, x.shape[: -1 - self.axes])

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the posterior, each in the shape of the latent."""
        encoded = self._encode(x, self._posterior)
        if not hasattr(encoded, "log_variance"):
            raise ValueError(
                f"eps_unit='posterior' needs an autoencoder whose encode gives a posterior with mean and log_variance; "
                f"that of {type(self.autoencoder).__name__} gives a {type(encoded).__name__}: use eps_unit='latent'"
            )
        mean, sd = encoded.mean, torch.exp(0.5 * encoded.log_variance)
        batch = x.shape[: -1 - self.axes]
        return mean.unflatten(0, batch), sd.unflatten(0, batch)

    def _encode(self, x: Tensor, network: Network) -> Any:
        if self.autoencoder.training:  # it is somebody else's module as well, and that went into train mode
            self.autoencoder.eval()
        with torch.autocast(x.device.type, enabled=False):
            size, x = self._size(x.shape), x.flatten(0, -2 - self.axes)
            if size != x.shape[-self.axes :]:
                x = resample(x, size)
            if not self._same:
                _, _, scale, shift = self._statistics
                x = torch.addcmul(shift, x.to(torch.promote_types(x.dtype, torch.float32)), scale)
            x = x.to(self.dtype or x.dtype)
            if (factor := getattr(self.autoencoder, "factor", 1)) > 1:  # functional.pad begins with the last axis
                padding = [n for length in reversed(x.shape[-self.axes :]) for n in (0, -length % factor)]
                x = functional.pad(x, padding, mode="replicate")
            return network(self.autoencoder, x)

    def decode(self, z: Tensor, shape: Sequence[int]) -> Tensor:
        """Latents to images, clips or signals, whose ``shape`` ends like this one, in float32 at least."""
        return self.lift(self.decode_small(z, shape), shape)

    def lift(self, image: Tensor, shape: Sequence[int], adjoint: bool = False) -> Tensor:
        """What the autoencoder gives, at the size of ``shape``; or, by ``adjoint``, a gradient the way back."""
        size = self._size(shape) if adjoint else tuple(shape[-self.axes :])
        if size == image.shape[-self.axes :]:
            return image
        with torch.autocast(image.device.type, enabled=False):
            return resample(image, size, adjoint)

    def decode_small(self, z: Tensor, shape: Sequence[int]) -> Tensor:
        """As :meth:`decode`, at the size that the autoencoder gives."""
        batch = len(shape) - self.axes - 1
        with torch.autocast(z.device.type, enabled=False):
            image = self._image(self.autoencoder, z.to(self.dtype or z.dtype).flatten(0, batch - 1))
            image = image.to(torch.promote_types(image.dtype, torch.float32))
            if (size := self._size(shape)) != image.shape[-self.axes :]:  # padded for its factor
                image = image[(..., *map(slice, size))]
            if not self._same:
                _, _, scale, shift = self._statistics
                image = (image - shift) / scale
            return image.unflatten(0, z.shape[:batch])

    def _size(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The size at which the autoencoder sees images of ``shape``."""
        return tuple(getattr(self.autoencoder, "image_size", None) or shape[-self.axes :])
