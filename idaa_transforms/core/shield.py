"""What keeps the user's model untouched: a closure works on stand-ins, and what it sets is put back.

``search`` finds what a closure holds, without running code of its, by the means of ``holders``; ``walk`` goes through
all of it, and ``plan`` remembers the way; ``standins`` copies tensors; ``strict`` tells what had changed. Here the
shield is put up and taken down again.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from operator import is_
from typing import Any

from torch import Tensor

from . import search
from .holders import SET, Kind
from .plan import Plan, Plans
from .search import Root, reachable
from .standins import keep, stand_ins
from .strict import ClosureMutationWarning, Watch

__all__ = ["ClosureMutationWarning", "untouched"]

LARGEST_OUTSIDE = 2**26  # bytes: a larger tensor of an object outside of modules is data


@contextmanager
def untouched(*roots: Any, strict: bool = False) -> Iterator[Shield]:
    """Run a block, then have everything as it was in every module that ``roots`` hold.

    Also when the block raises. Within the block, buffers and tensors in attributes are stand-ins, so that the user's
    own are never written (batch-norm statistics, queues, centres); on the CPU those that share memory, such as a
    buffer and its views, still do. Stand-ins of large tensors are kept for the next block, and need as much memory for
    as long as their originals live. Afterwards the originals are back, and so is everything else that modules and
    helper objects hold: train or eval flags, Python counters, lists and dicts, attributes that were deleted or are new,
    parameters' ``.grad`` and ``requires_grad``. What a function itself captures, such as a list
    for its results, is its own way to tell something, and stays as the block left it; so do the values of parameters.

    Within the block a ``DistributedDataParallel`` calls its module directly, since a pass of its own would begin a
    training step: it would broadcast buffers, fail under ``no_sync`` and, with ``static_graph``, let the ranks diverge.
    A lazy module's first forward initialises it for good; strict mode says so. Threads whose blocks share a module wait
    for each other.

    Args:
        roots: modules, or closures over them: functions, lambdas, partials, bound methods, callable objects. Modules
            are found in what a function captures, in the globals it names and in the attributes of Python modules and
            classes that it names, through containers, attributes and slots.
        strict: warn with the names of all that changed; parameters and captured tensors are watched as well.
    """
    shield = Shield(roots, strict)
    try:
        shield.up()
        yield shield
    finally:
        shield.down()


class Shield:
    """What one block has up. :func:`untouched` makes it."""

    def __init__(self, roots: tuple[Any, ...], strict: bool) -> None:
        bodies, captured = reachable(roots)
        self._written: list[tuple[Kind, Any, Any, Any]] = []  # kind, holder, key, original
        self._originals: dict[int, Tensor] = {}  # by identity; so are their stand-ins
        self._stand_ins: dict[int, Tensor] = {}
        self._forwards: list[tuple[dict[str, Any], Any]] = []
        self._plan, self._flat, self._mine = _claim(bodies)
        self._keys = self._plan.keys(self._flat)
        self._large = [
            (part.kind, holder := part.holder_in(self._flat[at]), part.kind.keys(holder), [*part.read(holder)])
            for at, part in self._plan.large
            if part.kind
        ]
        self._lazy = [(own := search.MODULE_DICT(self._flat[at]), own.get("training")) for at in self._plan.lazy]
        self._watch = Watch(self._plan, self._flat, captured) if strict else None

    def up(self) -> None:
        """Take gradients away, and put stand-ins in the place of tensors."""
        flat, plan = self._flat, self._plan
        parameters = {id(p): p for p in plan.parameters(flat)}
        self._leaves = [p for p in parameters.values() if p.is_leaf]
        self._grads = [p.grad for p in self._leaves]
        self._wanted = [p.requires_grad for p in self._leaves]
        for p, grad in zip(self._leaves, self._grads, strict=True):
            if grad is not None:
                p.grad = None  # so that a closure that calls backward() adds to nothing of the user's
        self._stand_in(parameters)
        for at in plan.wrappers:
            own = search.MODULE_DICT(flat[at])
            self._forwards.append((own, own.get("forward")))
            own["forward"] = own["_modules"]["module"].__call__
        if self._watch:
            self._watch.begin(self._originals, self._stand_ins)

    def saw(self, loss: Tensor, view: Tensor) -> None:
        """In strict mode: warn if ``loss`` of ``view`` came from a model where the search found none."""
        if self._watch:
            self._watch.look_at(loss, view)

    def down(self) -> None:
        """Put everything back, the gradients first; in strict mode, tell what had changed."""
        watch = self._watch
        if watch:
            watch.end()
        for p, grad, wanted in zip(self._leaves, self._grads, self._wanted, strict=True):
            try:
                p.grad = grad
                if p.requires_grad is not wanted:
                    p.requires_grad_(wanted)
            except RuntimeError:  # the block made it another kind of tensor
                continue
        for own, forward in self._forwards:
            own.pop("forward", None)
            if forward is not None:
                own["forward"] = forward
        for kind, holder, key, original in self._written:
            try:
                kind.put(holder, key, original)
            except IndexError:  # the block made the list shorter, which the comparison below sees
                continue
        keep(self._originals, self._stand_ins)
        for own, mode in self._lazy:
            own["training"] = mode
        if not self._is_as_before():
            self._put_back()
        _release(self._mine)
        vars(self).clear()  # nothing of the block's stays alive, whoever holds this
        if watch:
            watch.tell()

    def _stand_in(self, parameters: dict[int, Tensor]) -> None:
        flat, plan = self._flat, self._plan
        inside = plan.tensors(flat)
        originals: dict[int, Tensor] = dict(zip(map(id, inside), inside, strict=True))
        for at, is_inside in plan.others:
            originals |= {id(t): t for t in _tensors(flat[at]) if is_inside or not _is_data(t)}
        for key in originals.keys() & parameters.keys():
            del originals[key]
        self._originals = originals
        by = self._stand_ins = stand_ins(originals)
        for owner, kind, part, start, positions in plan.standing:
            holder = part.holder_in(flat[owner])
            keys = kind.keys(holder)
            for at in positions:
                original, key = flat[at], keys[at - start]
                value = by.get(id(original))
                if value is None and (value := _swapped(original, by)) is original:
                    continue
                kind.put(holder, key, value)
                self._written.append((kind, holder, value if kind is SET else key, original))

    def _is_as_before(self) -> bool:
        return (
            self._plan.still(self._flat)
            and _same(self._plan.keys(self._flat), self._keys)
            and all(_same(kind.keys(at), keys) and _same(kind.values(at), old) for kind, at, keys, old in self._large)
        )

    def _put_back(self) -> None:
        keys = iter(self._keys)
        held = [
            (kind, holder, [*islice(keys, len(before))] if kind.keyed else kind.keys(holder), before)
            for kind, holder, before in self._plan.written(self._flat)
        ]
        for kind, holder, old_keys, before in (*held, *self._large):
            now_keys = kind.keys(holder)
            if kind is SET or not _same(now_keys, old_keys) or len(before) != len(now_keys):
                kind.refill(holder, old_keys, before)
                continue
            for key, now, old in zip(now_keys, [*kind.values(holder)], before, strict=True):
                if now is not old:
                    kind.put(holder, key, old)


_plans = Plans()
_turn = threading.Condition()
_held: dict[int, int] = {}  # objects that a block has up, by identity, to the thread of the block


def _claim(bodies: Sequence[Root]) -> tuple[Plan, list[Any], set[int]]:
    """The plan and all that it reads, once no other thread works on any of the same objects. All are claimed at once,
    so that two threads never wait for each other's half."""
    me = threading.get_ident()
    with _turn:
        while True:
            plan, flat = _plans.of(bodies)
            owners = {id(flat[at]) for at in plan.bodies}
            if all(_held[key] == me for key in owners & _held.keys()):
                mine = owners - _held.keys()
                _held.update(dict.fromkeys(mine, me))
                return plan, flat, mine
            _turn.wait()


def _release(claimed: Iterable[int]) -> None:
    with _turn:
        for key in claimed:
            del _held[key]
        _turn.notify_all()


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensor itself, or those of a tuple."""
    if issubclass(type(value), tuple):
        for part in tuple.__iter__(value):
            yield from _tensors(part)
    elif issubclass(type(value), Tensor):
        yield value


def _swapped(value: Any, by: dict[int, Tensor]) -> Any:
    """``value`` with stand-ins: itself, where there are none for it."""
    if not issubclass(type(value), tuple):
        return by.get(id(value), value)
    old = [*tuple.__iter__(value)]
    new = [_swapped(part, by) for part in old]
    return value if _same(old, new) else tuple.__new__(type(value), new)


def _is_data(tensor: Tensor) -> bool:
    return tensor.numel() * tensor.element_size() > LARGEST_OUTSIDE


def _same(a: Collection[Any], b: Collection[Any]) -> bool:
    """Whether both hold the same objects in the same order."""
    return len(a) == len(b) and all(map(is_, a, b))
