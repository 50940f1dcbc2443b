"""The one place where the range and dtype of images meet those of an autoencoder."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._pytree import tree_map

from .protocol import Autoencoder, latent_of

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


def _outside_inference(autoencoder: nn.Module) -> nn.Module:
    """``autoencoder`` with copies of the tensors that inference mode made, which autograd refuses, put in place."""
    for module in autoencoder.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in cast(dict[str, Any], held).items():
                if tensor is not None and tensor.is_inference():
                    held[name] = nn.Parameter(tensor.clone()) if isinstance(tensor, nn.Parameter) else tensor.clone()
    return autoencoder


class Codec(nn.Module):
    """A frozen autoencoder that takes and gives images in the caller's own space.

    Args:
        autoencoder: frozen here, for good, and in eval mode.
        mean, std: per channel, what the caller's images are normalised by; None for images in [0, 1].
    """

    _scale: Tensor
    _shift: Tensor
    _ours: Tensor

    @torch.inference_mode(False)
    def __init__(self, autoencoder: Autoencoder, mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
        super().__init__()
        if not (isinstance(autoencoder, nn.Module) and isinstance(autoencoder, Autoencoder)):
            raise TypeError(
                f"autoencoder is a {type(autoencoder).__name__}; it must be an nn.Module with encode, decode, "
                "mean, std and latent_scale. For weights by name use IDAATransform.from_pretrained"
            )
        self.autoencoder = _outside_inference(autoencoder).requires_grad_(False).eval()
        self._mean: Network = _mean
        self._posterior: Network = _posterior
        self._image: Network = _image
        channels = len(autoencoder.mean) or len(mean or ())  # an autoencoder without any takes what there is
        if mean and len(mean) != channels:
            raise ValueError(f"mean={mean} and std={std} must have one number for each of the {channels} channels")
        # x * scale + shift is what the autoencoder takes. Buffers, because making them at each call would wait for the
        # device; not persistent, because they follow from the arguments. They live where the weights are, whatever the
        # default device is.
        numbers = partial(torch.tensor, dtype=torch.float64, device="cpu")
        ours = numbers([mean or [0.0] * channels, std or [1.0] * channels])
        theirs = numbers([[0.0] * channels, [1.0] * channels])
        if len(autoencoder.mean):
            theirs = numbers([list(autoencoder.mean), list(autoencoder.std)])
        self._same, self._normalised = torch.equal(ours, theirs), mean is not None
        weights = next(self.autoencoder.parameters(), ours)
        ours, theirs = ours.to(weights.device), theirs.to(weights.device)
        self.register_buffer("_scale", (ours[1] / theirs[1]).float().view(-1, 1, 1), persistent=False)
        self.register_buffer("_shift", ((ours[0] - theirs[0]) / theirs[1]).float().view(-1, 1, 1), persistent=False)
        self.register_buffer("_ours", ours.float().view(2, -1, 1, 1), persistent=False)

    def from_unit(self, values: tuple[float, float]) -> tuple[float | Tensor, float | Tensor]:
        """``values`` of images in [0, 1], in the caller's space: numbers, or tensors (C, 1, 1)."""
        if not self._normalised:
            return values
        low, high = ((value - self._ours[0]) / self._ours[1] for value in values)
        return low, high

    def compile(self, **options: Any) -> None:
        """Compile ``encode`` and ``decode`` of the autoencoder, each as one graph for batches of any size.

        A copy of this module, or one that is loaded from a pickle, is not compiled.

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
        return super().__getstate__() | {"_mean": _mean, "_posterior": _posterior, "_image": _image}

    @property
    def dtype(self) -> torch.dtype | None:
        """What the autoencoder computes in, whatever the caller's autocast says; None if it has no weights."""
        return next((p.dtype for p in self.autoencoder.parameters() if p.is_floating_point()), None)

    def encode(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to the latent (B, ...); clips (B, T, C, H, W), frame by frame, to (B, T, ...)."""
        return self._encode(x, self._mean).unflatten(0, x.shape[:-3])

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the posterior, each in the shape of the latent."""
        encoded = self._encode(x, self._posterior)
        if not hasattr(encoded, "log_variance"):
            raise ValueError(
                f"scale='posterior' needs an autoencoder whose encode gives a posterior with mean and log_variance; "
                f"that of {type(self.autoencoder).__name__} gives a {type(encoded).__name__}: use scale='latent'"
            )
        mean, sd = encoded.mean, torch.exp(0.5 * encoded.log_variance)
        return mean.unflatten(0, x.shape[:-3]), sd.unflatten(0, x.shape[:-3])

    def _encode(self, x: Tensor, network: Network) -> Any:
        if self.autoencoder.training:  # it is somebody else's module as well, and that went into train mode
            self.autoencoder.eval()
        with torch.autocast(x.device.type, enabled=False):
            if not self._same:
                x = torch.addcmul(self._shift, x.to(torch.promote_types(x.dtype, torch.float32)), self._scale)
            x = x.to(self.dtype or x.dtype).flatten(0, -4)
            height, width = (-n % getattr(self.autoencoder, "factor", 1) for n in x.shape[-2:])
            x = functional.pad(x, (0, width, 0, height), mode="replicate") if height or width else x
            return network(self.autoencoder, x)

    def decode(self, z: Tensor, shape: Sequence[int]) -> Tensor:
        """Latents to images, or clips, whose ``shape`` ends like this one, in float32 at least."""
        with torch.autocast(z.device.type, enabled=False):
            frames = z.to(self.dtype or z.dtype).flatten(0, len(shape) - 4)
            image = self._image(self.autoencoder, frames).unflatten(0, z.shape[: len(shape) - 3])
            image = image.to(torch.promote_types(image.dtype, torch.float32))
            image = image[..., : shape[-2], : shape[-1]]
            return image if self._same else (image - self._shift) / self._scale
