"""Strict mode of the shield: what a closure changed, by name, and whether a model was overlooked."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from .holders import UNINITIALISED, UNSET
from .plan import Plan
from .walk import Place, is_lazy


class ClosureMutationWarning(UserWarning):
    """Strict mode: what a closure changed while it was asked for a direction."""


class Watch:
    """Looks at what a plan protects before and after a block."""

    def __init__(self, plan: Plan, flat: list[Any], captured: list[tuple[str, Tensor]]) -> None:
        self._plan, self._flat, self._names = plan, flat, plan.names(flat)
        parameters = [(self._names[at], flat[at]) for at in plan.trained]
        self._watched = [
            (name, t, t._version)
            for name, t in (*parameters, *captured)
            if not issubclass(type(t), UNINITIALISED) and not t.is_inference()
        ]
        self._grads = [(f"{name}.grad", t) for name, t in parameters if t.is_leaf]
        self._changed: list[str] = []
        self._stays: list[str] = []
        self._overlooked = False

    def begin(self, originals: dict[int, Tensor], stand_ins: dict[int, Tensor]) -> None:
        """Stand-ins are in place, by the identities of their originals."""
        self._originals, self._stand_ins = originals, stand_ins
        self._before = [self._contents(place) for place in self._plan.places]

    def look_at(self, loss: Tensor, view: Tensor) -> None:
        """Whether ``loss`` of ``view`` came from a model, if none was found."""
        self._overlooked |= not self._plan.modules and _comes_from_a_model(loss, view)

    def end(self) -> None:
        """Nothing is put back yet."""
        names, plan = self._names, self._plan
        called = dict(zip(map(id, reversed(self._flat)), reversed(names), strict=True))
        moved = [key for key, new in self._stand_ins.items() if not _equal(self._originals[key], new)]
        changed = [called.get(key, "a tensor in a tuple") for key in moved]
        for i, (place, before) in enumerate(zip(plan.places, self._before, strict=True)):
            if place.written:
                changed += self._differences(i, before)
        self._changed = changed + [name for name, p in self._grads if p.grad is not None]
        self._stays = [name for name, t, version in self._watched if t._version != version]
        self._initialised = [names[at] for at in plan.lazy if not is_lazy(self._flat[at])]

    def tell(self) -> None:
        """Warn of it. With warnings as errors this raises, so it comes last."""
        told = []
        if self._changed:
            told.append(f"the closure changed {', '.join(dict.fromkeys(self._changed))}; all of it was put back")
        if self._stays:
            told.append(f"the closure changed the values of {', '.join(self._stays)}, which was not put back")
        if told:
            told.append("keep updates (queues, momentum, centres) out of the closure, in the training step")
        if self._initialised:
            told.append(
                f"the closure initialised {', '.join(self._initialised)}, which stays so; "
                "call a lazy model once before training"
            )
        if self._overlooked:
            told.append(
                "the loss came from a model, but none was found in the closure, and nothing of it was protected; "
                "name it: `with untouched(model):` around the call"
            )
        if told:
            warnings.warn(". ".join(t[0].upper() + t[1:] for t in told) + ".", ClosureMutationWarning, stacklevel=6)

    def _contents(self, place: Place) -> tuple[list[Any], list[Any]]:
        owner, part = self._flat[self._plan.at(place.owner)], place.part
        keys = part.kind.keys(part.holder_in(owner)) if part.kind else []
        return keys, part.values(owner)

    def _differences(self, i: int, before: tuple[list[Any], list[Any]]) -> list[str]:
        """Names of what a holder has no more, has anew, or has another object for."""
        plan, place, at = self._plan, self._plan.places[i], self._plan.starts[i]
        then, now = (dict(zip(map(id, keys), values, strict=False)) for keys, values in (before, self._contents(place)))
        found = [self._names[at + j] for j, (key, v) in enumerate(then.items()) if now.get(key, UNSET) is not v]
        labels = plan.labels(i, self._names, self._flat)
        return found + [label for label, key in zip(labels, now, strict=False) if key not in then]


def _equal(a: Tensor, b: Tensor) -> bool:
    """Same values, NaN for NaN. What cannot be compared counts as the same, as it is put back anyway."""
    try:
        a, b = a.detach(), b.detach()
        if a.layout is not torch.strided:
            a, b = a.to_dense(), b.to_dense()
        return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())
    except (RuntimeError, NotImplementedError):
        return True


def _comes_from_a_model(loss: Tensor, view: Tensor) -> bool:
    """Whether parameters other than the view, or batch norms, are in the graph from ``view`` to ``loss``."""
    todo, seen = [loss.grad_fn], {view.grad_fn}
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if "BatchNorm" in node.name() or getattr(node, "variable", view) is not view:
            return True
        todo += [following for following, _ in node.next_functions]
    return False
