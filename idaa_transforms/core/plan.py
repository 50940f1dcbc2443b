"""The walk from a few objects to all that they hold, remembered: the second time it is checked, not walked again.

A plan says only where things stand, by the identity of everything that was read, and so keeps nothing of the user's
alive. A check reads all holders again and compares, in C: a fifth of a millisecond for a ResNet-50.
"""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from . import search
from .search import Kind, Part

REMEMBERED = 16  # plans: sets of models in use at once
_OF_MODULES = ("_parameters", "_buffers", "_modules")
_EMPTIABLE = (dict, OrderedDict, list, set, deque)
Root = tuple[str, Any]  # a name for messages, and the object


class Place(NamedTuple):
    """A holder, and what of it is protected."""

    parent: int  # the place that holds its owner (-1: the roots), and where in it
    offset: int
    cls: type  # of the owner
    part: Part
    name: str  # of the owner
    kept: bool  # put back after the block
    inside: bool  # of a module
    parameters: bool  # holds a module's parameters
    members: bool  # is a module's own dict of these, of buffers or of submodules


class Standing(NamedTuple):
    """Tensors of one holder that stand-ins replace."""

    owner: int  # positions in the flat list
    kind: Kind
    holder: Callable[[Any], Any]
    start: int  # of its first value
    positions: list[int]
    inside: bool  # of a module


class _Found(NamedTuple):
    """Something on the way, and where it stands."""

    place: int
    offset: int
    name: str
    thing: Any
    depth: int = 0
    kept: bool = False
    inside: bool = False
    parameters: bool = False
    members: bool = False  # a module's own dict of parameters, buffers or submodules


class Plan:
    """Where things stand, from some roots on. ``read`` checks it; None says that it has to be made anew."""

    def __init__(self, roots: Sequence[Root]) -> None:
        self.places: list[Place] = []
        self._values: list[list[int]] = []  # of each place: the identities of what it holds
        self._tensors: list[list[int]] = []  # of each place: which values are stood in for
        self._empty: list[tuple[int, int]] = []  # (place, offset) of containers without contents
        self._large: list[Place] = []  # neither searched nor checked, but put back
        self._lazy: list[tuple[int, int]] = []  # modules whose first forward has still to initialise them
        self._wrappers: list[tuple[int, int]] = []
        self._sharded = self.modules = False
        self._owned: set[tuple[int, int]] = set()
        self._atoms: list[list[Any]] = []  # of each place; kept alive, so that no identity is used twice
        self._roots = len(roots)
        self._root_ids = [id(thing) for _, thing in roots]
        self._walk(roots)
        self._arrange()

    def read(self, roots: Sequence[Any]) -> list[Any] | None:
        """Everything, flat and in order, if it is what it was, or differs only in numbers and tensors."""
        flat = self._flat(roots)
        if flat is None or [*map(id, flat)] != self._ids:
            flat = self._flat(roots) if self._changed(roots) else None
        return None if flat is None or any(self.empties(flat)) else flat

    def again(self, flat: list[Any]) -> list[Any]:
        """What the owners in ``flat`` hold now."""
        now = flat[: self._roots]
        for at, _, read in self._reads:
            now += read(flat[at])
        return now

    def at(self, place: int, offset: int) -> int:
        """The position in the flat list."""
        return (self.starts[place] if place >= 0 else 0) + offset

    def owner(self, place: Place) -> int:
        """The position of its owner in the flat list."""
        return self.at(place.parent, place.offset)

    def _flat(self, roots: Sequence[Any]) -> list[Any] | None:
        flat = list(roots)
        for at, cls, read in self._reads:
            if at >= len(flat) or type(flat[at]) is not cls:
                return None
            flat += read(flat[at])
        return flat

    def _changed(self, roots: Sequence[Any]) -> bool:
        """Take over what changed without a change of structure. False: there is one."""
        held: list[list[Any]] = []
        for i, place in enumerate(self.places):
            source = roots if place.parent < 0 else held[place.parent]
            if place.offset >= len(source) or type(source[place.offset]) is not place.cls:
                return False
            values, old = [*place.part.read(source[place.offset])], self._values[i]
            held.append(values)
            if [*map(id, values)] == old:
                continue
            for j in range(max(len(values), len(old))):
                same = j < len(old) and j < len(values) and id(values[j]) == old[j]
                if not same and ((i, j) in self._owned or (j < len(values) and not _leaf(values[j]))):
                    return False
            self._note(i, values)
        self._arrange()
        return True

    def _note(self, i: int, values: list[Any]) -> None:
        place = self.places[i]
        stands = place.kept and place.part.kind is not None and not place.parameters
        self._values[i] = [*map(id, values)]
        self._tensors[i] = [j for j, value in enumerate(values) if _holds_tensor(value)] if stands else []
        self._atoms[i] = [value for value in values if type(value) in search.ATOMS]

    def _walk(self, roots: Sequence[Root]) -> None:
        seen: set[int] = set()
        todo = deque(_Found(-1, i, name, thing) for i, (name, thing) in enumerate(roots))
        classes: set[type] = set()
        while todo:
            found = todo.popleft()
            if id(found.thing) in seen or found.depth > search.DEEPEST:
                continue
            seen.add(id(found.thing))
            cls = type(found.thing)
            body, module = search.is_body(cls), issubclass(cls, nn.Module)
            found = found._replace(kept=found.kept or body, inside=found.inside or module)
            if module:
                self.modules = True
                found = self._look_at_module(found._replace(depth=0))
            elif cls in _EMPTIABLE and found.kept and not found.thing:
                self._empty.append((found.place, found.offset))
                continue
            for part in search.parts(found.thing):
                todo += self._add(found, part)
            if body and cls not in classes:  # what its class names is looked for once a class
                classes.add(cls)
                if search.CLASS.read(found.thing):
                    todo += self._add(found._replace(kept=False), search.CLASS)

        if self._sharded:  # FSDP2 swaps whole parameters for sharded ones, and keeps its own count
            self.places = [p._replace(kept=p.kept and not p.parameters) for p in self.places]

    def _look_at_module(self, found: _Found) -> _Found:
        where = found.place, found.offset
        own = search.MODULE_DICT(found.thing)
        held = [v for key in _OF_MODULES[:2] if type(own.get(key)) is dict for v in own[key].values()]
        if any(issubclass(type(v), search.UNINITIALISED) for v in held):
            self._lazy.append(where)  # its first forward is to stay, and is as good as any other
            found = found._replace(kept=False)
        if issubclass(type(found.thing), DistributedDataParallel):
            self._wrappers.append(where)
        fsdp = sys.modules.get("torch.distributed.fsdp")
        self._sharded |= issubclass(type(found.thing), getattr(fsdp, "FSDPModule", ()))
        return found

    def _add(self, found: _Found, part: Part) -> Iterator[_Found]:
        """Note a place, and give what is found there."""
        at, offset, name, thing, depth, *flags = found
        cls = type(thing)
        place = Place(at, offset, cls, part, name, *flags)
        if not part.searched:
            if found.kept:
                self._large.append(place)
            return
        values, index = [*part.read(thing)], len(self.places)
        self.places.append(place)
        self._values.append([])
        self._tensors.append([])
        self._atoms.append([])
        self._note(index, values)
        module = part.attributes and issubclass(cls, nn.Module)
        names = search.labels(name, thing, part, len(values), found.members)
        for j, (label, value) in enumerate(zip(names, values, strict=False)):
            if _leaf(value):
                continue
            child = _Found(index, j, label, value, depth + 1, found.kept, found.inside)
            key = label.rpartition(".")[2]
            if module and key in _OF_MODULES:
                child = child._replace(name=name, depth=0, parameters=key == "_parameters", members=True)
            if any(True for _ in search.parts(value)):
                self._owned.add((index, j))
                yield child

    def _arrange(self) -> None:
        """Positions in the flat list, and the reads in the order that fills it."""
        self.starts: list[int] = []
        end = self._roots
        for values in self._values:
            self.starts.append(end)
            end += len(values)
        self._ids = self._root_ids + [i for values in self._values for i in values]
        self._reads = [(self.owner(p), p.cls, p.part.read) for p in self.places]
        empty = [self.at(*where) for where in self._empty]
        self.empties: Callable[[list[Any]], Iterable[Any]] = (
            itemgetter(*empty) if len(empty) > 1 else lambda flat: [flat[i] for i in empty]
        )
        self.wrappers = [self.at(*where) for where in self._wrappers]
        self.lazy = [self.at(*where) for where in self._lazy]
        self.bodies = [self.owner(p) for p in self.places if p.part.attributes]
        self.large = [(self.owner(p), p.part.kind, p.part.read) for p in self._large if p.part.kind]
        self.parameters: list[int] = []
        self.standing: list[Standing] = []
        self.keyed: list[tuple[int, Callable[[Any], Any]]] = []
        for i, (place, start) in enumerate(zip(self.places, self.starts, strict=True)):
            owner, part = self.owner(place), place.part
            if place.parameters:
                self.parameters += range(start, start + len(self._values[i]))
            if place.kept and part.kind and part.holder:
                if part.kind.keyed:
                    self.keyed.append((owner, part.holder))
                if self._tensors[i]:
                    positions = [start + j for j in self._tensors[i]]
                    self.standing.append(Standing(owner, part.kind, part.holder, start, positions, place.inside))

    def kept(self, flat: list[Any]) -> Iterator[tuple[Kind, Any, list[Any]]]:
        """Each holder to put back, and what it held."""
        for place, start, values in zip(self.places, self.starts, self._values, strict=True):
            if place.kept and place.part.kind and place.part.holder:
                holder = place.part.holder(flat[self.owner(place)])
                yield place.part.kind, holder, flat[start : start + len(values)]
        for where in self._empty:
            holder = flat[self.at(*where)]
            kind = next(search.parts(holder)).kind
            assert kind is not None
            yield kind, holder, []

    def names(self, flat: list[Any]) -> list[str]:
        """What to call everything in the flat list, for messages."""
        names = ["model"] * self._roots
        for place, values in zip(self.places, self._values, strict=True):
            names += search.labels(place.name, flat[self.owner(place)], place.part, len(values), place.members)
        return names


def _leaf(value: Any) -> bool:
    """Whether nothing more is behind it."""
    return value is search.UNSET or type(value) in search.ATOMS or issubclass(type(value), Tensor)


def _holds_tensor(value: Any) -> bool:
    """A tensor, or a tuple with one: a tuple cannot be written to, so that it is stood in for whole."""
    if issubclass(type(value), tuple):
        return any(map(_holds_tensor, tuple.__iter__(value)))
    return issubclass(type(value), Tensor)


class Plans:
    """The plans made last."""

    def __init__(self) -> None:
        self._plans: OrderedDict[tuple[int, ...], Plan] = OrderedDict()

    def of(self, roots: Sequence[Root]) -> tuple[Plan, list[Any]]:
        """The plan from ``roots``, and everything on it as it is now, flat."""
        things = [thing for _, thing in roots]
        key = tuple(map(id, things))
        plan = self._plans.get(key)
        flat = plan.read(things) if plan else None
        if plan is None or flat is None:
            plan = self._plans[key] = Plan(roots)
            flat = plan.read(things)
            assert flat is not None
        self._plans.move_to_end(key)
        if len(self._plans) > REMEMBERED:
            self._plans.popitem(last=False)
        return plan, flat


def reachable(roots: Sequence[Any]) -> tuple[list[Root], list[tuple[str, Tensor]]]:
    """What ``roots`` lead to, each with a name: modules and helper objects, where a plan begins, and tensors.

    Functions are new in every step, and so are the tuples and lists that they capture: this short way is walked each
    time, and the long one, behind the modules and objects, is remembered.
    """
    bodies: list[Root] = []
    tensors: list[tuple[str, Tensor]] = []
    seen: set[int] = set()
    todo = deque((search.root_name(thing), thing, 0) for thing in roots)
    looked_at = 0
    while todo:
        name, thing, depth = todo.popleft()
        cls = type(thing)
        if id(thing) in seen or depth > search.DEEPEST or cls in search.ATOMS:
            continue
        seen.add(id(thing))
        looked_at += 1
        if search.is_body(cls):
            bodies.append((name, thing))
        elif issubclass(cls, Tensor):
            tensors.append((name, thing))
        elif looked_at < search.MOST:
            for part in search.parts(thing):
                if part.searched:
                    values = [*part.read(thing)]
                    names = search.labels(name, thing, part, len(values))
                    todo += zip(names, values, [depth + 1] * len(values), strict=False)
    return bodies, tensors
