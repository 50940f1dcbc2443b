"""Gradient ascent on delta inside an eps-ball."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Norm = Literal["linf", "l2"]


class Ball:
    """All delta with ``||delta||_p <= eps``, row by row of a batch.

    Args:
        eps: radius; a float, or a tensor of shape (B,) with one radius a row.
        norm: ``"linf"`` (largest absolute entry) or ``"l2"`` (Euclidean, over all entries of a row).
    """

    def __init__(self, eps: float | Tensor, norm: Norm = "linf") -> None:
        self.eps, self.norm = eps, norm

    def draw(self, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A point drawn uniformly from the ball, with the shape, dtype and device of ``like`` (B, ...)."""
        device = like.device if generator is None else generator.device
        drawn = torch.empty(like.shape, dtype=like.dtype, device=device)
        if self.norm == "linf":
            delta = drawn.uniform_(-1, 1, generator=generator).to(like.device)
        else:  # a uniform direction, and a length whose n-th power is uniform
            direction = drawn.normal_(generator=generator).to(like.device)
            length = torch.rand(len(like), dtype=like.dtype, device=device, generator=generator).to(like.device)
            delta = _unit(direction) * _per_row(length ** (1 / like[:1].numel()), like) if len(like) else direction
        return self.project(delta * _per_row(self.eps, like))

    def step(self, delta: Tensor, gradient: Tensor, size: float | Tensor) -> Tensor:
        """``delta`` moved by ``size`` (float or (B,), in the unit of eps) up the ``gradient``, then back into the ball.

        The steepest direction of the norm: the sign of the gradient for linf, the gradient over its length for l2.
        A row whose gradient is zero stays where it is.
        """
        direction = gradient.sign() if self.norm == "linf" else _unit(gradient)
        return self.project(delta + _per_row(size, delta) * direction)

    def shrunk(self, gradient: Tensor, gain: float) -> Ball:
        """The ball whose steepest step from zero raises the loss by ``gain`` to first order, and no larger than this.

        Along that step the loss rises by the dual norm of the gradient: its sum of absolute values for linf, its length
        for l2. A row whose gradient is zero keeps its eps.
        """
        rise = torch.linalg.vector_norm(gradient.flatten(1), ord=1 if self.norm == "linf" else 2, dim=1)
        radius = torch.where(rise > 0, gain / rise, torch.inf)
        eps = self.eps.to(radius) if isinstance(self.eps, Tensor) else torch.full_like(radius, self.eps)
        return Ball(torch.minimum(radius, eps), self.norm)

    def project(self, delta: Tensor) -> Tensor:
        """The nearest point of the ball, never outside it by rounding."""
        eps = _per_row(self.eps, delta)
        if self.norm == "linf":
            return delta.clamp(-eps, eps)  # type: ignore[arg-type]
        length = _length(delta)
        inside = delta * (eps / length * (1 - 32 * torch.finfo(delta.dtype).eps))
        # Where squares underflow (eps below 1e-15 or so in float32) that margin is too small: nothing moves then.
        inside = torch.where(_length(inside) > eps, 0, inside)
        return torch.where(length > eps, inside, delta)


def _per_row(value: float | Tensor, like: Tensor) -> float | Tensor:
    """A (B,) tensor in the shape that multiplies (B, ...); a float as it is."""
    return value.to(like).view(-1, *[1] * (like.ndim - 1)) if isinstance(value, Tensor) else value


def _length(rows: Tensor) -> Tensor:
    """The Euclidean length of each row, shape (B, 1, ...)."""
    return torch.linalg.vector_norm(rows, dim=tuple(range(1, rows.ndim)), keepdim=True)


def _unit(rows: Tensor) -> Tensor:
    """Each row over its length; zero stays zero. Scaled first, so that no square of a tiny gradient underflows."""
    largest = rows.abs().amax(tuple(range(1, rows.ndim)), keepdim=True)
    rows = rows / torch.where(largest > 0, largest, 1)
    return rows / _length(rows).clamp_min(torch.finfo(rows.dtype).tiny)
