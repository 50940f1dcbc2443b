"""Reading and writing what holds other things: dicts, lists, attributes, slots. No code of the user's runs.

Everything goes by the methods of the built-in types themselves: no property, no ``__len__``, ``__iter__``,
``__getattr__`` or ``__class__`` of a user's is ever asked. A :class:`Kind` knows one type of holder; a :class:`Part` is
one side of an object: its attributes, its slots or its items.
"""

from __future__ import annotations

import types
import weakref
from argparse import Namespace
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

UNSET = object()  # an empty slot or cell
UNINITIALISED = nn.UninitializedParameter.__mro__[1]  # what lazy modules' parameters and buffers have in common
ATOMS = frozenset(  # nothing is behind them
    {type(None), bool, int, float, complex, str, bytes, type(...), range, slice, object, torch.dtype, torch.device}
    | {torch.Size, torch.memory_format, torch.layout, types.BuiltinFunctionType, types.CodeType, weakref.ref}
)
WITH_ATTRIBUTES = (nn.Module, types.SimpleNamespace, Namespace)  # of libraries, but what is set on them is the user's


class Kind(NamedTuple):
    """How to read and write one kind of holder."""

    values: Callable[[Any], Collection[Any]]  # in an order that is the same from call to call
    keys: Callable[[Any], list[Any]]
    put: Callable[[Any, Any, Any], None]  # holder, key, value
    refill: Callable[[Any, list[Any], list[Any]], None]  # holder, keys, values
    keyed: Callable[[Any], Iterator[Any]] | None = None  # goes through the keys, where these are the holder's own


class Part(NamedTuple):
    """One side of an object: its attributes, its slots, its items, or what it refers to."""

    read: Callable[[Any], Collection[Any]]  # values, from the holder if there is one, or else from the object
    holder: Callable[[Any], Any] | None = None  # what is written to; None: the object itself
    kind: Kind | None = None  # None: is searched only
    attributes: bool = False
    searched: bool = True
    labels: Callable[[Any], list[str]] | None = None  # names of what a function holds

    def holder_in(self, thing: Any) -> Any:
        """What of ``thing`` is read and written."""
        return self.holder(thing) if self.holder else thing

    def values(self, thing: Any) -> list[Any]:
        """What it holds."""
        return [*self.read(self.holder_in(thing))]


def _dict_kind(base: Any) -> Kind:
    def refill(holder: Any, keys: list[Any], values: list[Any]) -> None:
        base.clear(holder)
        for key, value in zip(keys, values, strict=True):
            base.__setitem__(holder, key, value)

    return Kind(base.values, lambda holder: [*base.__iter__(holder)], base.__setitem__, refill, base.__iter__)


def _list_kind(base: Any) -> Kind:
    def refill(holder: Any, keys: list[Any], values: list[Any]) -> None:
        base.clear(holder)
        base.extend(holder, values)

    return Kind(
        lambda holder: [*base.__iter__(holder)], lambda holder: [*range(base.__len__(holder))], base.__setitem__, refill
    )


def _values_of_set(holder: set[Any]) -> list[Any]:
    return [*set.__iter__(holder)]


def _put_in_set(holder: set[Any], old: Any, value: Any) -> None:
    set.discard(holder, old)
    set.add(holder, value)


def _refill_set(holder: set[Any], keys: list[Any], values: list[Any]) -> None:
    set.clear(holder)
    set.update(holder, values)


def _slot(slot: Any, thing: Any) -> Any:
    try:
        return slot.__get__(thing)
    except AttributeError:
        return UNSET


def _put_slot(holder: Any, slot: Any, value: Any) -> None:
    if value is not UNSET:
        slot.__set__(holder, value)
    elif _slot(slot, holder) is not UNSET:
        slot.__delete__(holder)


def _refill_slots(holder: Any, slots: list[Any], values: list[Any]) -> None:
    for slot, value in zip(slots, values, strict=True):
        _put_slot(holder, slot, value)


def of_kind(kind: Kind) -> Part:
    """A container, that holds what it holds itself."""
    return Part(kind.values, kind=kind)


DICT, SET = _dict_kind(dict), Kind(_values_of_set, _values_of_set, _put_in_set, _refill_set)
CONTAINERS: dict[type, Part] = {
    OrderedDict: of_kind(_dict_kind(OrderedDict)),
    dict: of_kind(DICT),
    list: of_kind(_list_kind(list)),
    deque: of_kind(_list_kind(deque)),
    set: of_kind(SET),
    tuple: Part(lambda holder: [*tuple.__iter__(holder)]),
    frozenset: Part(lambda holder: [*frozenset.__iter__(holder)]),
}


def attributes(own: Callable[[Any], dict[str, Any]]) -> Part:
    """Attributes in the dict that ``own`` gets from an object."""
    return Part(DICT.values, own, DICT, attributes=True)


def slots(descriptors: list[Any]) -> Part:
    """Attributes in slots."""
    values = lambda holder: [_slot(slot, holder) for slot in descriptors]  # noqa: E731
    return Part(values, kind=Kind(values, lambda _: descriptors, _put_slot, _refill_slots), attributes=True)


def label(name: str, thing: Any, part: Part, count: int, members: bool = False) -> list[str]:
    """What to call the values of ``part``, for messages. ``members``: it is a module's own dict."""
    if part.labels:
        return part.labels(thing)
    if part.kind is None:
        return [name] * count
    keys: Iterable[Any] = part.kind.keys(part.holder_in(thing))
    if part.attributes or members:
        keys = [key.__name__ if type(key) is types.MemberDescriptorType else key for key in keys]
        return [f"{name}.{key if type(key) is str else '...'}" for key in keys]
    return [f"{name}[{key!r}]" if type(key) in (str, int) else f"{name}[...]" for key in keys]
