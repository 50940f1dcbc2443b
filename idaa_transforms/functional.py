"""Identity-disentangled adversarial augmentation itself: encode, ascend, recompose.

Yang, Zhou, Tian, Tao: "Identity-Disentangled Adversarial Augmentation for Self-Supervised Learning", ICML 2022.

A VAE with a narrow bottleneck splits x into a reconstruction G = D(E(x)) and a residual R = x - G. What identifies
the sample is in R, which no step below touches. A small step delta in the latent changes G so that the loss rises:
the view x' = R + D(E(x) + delta) is hard, and still the same sample.

The view is computed as x + (D(E(x) + delta) - D(E(x))), which is the same with fewer passes over x. Where D gives
smaller images than x and a linear map U enlarges them, it is x + U(D(E(x) + delta) - D(E(x))): U runs once.

Only tensors and callables go in. x may be images, signals or anything else with the batch first; so may the latent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ._core.ascent import Ball, Norm
from ._core.checks import FABRIC, INFERENCE, NO_PATH, ClosureError, check_loss
from .preserve import find_modules

Loss = Callable[[Tensor], Tensor]
Network = Callable[[Tensor], Any]
Linear = Callable[[Tensor], Tensor]
Clip = tuple[float | Tensor, float | Tensor] | None


class Split(NamedTuple):
    """x, split by an autoencoder into what its bottleneck carries and the rest; and the view at any delta."""

    x: Tensor
    decode: Network
    lift: Linear  # from what D gives to the size of x
    latent: Tensor  # z = E(x)
    unit: Tensor  # of delta, like the latent or a scalar
    decoded: Tensor  # D(z)
    clip: Clip

    @property
    def reconstruction(self) -> Tensor:
        """G, in the size of x."""
        return self.lift(self.decoded)

    @property
    def residual(self) -> Tensor:
        """R = x - G, in float32 at least."""
        return self.x.to(torch.promote_types(self.x.dtype, torch.float32)) - self.reconstruction

    def view(self, delta: Tensor) -> Tensor:
        """x' = R + U(D(z + unit * delta))."""
        return self.compose(self.decode(self.latent + self.unit * delta))

    def compose(self, image: Tensor) -> Tensor:
        """The view that ``image``, which D gave, makes: x + U(image - D(z)), clamped where a range is given."""
        dtype = torch.promote_types(self.x.dtype, torch.promote_types(image.dtype, torch.float32))
        view = self.lift(image.to(dtype) - self.decoded).add_(self.x)  # in place: new memory for large x is slow
        if self.clip is not None:
            view.clamp_(*self.clip)  # type: ignore[arg-type]
        return view.to(self.x.dtype)

    def rows(self, rows: Tensor) -> Split:
        """The same for some of the rows."""
        unit = self.unit[rows] if self.unit.ndim else self.unit
        return self._replace(x=self.x[rows], latent=self.latent[rows], unit=unit, decoded=self.decoded[rows])


@dataclass(frozen=True)
class Views:
    """Views and how they were made. Tensors are detached and have the batch first.

    Beside its fields it has ``latent`` z = E(x), ``reconstruction`` G and ``residual`` R = x - G, at the size of x.
    """

    views: Tensor  # x' = R + U(D(z + unit * delta)), like x
    delta: Tensor  # the step in the latent, ||delta||_p <= eps
    split: Split
    gradient: Tensor  # of the loss, with respect to the first view that it saw
    loss: Tensor | None  # of that view, as the closure returned it; None where a gradient was given
    finite: Tensor  # (B,), False where no finite direction was found, and the row of views is x

    @property
    def latent(self) -> Tensor:
        """z = E(x)."""
        return self.split.latent

    @property
    def reconstruction(self) -> Tensor:
        """G(x) = D(E(x)), at the size of x."""
        return self.split.reconstruction

    @property
    def residual(self) -> Tensor:
        """R(x) = x - G(x)."""
        return self.split.residual


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
    random_start: bool = False,
    clip: Clip = None,
    target_gain: float | None = None,
    generator: torch.Generator | None = None,
    chunk_size: int | None = None,
    lift: tuple[Linear, Linear] | None = None,
    place: Linear | None = None,
) -> Views:
    """Views of ``x`` (B, ...) that raise a loss and keep what the autoencoder cannot encode.

    Costs ``encode`` once, ``decode`` ``steps + 1`` times and ``steps`` passes back through it to the latent (a random
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
        random_start: start at a random point of the ball instead of at zero, as the paper does.
        clip: range to clamp views to: numbers, or tensors that broadcast to x. The gradient passes as if it were not
            there.
        target_gain: raise the loss of a row by about this much instead of by all that eps allows: from the first
            gradient, to first order, follows the radius that does. Needs a zero start.
        generator: of the random start.
        chunk_size: how many rows ``encode`` and ``decode`` see at once; bounds their memory, for one more ``decode``
            a step.
        lift: where ``decode`` gives images of another size than x: the linear map U from these to the size of x, and
            its adjoint.
        place: where x is a part of a batch: puts views of x in their places, and ``loss_fn`` sees the whole batch.

    Raises:
        TypeError: unless one of loss_fn and grad is given.
        ValueError: for steps below 1, or a target_gain from a random start.
        ClosureError: for a loss that is no tensor of shape () or (B,), or does not depend on the views.
    """
    if (loss_fn is None) == (grad is None):
        raise TypeError("idaa takes one of loss_fn and grad")
    if steps < 1:
        raise ValueError(f"steps={steps!r} must be a whole number of at least 1")
    if target_gain is not None and random_start:
        raise ValueError("target_gain counts from the image itself, where a random_start does not begin; use one")
    x = outside_inference(x)
    encode, decode = in_chunks(encode, chunk_size), in_chunks(decode, chunk_size)
    up, back = lift or (_same, _same)
    ball = Ball(eps, norm)

    encoded = encode(x)
    latent, unit = encoded if isinstance(encoded, tuple) else (encoded, torch.ones((), device=x.device))
    latent = latent.to(torch.promote_types(latent.dtype, torch.float32))
    delta = ball.draw(latent, generator) if random_start else torch.zeros_like(latent)
    finite = torch.ones(len(x), dtype=torch.bool, device=x.device)
    gradient, first, first_loss = grad, grad, None
    for step in range(steps):
        with torch.enable_grad():
            image = decode(latent + unit * delta.requires_grad_())
        if step == 0:
            decoded = decode(latent) if random_start else image.detach()
            split = Split(x, decode, up, latent, unit, decoded, clip)
        if loss_fn is not None:  # at x itself, where the first step starts from zero
            here = split.compose(image.detach()) if step or random_start else clamped(x, clip).to(x.dtype)
            gradient, loss = input_gradient(loss_fn, here, place)
            first, first_loss = (gradient, loss) if step == 0 else (first, first_loss)
        (direction,) = torch.autograd.grad(image, delta, back(gradient).to(image))  # type: ignore[arg-type]
        finite &= direction.isfinite().flatten(1).all(1)
        direction = _where(finite, direction, torch.zeros_like(direction))
        if step == 0 and target_gain is not None:
            ball = ball.shrunk(direction, target_gain)
        delta = ball.step(delta.detach(), direction, min(1, 2.5 / steps) * ball.eps if step_size is None else step_size)
    views = _where(finite, split.view(delta), x)
    return Views(views, delta, split, first, first_loss, finite)  # type: ignore[arg-type]


def input_gradient(loss_fn: Loss, view: Tensor, place: Linear | None = None) -> tuple[Tensor, Tensor]:
    """The gradient of ``loss_fn(view)`` with respect to ``view``, and the loss. No parameter gets a gradient."""
    gradient: Tensor | None
    with torch.enable_grad():
        leaf = view.detach().requires_grad_()

        def forward() -> Tensor:
            seen = leaf.clone() if place is None else place(leaf)  # a copy and no leaf: it may be written to
            return check_loss(loss_fn(seen), len(seen))

        try:
            loss = forward()
            (gradient,) = torch.autograd.grad(loss.sum(), leaf, allow_unused=True)
        except RuntimeError as error:
            if "inference tensor" in str(error).lower():
                raise ClosureError(INFERENCE) from error
            if "fabric.backward" in str(error):
                raise ClosureError(FABRIC) from error
            if "checkpoint" not in str(error).lower():
                raise
            with _no_parameter_wants_a_gradient(loss_fn):  # reentrant checkpoints know no way back but .backward()
                loss = forward()
                loss.sum().backward()
            gradient = leaf.grad
    if gradient is None:
        raise ClosureError(NO_PATH)
    return gradient, loss.detach()


@contextmanager
def _no_parameter_wants_a_gradient(loss_fn: Loss) -> Iterator[None]:
    """So that an optimiser that steps in the backward pass does not."""
    modules, captured = find_modules(loss_fn)
    candidates = [p for module in modules for p in module._parameters.values()] + list(captured.values())
    wanted = [p for p in candidates if p is not None and p.requires_grad and p.is_leaf]
    try:
        for p in wanted:
            p.requires_grad_(False)
        yield
    finally:
        for p in wanted:
            p.requires_grad_(True)


def clamped(view: Tensor, clip: Clip) -> Tensor:
    """``view`` within the range, or as it is where there is none."""
    return view if clip is None else view.clamp(*clip)  # type: ignore[arg-type]


def outside_inference(x: Tensor) -> Tensor:
    """``x`` as a tensor that autograd may use, cut off from any graph."""
    return x.clone() if x.is_inference() else x.detach()


def _same(x: Tensor) -> Tensor:
    return x


def _where(rows: Tensor, new: Tensor, old: Tensor) -> Tensor:
    if rows.device.type == "cpu" and bool(rows.all()):  # nobody waits for a value on the CPU, and this saves a pass
        return new
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
