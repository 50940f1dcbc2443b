"""How a closure reaches a transform that a container calls with images alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import nn

from .functional import Loss

Binding = tuple[object, Any]  # a transform, and its closure or a list of them
_bindings: ContextVar[tuple[Binding, ...]] = ContextVar("idaa_transforms.bindings", default=())


class Bindable:
    """Two ways to hand a closure to a transform that a container calls with images alone."""

    @contextmanager
    def bound(self, loss_fn: Loss) -> Iterator[None]:
        """``with aug.bound(nce): pipeline(x)``. Within the block, and in this thread, calls use ``loss_fn``.

        Blocks nest: the innermost counts. A ``loss_fn=`` or ``grad=`` of the call itself goes first.
        """
        mine = (self, loss_fn)
        _bindings.set((*_bindings.get(), mine))
        try:
            yield
        finally:  # this one alone: blocks in generators need not end in the order in which they began
            _bindings.set(tuple(each for each in _bindings.get() if each is not mine))

    def bind(self, loss_fn: Loss) -> Any:
        """``nn.Sequential(flip, aug.bind(nce), crop)``: a module that calls this transform with ``loss_fn``."""
        return WithClosure(self, loss_fn)

    def closure(self, loss_fn: Any, grad: Any) -> Any:
        """The closure of a call: its own, or where it has neither that nor a gradient, the one bound."""
        return self._bound_loss() if loss_fn is None and grad is None else loss_fn

    def _bound_loss(self) -> Loss | None:
        return next((loss_fn for owner, loss_fn in reversed(_bindings.get()) if owner is self), None)


class WithClosure(nn.Module):
    """A transform with its closure, as one module. See :meth:`Bindable.bind`."""

    def __init__(self, transform: Any, loss_fn: Loss) -> None:
        super().__init__()
        self.transform = transform
        self._loss_fn = (loss_fn,)  # in a tuple, so that a module is not registered: it belongs to the caller

    def bind(self, loss_fn: Loss) -> Any:
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
