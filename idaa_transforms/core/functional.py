"""Identity-disentangled adversarial augmentation itself: encode, ascend, recompose.

Yang, Zhou, Tian, Tao: "Identity-Disentangled Adversarial Augmentation for Self-Supervised Learning", ICML 2022.

A VAE with a narrow bottleneck splits x into a reconstruction G = D(E(x)) and a residual R = x - G. What identifies
the sample is in R, which no step below touches. A small step delta in the latent changes G so that the loss rises:
the view x' = R + D(E(x) + delta) is hard, and still the same sample.

Only tensors and callables go in. x may be images, signals or anything else with the batch first; so may the latent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from .ascent import Ball, Norm, Start
from .checks import NO_PATH, ClosureError, check_loss

Loss = Callable[[Tensor], Tensor]
Network = Callable[[Tensor], Any]


class Views(NamedTuple):
    """What :func:`idaa` found, detached and with the batch first."""

    views: Tensor  # x' = residual + D(latent + delta), like x
    reconstruction: Tensor  # G = D(latent)
    residual: Tensor  # R = x - G
    latent: Tensor  # z = E(x)
    delta: Tensor  # the step, ||delta||_p <= eps; in the latent it is unit * delta
    gradient: Tensor  # of the loss, with respect to the first view it saw
    finite: Tensor  # (B,), False where no finite direction was found and the row of views is x
    unit: Tensor  # of delta, like the latent or a scalar


@torch.inference_mode(False)
@torch.no_grad()
def idaa(
    x: Tensor,
    encode: Network,
    decode: Network,
    loss_fn: Loss | None = None,
    grad: Tensor | None = None,
    *,
    eps: float | Tensor,
    norm: Norm = "linf",
    steps: int = 1,
    step_size: float | Tensor | None = None,
    start: Start = "zero",
    clip: tuple[float, float] | None = None,
    target_gain: float | None = None,
    generator: torch.Generator | None = None,
    chunk_size: int | None = None,
) -> Views:
    """Views of ``x`` (B, ...) that raise a loss and keep what the autoencoder cannot encode.

    Costs ``encode`` once, ``decode`` ``steps + 1`` times and ``steps`` passes back through it to the latent (a uniform
    start adds one ``decode``), and per step the loss forward and back to its input. From a zero start the first view is
    x itself: where the gradient of the loss at x is known already, ``grad`` replaces every pass of the loss.

    Args:
        encode, decode: x to latent and back, each of any shape with the batch first. Rows must not mix. ``encode`` may
            give a pair, the latent and the unit of delta, of one shape: ``decode`` sees latent + unit * delta.
        loss_fn: ``loss_fn(views)`` of shape () or (B,), maximised; (B,) is summed.
        grad: instead of ``loss_fn``, the gradient of any loss with respect to x, in the shape of x. What is maximised
            then is <grad, view>, which in one step from zero is the same.
        eps: radius of delta in its unit, by default the latent's own numbers; a float or (B,).
        norm: ``"linf"`` or ``"l2"``: which norm of delta eps bounds.
        step_size: length of a step, a float or (B,). Default: ``min(1, 2.5 / steps) * eps`` (Madry et al., 2018).
        start: ``"zero"``, as in the paper, or ``"uniform"``, a random point of the ball.
        clip: range to clamp views to. The gradient passes as if it were not there.
        target_gain: raise the loss of a row by about this much instead of by all that eps allows: from the first
            gradient, to first order, follows the radius that does. Needs a zero start.
        generator: of the random start.
        chunk_size: how many rows ``encode`` and ``decode`` see at once; bounds their memory, for one more ``decode``
            a step.
    """
    if (loss_fn is None) == (grad is None):
        raise TypeError("idaa takes one of loss_fn and grad")
    x = outside_inference(x)
    encode, decode = in_chunks(encode, chunk_size), in_chunks(decode, chunk_size)
    ball = Ball(eps, norm)

    def view(image: Tensor) -> Tensor:
        return recompose(residual, image, clip, x.dtype)

    def slope(view: Tensor) -> Tensor:
        return grad if loss_fn is None else input_gradient(loss_fn, view)  # type: ignore[return-value]

    encoded = encode(x)
    latent, unit = encoded if isinstance(encoded, tuple) else (encoded, torch.ones((), device=x.device))
    latent = latent.to(torch.promote_types(latent.dtype, torch.float32))
    delta = ball.start(latent, start, generator)
    finite = torch.ones(len(x), dtype=torch.bool, device=x.device)
    for step in range(steps):
        with torch.enable_grad():
            image = decode(latent + unit * delta.requires_grad_())
        if step == 0:
            reconstruction = image.detach() if start == "zero" else decode(latent)
            residual = x.to(torch.promote_types(x.dtype, torch.float32)) - reconstruction
        gradient = slope(view(image.detach()))
        if step == 0:
            first = gradient
        (direction,) = torch.autograd.grad(image, delta, gradient.to(image))
        finite &= direction.isfinite().flatten(1).all(1)
        direction = _where(finite, direction, torch.zeros_like(direction))
        if step == 0 and target_gain is not None:
            ball = ball.shrunk(direction, target_gain)
        delta = ball.step(delta.detach(), direction, min(1, 2.5 / steps) * ball.eps if step_size is None else step_size)
    views = _where(finite, view(decode(latent + unit * delta)), x)
    return Views(views, reconstruction, residual, latent, delta, first, finite, unit)


def recompose(residual: Tensor, image: Tensor, clip: tuple[float, float] | None, dtype: torch.dtype) -> Tensor:
    """The view: residual + image, clamped where a range is given."""
    out = residual + image
    return (out if clip is None else out.clamp(*clip)).to(dtype)


def input_gradient(loss_fn: Loss, view: Tensor) -> Tensor:
    """The gradient of ``loss_fn(view)`` with respect to ``view``. No gradient of a parameter is computed."""
    with torch.enable_grad():
        view = view.detach().requires_grad_()
        loss = loss_fn(view)
        check_loss(loss, view)
        (gradient,) = torch.autograd.grad(loss.sum(), view, allow_unused=True)
    if gradient is None:
        raise ClosureError(NO_PATH)
    return gradient


def outside_inference(x: Tensor) -> Tensor:
    """``x`` as a tensor that autograd may use, cut off from any graph."""
    return x.clone() if x.is_inference() else x.detach()


def _where(rows: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(rows.view(-1, *[1] * (new.ndim - 1)), new, old)


def in_chunks(network: Network, size: int | None) -> Network:
    """``network`` on ``size`` rows at a time. Where gradients are on, the activations of a chunk are not stored but
    made again on the way back, so that no more than one chunk's are ever alive."""
    if size is None:
        return network

    def chunked(x: Tensor) -> Any:
        run = lambda part: checkpoint(network, part, use_reentrant=False, preserve_rng_state=False)  # noqa: E731
        parts = [run(part) for part in x.split(size)]
        return tuple(map(torch.cat, zip(*parts, strict=True))) if isinstance(parts[0], tuple) else torch.cat(parts)

    return chunked
