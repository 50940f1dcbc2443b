"""Bind a closure to a transform, for containers that pass only images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from torch import nn

_bindings: ContextVar[tuple[tuple[object, Any], ...]] = ContextVar("idaa_transforms.bindings", default=())


class Bindable:
    """Two ways to give a closure to a transform that a container calls with images alone."""

    @contextmanager
    def bound(self, loss_fn: Any) -> Iterator[None]:
        """``with aug.bound(nce): pipeline(x)``. Within the block, and in this thread, calls use ``loss_fn``.

        The innermost of nested blocks counts. A ``loss_fn=`` or ``grad=`` of the call itself comes first.
        """
        mine = (self, loss_fn)
        _bindings.set((*_bindings.get(), mine))
        try:
            yield
        finally:  # this one alone: blocks in generators need not end in the order in which they began
            _bindings.set(tuple(each for each in _bindings.get() if each is not mine))

    def bind(self, loss_fn: Any) -> Any:
        """``nn.Sequential(flip, aug.bind(nce), crop)``: a module that calls this transform with ``loss_fn``."""
        return _Bound(self, loss_fn)

    def _bound_loss(self) -> Any:
        return next((loss_fn for owner, loss_fn in reversed(_bindings.get()) if owner is self), None)


class _Bound(nn.Module):
    """A transform together with its closure."""

    def __init__(self, transform: Any, loss_fn: Any) -> None:
        super().__init__()
        self.transform = transform
        self._loss_fn = (loss_fn,)  # in a tuple, so that a model is not registered: it belongs to the caller

    def forward(self, *inputs: Any) -> Any:
        """What the transform returns for ``inputs`` with its closure."""
        return self.transform(*inputs, loss_fn=self._loss_fn[0])

    def __repr__(self) -> str:
        loss = self._loss_fn[0]
        return f"{self.transform!r}.bind({getattr(loss, '__name__', type(loss).__name__)})"
