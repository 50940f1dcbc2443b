"""What can be wrong with what comes in, said once and clearly: errors that quote it and name the cure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class ClosureError(ValueError):
    """A loss closure (or gradient) that cannot give a direction."""


class ZeroGradientWarning(UserWarning):
    """The loss has no slope at the views, so the views are no harder than the images."""


def check_parameters(owner: Any) -> None:
    """The parameters that both transforms share, as attributes of ``owner``."""
    check_eps("eps", owner.eps, None)
    choices = {"norm": ("linf", "l2"), "start": ("zero", "uniform"), "scale": ("latent", "posterior")}
    for name, allowed in choices.items():
        if getattr(owner, name) not in allowed:
            raise ValueError(f"{name}={getattr(owner, name)!r} is not one of {allowed}")
    for name in ("steps", "chunk_size"):
        value = getattr(owner, name)
        if not (value is None and name == "chunk_size") and (type(value) is not int or value < 1):
            raise ValueError(f"{name}={value!r} must be a whole number of at least 1")
    if owner.step_size is not None:
        check_eps("step_size", owner.step_size, None)
    if owner.target_gain is not None:
        check_eps("target_gain", owner.target_gain, None)
        if owner.start != "zero":
            raise ValueError(
                f"target_gain counts from the image itself, and start={owner.start!r} does not begin there"
            )
    if not 0 <= owner.p <= 1:
        raise ValueError(f"p={owner.p!r} is a probability; it must lie in [0, 1]")
    if owner.clip is not None and not (len(owner.clip) == 2 and owner.clip[0] < owner.clip[1]):
        raise ValueError(f"clip={owner.clip!r} must be None or (lo, hi) with lo < hi")
    if (owner.mean is None) != (owner.std is None):
        raise ValueError(
            f"mean={owner.mean} and std={owner.std} describe normalised images together; give both or neither"
        )
    if owner.std is not None and (len(owner.mean) != len(owner.std) or min(owner.std) <= 0):
        raise ValueError(f"mean={owner.mean} and std={owner.std} need one number a channel each, std above 0")


def check_guard(guard: Any, min_similarity: Any, halvings: Any) -> None:
    """A judge and its threshold, which go together, and how often delta is halved."""
    if (guard is None) != (min_similarity is None):
        raise ValueError(f"guard={guard!r} and min_similarity={min_similarity!r} belong together; give both or neither")
    if guard is not None and not callable(guard):
        raise TypeError(f"guard is a {type(guard).__name__}; it must be a callable: images to features (B, D)")
    if min_similarity is not None and not -1 <= min_similarity <= 1:
        raise ValueError(f"min_similarity={min_similarity!r} is a cosine; it must lie in [-1, 1]")
    if type(halvings) is not int or halvings < 0:
        raise ValueError(f"halvings={halvings!r} must be a whole number of at least 0")


def check_eps(name: str, eps: Any, batch: int | None, read_values: bool = True) -> None:
    """A radius or step size: a number >= 0, or where ``batch`` is known a tensor of one such number for each row."""
    if isinstance(eps, Tensor):
        if batch is None or eps.shape != (batch,) or not eps.is_floating_point():
            rows = "a float" if batch is None else f"a float or a float tensor of shape ({batch},), one for each image"
            raise ValueError(f"{name} of shape {tuple(eps.shape)} and dtype {eps.dtype} must be {rows}")
        if read_values and not bool((eps.isfinite() & (eps >= 0)).all()):
            raise ValueError(f"{name} must be finite and >= 0, but its values go from {eps.min():g} to {eps.max():g}")
    elif isinstance(eps, bool) or not isinstance(eps, int | float) or not (math.isfinite(eps) and eps >= 0):
        raise ValueError(f"{name}={eps!r} must be a finite number >= 0")


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


def check_loss(loss: Any, views: Tensor) -> None:
    """The structure of what a closure returned for ``views``, always checked."""
    if not isinstance(loss, Tensor):
        raise ClosureError(
            f"loss_fn returned {'None' if loss is None else f'a {type(loss).__name__}'}, not a tensor; "
            "it must return the loss of the views: a scalar, or one value for each image"
        )
    if loss.shape not in ((), (len(views),)):
        raise ClosureError(
            f"loss_fn returned shape {tuple(loss.shape)} for a batch of {len(views)}; "
            f"return () or ({len(views)},), e.g. loss.flatten(1).sum(1)"
        )
    if not loss.is_floating_point():
        raise ClosureError(f"loss_fn returned dtype {loss.dtype}, which has no gradient; return a float loss")
    if not loss.requires_grad:
        raise ClosureError(NO_PATH)


NO_PATH = (
    "the loss does not depend on the views through differentiable operations; use the tensor that loss_fn is given, "
    "and look for no_grad, detach(), .data, argmax or a rounding augmentation between it and the loss"
)


def check_gradient(gradient: Tensor, loss: Tensor | None) -> str | None:
    """Read the values of the first gradient: raise where it is not finite, tell where it is zero. Synchronises.

    A loss at its maximum over the views, such as the cosine of a view with the embedding of the very same image, has
    not quite a gradient of zero but one of rounding errors, whose sign is noise: that is told too.
    """
    if loss is not None and not bool(loss.isfinite().all()):
        raise ClosureError(f"loss_fn returned {_brief(loss)}; look for log(0), 0/0 or an overflow in half precision")
    bad = int((~gradient.isfinite().flatten(1).all(1)).sum())
    if bad:
        raise ClosureError(
            f"the gradient is NaN or infinite in {bad} of {len(gradient)} images; look for sqrt(0), a norm of zero, or "
            "an overflow in half precision"
        )
    zero = int((gradient == 0).flatten(1).all(1).sum())
    noise = 1e-4 * float(loss.double().sum().abs()) if loss is not None else 0.0
    if zero == len(gradient) or float(gradient.double().norm()) * gradient.numel() ** 0.5 < noise:
        return "the gradient of the loss at the views is zero (or nothing but rounding errors)"
    return f"the gradient of the loss is zero in {zero} of {len(gradient)} images" if zero else None


ZERO_CURE = (
    "such views are no harder than the images. A loss that compares a view with the same image is at its extreme "
    "there: anchor it on another view of the image, include negatives, or use start='uniform'"
)


def _brief(loss: Tensor) -> str:
    return f"{loss.item()}" if loss.ndim == 0 else f"NaN or infinite values for {int((~loss.isfinite()).sum())} images"
