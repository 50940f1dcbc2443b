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


def check_images(x: Any, channels: int | None, size: tuple[int, int] | None, device: torch.device) -> None:
    """The structure of a batch of images: type, dtype, dimensions, device. Reads no values."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"got a {type(x).__name__}; pass a float tensor (B, C, H, W), e.g. by v2.ToImage and v2.ToDtype"
        )
    if not x.is_floating_point():
        raise TypeError(f"images have dtype {x.dtype}; convert them first: v2.ToDtype(torch.float32, scale=True)")
    if x.ndim not in (4, 5):  # images, or the clips of tv_tensors.Video
        cure = "add the batch dimension: x[None]" if x.ndim == 3 else "stack images into one batch"
        raise ValueError(f"images have shape {tuple(x.shape)}, not (B, C, H, W); {cure}")
    *_, c, height, width = x.shape
    if channels is not None and c != channels:
        raise ValueError(f"images have shape {tuple(x.shape)}, and the autoencoder takes {channels} channels, not {c}")
    if size is not None and (height, width) != tuple(size):
        raise ValueError(
            f"images are {height}x{width}, and the autoencoder takes {size[0]}x{size[1]}; resize them "
            f"(v2.Resize({tuple(size)})) or train an autoencoder of that size. Patches (kornia's PatchSequential) "
            "cannot be attacked: put that step before or after"
        )
    if x.device != device:
        raise ValueError(
            f"images are on {x.device} and the transform is on {device}; move it once: aug.to({str(x.device)!r})"
        )


def check_range(x: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
    """The values of ``x``, declared to be in [0, 1] or normalised by ``mean`` and ``std``. Synchronises."""
    if not bool(x.isfinite().all()):
        raise ValueError(f"images hold {int((~x.isfinite()).sum())} NaN or infinite values; look at what made them")
    x = x.detach()
    unit = x
    if mean is not None and std is not None:
        unit = x * x.new_tensor(std).view(-1, 1, 1) + x.new_tensor(mean).view(-1, 1, 1)
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
