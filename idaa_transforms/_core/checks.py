"""Validation of inputs and of what closures return. Every error quotes what it got and says what to do."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor


class ClosureError(ValueError):
    """A loss closure (or gradient) that cannot give a direction."""


class ZeroGradientWarning(UserWarning):
    """The loss has no usable gradient at some of the views, so that these are no harder than the images."""


NO_PATH = (
    "the loss does not depend on the views through differentiable operations; use the tensor that loss_fn is given, "
    "and look for no_grad, detach(), .data, argmax or a rounding augmentation between it and the loss"
)
INFERENCE = (
    "the closure uses tensors made in inference mode, which autograd cannot save; copy what it captures with .clone() "
    "outside of inference mode, or validate without it: lightning's Trainer(inference_mode=False)"
)
FABRIC = (
    "the closure calls a model that Lightning's Fabric has wrapped, whose outputs only go back through "
    "fabric.backward; call the module inside it: `with fabric.autocast(): model.module(views)`"
)
ZERO_CURE = (
    "such views are no harder than the images. A loss that compares a view with the same image is at its extreme "
    "there: anchor it on another view of the image, include negatives, or use random_start=True"
)


def reads_values(device: torch.device, calls: int) -> bool:
    """Whether a call checks values (range, NaN, a gradient of zero) and not only structure. This is the one rule.

    On the CPU every call does. On another device reading a value makes the host wait, so only the first call of a
    transform does. With ``python -O`` none does.
    """
    return __debug__ and (device.type == "cpu" or calls == 0)


def is_number(value: Any) -> bool:
    """Whether ``value`` is a real number, also one of numpy's, and no bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_radius(name: str, value: Any) -> float:
    """``value`` as a finite float of at least 0."""
    if not is_number(value) or not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name}={value!r} must be a finite number >= 0")
    return float(value)


def check_eps(eps: Any, batch: int, read_values: bool) -> float | Tensor:
    """The eps of one call: a number, or a tensor (B,) with one for each image."""
    if isinstance(eps, Tensor) and eps.ndim:
        if eps.shape != (batch,) or not eps.is_floating_point():
            raise ValueError(
                f"eps of shape {tuple(eps.shape)} and dtype {eps.dtype} must be a float or a float tensor of shape "
                f"({batch},), one for each image"
            )
        if read_values and not bool((eps.isfinite() & (eps >= 0)).all()):
            raise ValueError(f"eps must be finite and >= 0, but its values go from {eps.min():g} to {eps.max():g}")
        return eps
    return check_radius("eps", eps.item() if isinstance(eps, Tensor) and eps.is_floating_point() else eps)


def check_images(x: Any, axes: int, device: torch.device, channels: int | None, mean: Sequence[float] | None) -> None:
    """The structure of a batch of images, or signals of one axis: type, dtype, dimensions, device, channels."""
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
    found = x.shape[-1 - axes]
    wanted = channels if channels is not None else len(mean) if mean is not None else found
    if found == wanted:
        return
    if axes == 2 and x.shape[-1] == wanted:
        cure = "the channels come last: x.permute(0, 3, 1, 2)"
    elif axes == 2 and found == 1:
        cure = f"repeat the grey channel: x.expand(-1, {wanted}, -1, -1)"
    elif channels is None:
        cure = "give mean and std one number for each channel"
    else:
        data = " --signals ncl" if axes == 1 else ""
        cure = f"all weights of the package take images of 3; train your own: idaa train-vae DATA --out my-vae{data}"
    by = f"mean={tuple(mean)}" if channels is None and mean is not None else "the autoencoder"
    kind = "images" if axes == 2 else "signals"
    raise ValueError(f"{kind} have shape {tuple(x.shape)}, and {by} takes {wanted} channels, not {found}; {cure}")


def check_range(x: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None, axes: int = 2) -> None:
    """The values of ``x``, declared to be in [0, 1] or normalised by ``mean`` and ``std``. Signals have units of their
    own and only have to be finite. Reads values."""
    low, high = (float(value) for value in x.detach().aminmax())
    if not math.isfinite(low + high):
        raise ValueError(f"images hold {int((~x.isfinite()).sum())} NaN or infinite values; look at what made them")
    if axes == 1:
        return
    found = f"their values go from {low:.3g} to {high:.3g}"
    if mean is None or std is None:
        if low < -0.5 or high > 1.5:
            cure = "divide by 255" if high > 10 else "pass the mean= and std= they are normalised by"
            raise ValueError(f"images were declared to be in [0, 1], but {found}; {cure}")
        return
    others = tuple(axis for axis in range(x.ndim) if axis != x.ndim - 1 - axes)
    lows, highs = x.detach().amin(others).tolist(), x.detach().amax(others).tolist()
    low = min(value * s + m for value, m, s in zip(lows, mean, std, strict=True))
    high = max(value * s + m for value, m, s in zip(highs, mean, std, strict=True))
    declared = f"images were declared to be normalised by the given mean and std, but {found}"
    if high > 10:
        raise ValueError(f"{declared}; divide by 255, then normalise")
    if low < -0.5 or high > 1.5:
        warnings.warn(f"{declared}; check mean and std, and that images are normalised once", stacklevel=4)


def check_latent(latent: Tensor, name: str) -> None:
    """The values that the autoencoder gave. Reads values."""
    if not math.isfinite(float(latent.abs().amax())):
        bad = int((~latent.isfinite().flatten(1).all(1)).sum())
        raise ValueError(
            f"the latent of {name} is NaN or infinite for {bad} of {len(latent)} images; its weights are damaged, or "
            f"it overflows in {latent.dtype}: try aug.float()"
        )


def check_source(loss_fn: Any, grad: Any, x: Tensor) -> None:
    """What the direction comes from: one closure, or the gradient of a loss with respect to ``x``."""
    if loss_fn is not None and grad is not None:
        raise ValueError("both loss_fn and grad were given; each of them gives the direction, so pass only one")
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


def check_loss(loss: object, batch: int) -> Tensor:
    """The structure of what a closure returned for ``batch`` views: (), (1,) or (B,), float, with a graph."""
    if not isinstance(loss, Tensor):
        raise ClosureError(
            f"loss_fn returned {'None' if loss is None else f'a {type(loss).__name__}'}, not a tensor; "
            "it must return the loss of the views: a scalar, or one value for each image"
        )
    if loss.shape not in ((), (1,), (batch,)):
        raise ClosureError(
            f"loss_fn returned shape {tuple(loss.shape)} for a batch of {batch}; return () or ({batch},), "
            f"e.g. {'loss.flatten(1).sum(1)' if len(loss) == batch else 'loss.sum()'}"
        )
    if not loss.is_floating_point():
        raise ClosureError(f"loss_fn returned dtype {loss.dtype}, which has no gradient; return a float loss")
    if not loss.requires_grad:
        raise ClosureError(NO_PATH)
    return loss


def check_gradient(gradient: Tensor, loss: Tensor | None) -> None:
    """The values of the first gradient and loss: an error where the loss or every image's gradient is not finite, a
    warning where that of some image is not, or is zero. Reads values.

    A loss at its maximum over the views, such as the cosine of a view with the embedding of the very same image, has
    not quite a gradient of zero but one of rounding errors, whose sign is noise: that is warned of too.
    """
    if loss is not None and not bool(loss.isfinite().all()):
        bad = int((~loss.isfinite()).sum())
        found = f"{loss.item()}" if loss.numel() == 1 else f"NaN or infinite values for {bad} images"
        raise ClosureError(f"loss_fn returned {found}; look for log(0), 0/0 or an overflow in half precision")
    largest = gradient.flatten(1).abs().amax(1)
    finite = largest.isfinite()
    if not bool(finite.all()):
        cure = "look for sqrt(0), a norm of zero, or an overflow in half precision"
        if not bool(finite.any()):
            raise ClosureError(f"the gradient is NaN or infinite in all of {len(gradient)} images; {cure}")
        message = "the gradient is NaN or infinite in some images, which come back as they are"
        warnings.warn(f"{message}; {cure}", ZeroGradientWarning, stacklevel=4)
        return
    zero = int((largest == 0).sum())
    if loss is None:
        all_zero = zero == len(gradient)
    else:
        length = float(torch.linalg.vector_norm(gradient.float() / largest.max().clamp_min(1e-30).float()))
        noise = 1e-4 * float(loss.float().sum().abs())
        all_zero = zero == len(gradient) or length * float(largest.max()) * gradient.numel() ** 0.5 < noise
    if all_zero:
        problem = "the gradient of the loss at the views is zero, or nothing but rounding errors"
    elif zero:
        problem = "the gradient of the loss at the views is zero for some images"
    else:
        return
    warnings.warn(f"{problem}; {ZERO_CURE}", ZeroGradientWarning, stacklevel=4)
