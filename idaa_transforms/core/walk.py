"""The walk from modules and helper objects to all that they hold, and what there is to know of each holder."""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from . import search
from .holders import ATOMS, UNINITIALISED, Part

_OF_MODULES = ("_parameters", "_buffers", "_modules")
_EMPTIABLE = (dict, OrderedDict, list, set, deque)
Where = tuple[int, int]  # a place (-1: the roots), and an offset in it


@dataclass(slots=True)
class Place:
    """One side of an object on the way, and what stands there."""

    owner: Where  # the object
    level: int  # steps from the roots
    cls: type  # of the owner
    part: Part
    kept: bool  # put back after the block, with all below
    inside: bool  # of a module
    parameters: bool  # holds a module's parameters
    members: bool  # is a module's own dict of these, of buffers or of submodules
    types: list[type] = field(default_factory=list)  # of what it holds
    fixed: dict[int, int] = field(default_factory=dict)  # offset to identity, of what has more behind it or to come
    constants: dict[int, Any] = field(default_factory=dict)  # tuples of numbers, which stay alive here
    empty: list[int] = field(default_factory=list)  # offsets of containers without contents
    tensors: list[int] = field(default_factory=list)  # offsets of what is stood in for

    @property
    def written(self) -> bool:
        """Whether it is put back itself."""
        return self.kept and self.part.kind is not None

    def hold(self, values: list[Any]) -> None:
        """Take down what it holds."""
        self.types = [*map(type, values)]
        self.fixed, self.constants, self.empty, self.tensors = {}, {}, [], []
        for j, (value, cls) in enumerate(zip(values, self.types, strict=True)):
            if cls in ATOMS:
                continue
            if self.written and not self.parameters and _holds_tensor(value):
                self.tensors.append(j)
            if _is_constant(value):
                self.constants[j] = value
            elif self.kept and cls in _EMPTIABLE and not value:
                self.empty.append(j)
            elif issubclass(cls, UNINITIALISED) or any(True for _ in search.parts(value)):
                self.fixed[j] = id(value)


class _Found(NamedTuple):
    """Something on the way, and where it stands."""

    where: Where
    thing: Any
    depth: int = 0
    kept: bool = False
    inside: bool = False
    parameters: bool = False
    members: bool = False


class Walk:
    """All places from some roots on, level by level. Within a level those that are read alike stand together."""

    def __init__(self, roots: Sequence[Any]) -> None:
        self.places: list[Place] = []
        self.large: list[Place] = []  # too large to search; put back all the same
        self.lazy: list[Where] = []  # modules whose first forward has still to initialise them
        self.wrappers: list[Where] = []
        self.modules = self._sharded = False
        self._seen: set[int] = set()
        self._classes: set[type] = set()
        level, todo = 0, [_Found((-1, i), thing) for i, thing in enumerate(roots)]
        while todo:
            sides = [side for found in todo for side in self._sides(found)]
            order: dict[Any, int] = {}
            sides.sort(key=lambda s: (not s[0].kept, order.setdefault((s[1].read, s[1].holder), len(order))))
            todo = [child for found, part in sides for child in self._add(found, part, level)]
            level += 1
        if self._sharded:  # FSDP2 swaps whole parameters for sharded ones, and keeps its own count
            for place in self.places:
                place.kept &= not place.parameters

    def _sides(self, found: _Found) -> Iterator[tuple[_Found, Part]]:
        thing, cls = found.thing, type(found.thing)
        if id(thing) in self._seen or found.depth > search.DEEPEST:
            return
        self._seen.add(id(thing))
        body = search.is_body(cls)
        found = found._replace(kept=found.kept or body)
        if issubclass(cls, nn.Module):
            found = self._look_at_module(found._replace(inside=True, depth=0))
        for part in search.parts(thing):
            yield found, part
        if body and cls not in self._classes:  # what its class names is looked for once a class
            self._classes.add(cls)
            if search.CLASS.read(thing):
                yield found._replace(kept=False), search.CLASS

    def _look_at_module(self, found: _Found) -> _Found:
        self.modules = True
        if is_lazy(found.thing):
            self.lazy.append(found.where)  # its first forward is to stay, and is as good as any other
            found = found._replace(kept=False)
        if issubclass(type(found.thing), DistributedDataParallel):
            self.wrappers.append(found.where)
        fsdp = sys.modules.get("torch.distributed.fsdp")
        self._sharded |= issubclass(type(found.thing), getattr(fsdp, "FSDPModule", ()))
        return found

    def _add(self, found: _Found, part: Part, level: int) -> Iterator[_Found]:
        """Note a place, and give what is found there."""
        where, thing, depth, kept, inside, parameters, members = found
        place = Place(where, level, type(thing), part, kept, inside, parameters, members)
        if not part.searched:
            if kept:
                self.large.append(place)
            return
        values = part.values(thing)
        place.hold(values)
        index = len(self.places)
        self.places.append(place)
        module = part.attributes and part.kind is not None and issubclass(type(thing), nn.Module)
        keys = part.kind.keys(part.holder_in(thing)) if module and part.kind else []
        for j in place.fixed:
            child = _Found((index, j), values[j], depth + 1, kept, inside)
            if module and type(keys[j]) is str and keys[j] in _OF_MODULES:
                child = child._replace(depth=0, parameters=keys[j] == "_parameters", members=True)
            yield child


def is_lazy(module: nn.Module) -> bool:
    """Whether a parameter or buffer of its own has no values yet."""
    own = search.MODULE_DICT(module)
    held = [own.get(key) for key in _OF_MODULES[:2]]
    return any(issubclass(type(v), UNINITIALISED) for d in held if type(d) is dict for v in d.values())


def _is_constant(value: Any) -> bool:
    """A number or the like, or a tuple of these."""
    return type(value) in ATOMS or (type(value) is tuple and all(map(_is_constant, value)))


def _holds_tensor(value: Any) -> bool:
    """A tensor, or a tuple with one: a tuple cannot be written to, so that it is stood in for whole."""
    if issubclass(type(value), tuple):
        return any(map(_holds_tensor, tuple.__iter__(value)))
    return issubclass(type(value), Tensor)
