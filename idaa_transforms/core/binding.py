"""How a closure reaches a transform that a container calls with images alone."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import nn

from .functional import Loss

_bound: ContextVar[Mapping[int, Loss]] = ContextVar("idaa_transforms.bound", default=types.MappingProxyType({}))


class Bindable:
    """Two ways to hand a closure to a transform that a container calls with images alone."""

    @contextmanager
    def bound(self, loss_fn: Loss) -> Iterator[None]:
        """``with aug.bound(nce): pipeline(x)``. Within the block, and in this thread, calls use ``loss_fn``.

        Blocks nest: the innermost counts. A ``loss_fn=`` or ``grad=`` of the call itself goes first.
        """
        token = _bound.set({**_bound.get(), id(self): loss_fn})
        try:
            yield
        finally:
            _bound.reset(token)

    def bind(self, loss_fn: Loss) -> Bound:
        """``nn.Sequential(flip, aug.bind(nce), crop)``: a module that calls this transform with ``loss_fn``."""
        return Bound(self, loss_fn)

    def _given_or_bound(self, loss_fn: Any, grad: Any) -> Any:
        """The closure of a call: its own, or where it has neither that nor a gradient, the one bound."""
        return self._bound_loss() if loss_fn is None and grad is None else loss_fn

    def _bound_loss(self) -> Loss | None:
        return _bound.get().get(id(self))


class Bound(nn.Module):
    """A transform with its closure, as one module. See :meth:`Bindable.bind`."""

    def __init__(self, transform: Any, loss_fn: Loss) -> None:
        super().__init__()
        self.transform = transform
        self._loss_fn = (loss_fn,)  # in a tuple, so that a module is not registered: it belongs to the caller

    def bind(self, loss_fn: Loss) -> Bound:
        """Refused: one closure a transform."""
        raise TypeError(f"{self!r} has its closure; bind another to the transform itself: .transform.bind(...)")

    bound = bind

    def forward(self, *inputs: Any) -> Any:
        """What the transform returns for ``inputs`` with its closure."""
        if self.transform._bound_loss() is not None:
            raise ValueError(f"{self!r} is bound twice, by bind() and by a `with bound(...)` block; use one of them")
        return self.transform(*inputs, loss_fn=self._loss_fn[0])

    def __repr__(self) -> str:
        loss = self._loss_fn[0]
        return f"{self.transform!r}.bind({getattr(loss, '__name__', type(loss).__name__)})"
