"""What a closure holds: modules, helper objects and containers, found without running any code of theirs.

Everything is read from the raw dictionaries, cells and slots, by the methods of the built-in types themselves: no
property, no ``__len__``, ``__iter__``, ``__getattr__`` or ``__class__`` of a user's is ever asked. A config that
interpolates, a mapping that loads its items from disk, and an object that raises whenever it is touched are passed by.
"""

from __future__ import annotations

import functools
import re
import sys
import types
import weakref
from argparse import Namespace
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

LARGEST, LARGEST_KEPT, DEEPEST, MOST = 256, 2**16, 8, 4096  # data is no place to look for a model
UNINITIALISED = nn.UninitializedParameter.__mro__[1]  # what lazy modules' parameters and buffers have in common
UNSET = object()  # an empty slot or cell

Read = Callable[[Any], Iterable[Any]]


class Kind(NamedTuple):
    """How to read and write one kind of holder."""

    values: Callable[[Any], Iterable[Any]]
    keys: Callable[[Any], list[Any]]
    put: Callable[[Any, Any, Any], None]  # holder, key, value
    refill: Callable[[Any, list[Any], list[Any]], None]  # holder, keys, values
    keyed: bool = False  # a dict: its keys are its own


class Part(NamedTuple):
    """One side of an object: its attributes, its slots, its items."""

    read: Read  # values, in an order that is the same from call to call; TypeError for an object of another type
    holder: Callable[[Any], Any] | None = None  # what is written to
    kind: Kind | None = None  # None: is searched only
    attributes: bool = False
    searched: bool = True
    labels: Callable[[Any], list[str]] | None = None  # names of what a function holds


def _refill_dict(base: Any) -> Callable[[Any, list[Any], list[Any]], None]:
    def refill(holder: Any, keys: list[Any], values: list[Any]) -> None:
        base.clear(holder)
        for key, value in zip(keys, values, strict=True):
            base.__setitem__(holder, key, value)

    return refill


def _refill_list(base: Any, add: Any) -> Callable[[Any, list[Any], list[Any]], None]:
    def refill(holder: Any, keys: list[Any], values: list[Any]) -> None:
        base.clear(holder)
        add(holder, values)

    return refill


def _put_slot(holder: Any, slot: Any, value: Any) -> None:
    if value is not UNSET:
        slot.__set__(holder, value)
    elif _slot(slot, holder) is not UNSET:
        slot.__delete__(holder)


def _refill_slots(holder: Any, slots: list[Any], values: list[Any]) -> None:
    for slot, value in zip(slots, values, strict=True):
        _put_slot(holder, slot, value)


def _put_set(holder: set[Any], old: Any, value: Any) -> None:
    set.discard(holder, old)
    set.add(holder, value)


def _slot(slot: Any, thing: Any) -> Any:
    try:
        return slot.__get__(thing)
    except AttributeError:
        return UNSET


DICT = Kind(dict.values, list, dict.__setitem__, _refill_dict(dict), keyed=True)


def _plain(thing: Any) -> Any:
    return thing


def _of_dict(base: Any) -> Part:
    kind = Kind(base.values, lambda d: [*base.keys(d)], base.__setitem__, _refill_dict(base), keyed=True)
    return Part(base.values, _plain, kind)


def _of_list(base: Any) -> Part:
    kind = Kind(base.__iter__, lambda x: [*range(base.__len__(x))], base.__setitem__, _refill_list(base, base.extend))
    return Part(base.__iter__, _plain, kind)


SET = Kind(set.__iter__, lambda s: [*set.__iter__(s)], _put_set, _refill_list(set, set.update))
_CONTAINERS: dict[type, Part] = {
    OrderedDict: _of_dict(OrderedDict),
    dict: _of_dict(dict),
    list: _of_list(list),
    deque: _of_list(deque),
    set: Part(set.__iter__, _plain, SET),
    tuple: Part(tuple.__iter__),
    frozenset: Part(frozenset.__iter__),
}
ATOMS = frozenset(
    {type(None), bool, int, float, complex, str, bytes, type(...), range, slice, object, torch.dtype, torch.device}
    | {torch.Size, torch.memory_format, torch.layout, types.BuiltinFunctionType, types.CodeType, weakref.ref}
)
_MRO, _VARS = type.__dict__["__mro__"].__get__, type.__dict__["__dict__"].__get__
MODULE_DICT: Callable[[Any], dict[str, Any]] = _VARS(nn.Module)["__dict__"].__get__
_NAMESPACE = _VARS(types.ModuleType)["__dict__"].__get__
_LIBRARIES = sys.stdlib_module_names | set(
    re.findall(
        r"\w+",
        """torch torchvision torchaudio torchmetrics numpy scipy pandas sklearn matplotlib PIL cv2 tqdm tensorboard
        wandb mlflow lightning pytorch_lightning lightning_fabric lightning_utilities accelerate transformers diffusers
        timm kornia lightly datasets omegaconf hydra h5py zarr pytest _pytest hypothesis""",
    )
)
_DATA = (torch.optim.Optimizer, torch.utils.data.Dataset, torch.utils.data.DataLoader, torch.utils.data.Sampler)
_NO_BODIES = (Tensor, types.ModuleType, type, functools.partial, *_CONTAINERS, *_DATA)
CALLS = frozenset({"forward", "__call__"})


CLASS = Part(lambda x: members(x, CALLS))  # what the code that runs when it is called names in its class


def parts(thing: Any) -> Iterator[Part]:
    """All sides of ``thing`` where something may be held; none for tensors, numbers and what belongs to libraries."""
    cls = type(thing)
    if cls in ATOMS or issubclass(cls, Tensor | types.ModuleType | type):
        return
    if issubclass(cls, nn.Module):
        yield Part(lambda m: MODULE_DICT(m).values(), MODULE_DICT, DICT, attributes=True)
        yield from _slots(cls)
    elif issubclass(cls, types.FunctionType):
        yield Part(lambda f: f.__dict__.values())  # __wrapped__ of decorators, the original of torch.compile
        if not of_a_library(thing):
            yield Part(lambda f: [value for _, value in _held(f)], labels=lambda f: [name for name, _ in _held(f)])
    elif issubclass(cls, types.MethodType):
        yield Part(_of_method)
    elif issubclass(cls, functools.partial):
        yield Part(_of_partial)
    elif issubclass(cls, staticmethod | classmethod):
        yield Part(lambda f: [f.__func__])
    elif container := next((c for c in _CONTAINERS if issubclass(cls, c)), None):
        size = container.__len__(thing)  # type: ignore[attr-defined]
        if size <= LARGEST_KEPT:
            yield _CONTAINERS[container]._replace(searched=size <= LARGEST)
        if cls not in _CONTAINERS:
            yield from _attributes(cls)
    elif is_body(cls):
        yield from _attributes(cls)
    elif own := _dict_of(cls):  # of a library: what it wraps
        yield Part(lambda f: [v for k, v in own(f).items() if k == "__wrapped__"])


def is_body(cls: type) -> bool:
    """Whether objects of ``cls`` have attributes of their own that are the user's: modules, and helper objects."""
    if issubclass(cls, nn.Module | types.SimpleNamespace | Namespace):
        return True
    return not in_library(cls) and not issubclass(cls, _NO_BODIES)


def root_name(thing: Any) -> str:
    """What to call a root."""
    return "model" if issubclass(type(thing), nn.Module) else "loss_fn"


def members(thing: Any, names: Iterable[str]) -> list[Any]:
    """What code that names ``names`` can mean by them in ``thing``: of a Python module or a class their values, of an
    object the methods, properties and class attributes, and what those name in turn."""
    cls, todo, seen, found = type(thing), list(names), set(), []
    namespace = issubclass(cls, types.ModuleType | type)
    if cls in ATOMS or issubclass(cls, Tensor | types.FunctionType) or (not namespace and not is_body(cls)):
        return []
    if issubclass(cls, types.ModuleType):
        scopes = [_NAMESPACE(thing)]
    else:
        scopes = [_VARS(c) for c in _MRO(thing if issubclass(cls, type) else cls) if not in_library(c)]
    if not scopes or (namespace and of_a_library(thing)):
        return []
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        value: Any = next((scope[name] for scope in scopes if name in scope), UNSET)
        if type(value) is property:
            value = value.fget
        elif type(value) is functools.cached_property:
            value = value.func
        if value is UNSET or type(value) in ATOMS:
            continue
        found.append(value)
        if issubclass(type(value), types.FunctionType) and not issubclass(cls, types.ModuleType):
            todo += code_names(value.__code__)
        elif issubclass(type(value), types.ModuleType | type) and value is not thing:
            found += members(value, [n for n in names if n not in ("__call__", "forward")])
    return found


def code_names(code: types.CodeType) -> Iterator[str]:
    """Global names and attributes in ``code``, also in functions inside it."""
    yield from code.co_names
    for const in code.co_consts:
        if type(const) is types.CodeType:
            yield from code_names(const)


def of_a_library(thing: Any) -> bool:
    """Whether a function, class or Python module comes from a library, where no model of the user's is."""
    if issubclass(type(thing), type):
        return in_library(thing)
    if issubclass(type(thing), types.ModuleType):
        name = _NAMESPACE(thing).get("__name__")
    else:
        name = thing.__globals__.get("__name__")
    return type(name) is str and name.split(".")[0] in _LIBRARIES


def in_library(cls: type) -> bool:
    """The same for a class, whose metaclass is not asked."""
    name = _VARS(cls).get("__module__")  # classes written in C have none
    return type(name) is not str or name.split(".")[0] in _LIBRARIES


def labels(name: str, thing: Any, part: Part, count: int, members: bool = False) -> list[str]:
    """What to call the values of ``part``, for messages. ``members``: it is a module's own dict."""
    if part.labels:
        return part.labels(thing)
    if part.kind is None or part.holder is None:
        return [name] * count
    keys = part.kind.keys(part.holder(thing))
    if part.attributes or members:
        keys = [key.__name__ if type(key) is types.MemberDescriptorType else key for key in keys]
        return [f"{name}.{key if type(key) is str else '...'}" for key in keys]
    return [f"{name}[{key!r}]" if type(key) in (str, int) else f"{name}[...]" for key in keys]


def _attributes(cls: type) -> Iterator[Part]:
    if own := _dict_of(cls):
        yield Part(lambda x: own(x).values(), own, DICT, attributes=True)
    yield from _slots(cls)


def _dict_of(cls: type) -> Callable[[Any], dict[str, Any]] | None:
    """The raw ``__dict__`` of objects of ``cls``, also where the class puts a property before it."""
    for base in _MRO(cls):
        own = _VARS(base).get("__dict__")
        if type(own) in (types.GetSetDescriptorType, types.MemberDescriptorType):
            return own.__get__
    return None


def _slots(cls: type) -> Iterator[Part]:
    slots = [
        slot
        for base in _MRO(cls)
        if not in_library(base)
        for slot in _VARS(base).values()
        if type(slot) is types.MemberDescriptorType
    ]
    if slots:
        values = lambda x: [_slot(slot, x) for slot in slots]  # noqa: E731
        yield Part(values, _plain, Kind(values, lambda x: slots, _put_slot, _refill_slots), attributes=True)


def _held(f: types.FunctionType) -> list[tuple[str, Any]]:
    """What it captures, its defaults, the globals that it names, and in all of these the attributes that it names."""
    held = []
    for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
        try:
            held.append((name, cell.cell_contents))
        except ValueError:  # not assigned yet
            held.append((name, UNSET))
    held += [(f"{f.__name__} default", value) for value in f.__defaults__ or ()]
    held += (f.__kwdefaults__ or {}).items()
    names = dict.fromkeys(code_names(f.__code__))
    held += [(name, value) for name in names if (value := dict.get(f.__globals__, name, UNSET)) is not UNSET]
    names |= dict.fromkeys(CALLS)
    return held + [(name, found) for name, thing in held for found in members(thing, names)]


def _of_method(method: types.MethodType) -> list[Any]:
    function, owner = method.__func__, method.__self__
    names = code_names(function.__code__) if type(function) is types.FunctionType else ()
    return [owner, function, *members(owner, names)]


def _of_partial(partial: Any) -> list[Any]:
    own = functools.partial.__dict__
    function, args, keywords = (own[name].__get__(partial) for name in ("func", "args", "keywords"))
    return [function, *args, *keywords.values()]
