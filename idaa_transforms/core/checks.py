"""What can be wrong with what comes in, said once and clearly: errors that quote it and name the cure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, cast

import torch
from torch import Tensor


def is_number(value: Any) -> bool:
    """Whether ``value`` is a real number of any kind, numpy's too, but no bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_radius(name: str, value: Any, optional: bool = False) -> float | None:
    """``value`` as a float: finite and >= 0, any real number but a bool; None where it is ``optional``."""
    if value is None and optional:
        return None
    if not is_number(value) or not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}={value!r} must be a finite number >= 0")
    return float(value)


def check_eps(eps: Any, batch: int, read_values: bool) -> float | Tensor:
    """The eps of one call: a number, or a tensor (B,) of one for each image."""
    if isinstance(eps, Tensor) and eps.ndim:
        if eps.shape != (batch,) or not eps.is_floating_point():
            raise ValueError(
                f"eps of shape {tuple(eps.shape)} and dtype {eps.dtype} must be a float or a float tensor of shape "
                f"({batch},), one for each image"
            )
        if read_values and not bool((eps.isfinite() & (eps >= 0)).all()):
            raise ValueError(f"eps must be finite and >= 0, but its values go from {eps.min():g} to {eps.max():g}")
        return eps
    value = check_radius("eps", eps.item() if isinstance(eps, Tensor) and eps.is_floating_point() else eps)
    return cast(float, value)


def check_images(x: Any, axes: int, device: torch.device) -> None:
    """The structure of a batch of images, or signals of one axis: type, dtype, dimensions, device. Reads no values."""
    shape = "(B, C, H, W)" if axes == 2 else "(B, C, L)"
    if not isinstance(x, Tensor):
        raise TypeError(f"got a {type(x).__name__}; pass a float tensor {shape}, e.g. by v2.ToImage and v2.ToDtype")
    if not x.is_floating_point():
        raise TypeError(f"images have dtype {x.dtype}; convert them first: v2.ToDtype(torch.float32, scale=True)")
    if x.ndim not in ((4, 5) if axes == 2 else (3,)):  # images, or the clips of tv_tensors.Video
        cure = "add the batch dimension: x[None]" if x.ndim == axes + 1 else "stack them into one batch"
        raise ValueError(f"images have shape {tuple(x.shape)}, not {shape}; {cure}")
    if 0 in x.shape[-1 - axes :]:
        raise ValueError(f"images have shape {tuple(x.shape)}, without a single value; look at what cut them")
    if x.device != device:
        raise ValueError(
            f"images are on {x.device} and the transform is on {device}; move it once: aug.to({str(x.device)!r})"
        )


def check_channels(x: Tensor, axes: int, channels: int | None, mean: Sequence[float] | None) -> None:
    """That the channels of ``x`` are those of the autoencoder or, where it takes any, as many as ``mean`` has."""
    found = x.shape[-1 - axes]
    if channels is not None and found != channels:
        grey = f"repeat a grey channel: x.expand(-1, {channels}, -1, -1), or " if found == 1 and axes == 2 else ""
        raise ValueError(
            f"{'images' if axes == 2 else 'signals'} have shape {tuple(x.shape)}, and the autoencoder takes {channels} "
            f"channels, not {found}; all weights of the package take images of 3. {grey}train an autoencoder of your "
            f"own: idaa train-vae DATA --out my-vae{'' if axes == 2 else ' --signals ncl'}"
        )
    if mean is not None and found != len(mean):
        raise ValueError(
            f"images have shape {tuple(x.shape)}, and a transform with mean={tuple(mean)} takes {len(mean)} channels, "
            f"not {found}; give mean and std a number for each channel"
        )


def check_size(x: Tensor, size: Sequence[int] | None) -> None:
    """That ``x`` has the size of the autoencoder, for those who want no resampling."""
    if size is not None and tuple(x.shape[-len(size) :]) != tuple(size):
        found, wanted = ("x".join(map(str, s)) for s in (x.shape[-len(size) :], size))
        raise ValueError(
            f"images are {found}, the autoencoder takes {wanted}, and resize=False was set; leave resize=True to "
            f"resample within, or bring them to that size"
        )


def check_range(x: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None, axes: int = 2) -> None:
    """The values of ``x``, declared to be in [0, 1] or normalised by ``mean`` and ``std``. Those of signals, which have
    units of their own, are finite. Synchronises."""
    if not bool(x.isfinite().all()):
        raise ValueError(f"images hold {int((~x.isfinite()).sum())} NaN or infinite values; look at what made them")
    if axes == 1:
        return
    x = x.detach()
    unit = x
    if mean is not None and std is not None:
        scale, shift = (x.new_tensor(values).view(-1, 1, 1) for values in (std, mean))
        unit = x * scale + shift
    low, high = float(unit.amin()), float(unit.amax())
    if low < -0.5 or high > 1.5:
        declared = "in [0, 1]" if mean is None else "normalised by the given mean and std"
        cure = (
            "divide by 255" if high > 10 else
            "pass the mean= and std= they are normalised by" if mean is None else
            "check mean and std, and that images are normalised once"
        )  # fmt: skip
        raise ValueError(
            f"images were declared to be {declared}, but their values go from {float(x.amin()):.3g} to "
            f"{float(x.amax()):.3g}; {cure}"
        )


def check_latent(latent: Tensor, name: str) -> None:
    """The values that the autoencoder gave. Synchronises."""
    bad = int((~latent.isfinite().flatten(1).all(1)).sum())
    if bad:
        raise ValueError(
            f"the latent of {name} is NaN or infinite for {bad} of {len(latent)} images; its weights are damaged, or "
            f"it overflows in {latent.dtype}: try aug.float()"
        )


def check_source(loss_fn: Any, grad: Any, x: Tensor) -> None:
    """What the direction comes from: one closure, or the gradient of a loss with respect to ``x``."""
    if loss_fn is not None and grad is not None:
        raise ValueError("both loss_fn and grad were given; each of them says where to go, so pass only one")
    if grad is None:
        if loss_fn is None:
            raise ValueError(
                "nothing to maximise: pass aug(x, loss_fn=...) or aug(x, grad=...) or, in a container, use "
                "aug.bind(loss_fn) or `with aug.bound(loss_fn):` in the same thread"
            )
        if not callable(loss_fn):
            raise TypeError(f"loss_fn is a {type(loss_fn).__name__}; pass the function itself: loss_fn(views) -> loss")
    elif not isinstance(grad, Tensor):
        raise TypeError(
            f"grad is a {type(grad).__name__}, not a tensor; pass x.grad or torch.autograd.grad(loss, x)[0]"
        )
    elif grad.shape != x.shape or not grad.is_floating_point() or grad.device != x.device:
        raise ValueError(
            f"grad ({tuple(grad.shape)}, {grad.dtype}, {grad.device}) must be a float tensor with the shape and "
            f"device of the images ({tuple(x.shape)}, {x.device}): the gradient of a loss with respect to them"
        )
