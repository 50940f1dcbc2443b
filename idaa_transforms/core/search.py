"""What a closure leads to: modules, helper objects and containers, found without running any code of theirs.

:func:`parts` gives all sides of an object where something may be held, read from raw dictionaries, cells and slots. A
config that interpolates, a mapping that loads its items from disk, and an object that raises whenever it is touched are
passed by. :func:`reachable` follows functions and what they capture to the modules and objects behind them.
"""

from __future__ import annotations

import functools
import re
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .holders import ATOMS, CONTAINERS, UNSET, WITH_ATTRIBUTES, Part, attributes, label, slots

LARGEST, LARGEST_KEPT, DEEPEST, MOST = 256, 2**16, 8, 4096  # data is no place to look for a model
Root = tuple[str, Any]  # a name for messages, and the object

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
_OURS = __name__.partition(".")[0]
_DATA = (torch.optim.Optimizer, torch.utils.data.Dataset, torch.utils.data.DataLoader, torch.utils.data.Sampler)
_NO_BODIES = (Tensor, types.ModuleType, type, functools.partial, *CONTAINERS, *_DATA)
CALLS = frozenset({"forward", "__call__"})


CLASS = Part(lambda x: members(x, CALLS))  # what the code that runs when it is called names in its class


def parts(thing: Any) -> Iterator[Part]:
    """All sides of ``thing`` where something may be held; none for tensors, numbers and what belongs to libraries."""
    cls = type(thing)
    if cls in ATOMS or issubclass(cls, Tensor | types.ModuleType | type):
        return
    if issubclass(cls, nn.Module):
        yield attributes(MODULE_DICT)
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
    elif container := next((c for c in CONTAINERS if issubclass(cls, c)), None):
        size = container.__len__(thing)  # type: ignore[attr-defined]
        if size <= LARGEST_KEPT:
            yield CONTAINERS[container]._replace(searched=size <= LARGEST)
        if cls not in CONTAINERS:
            yield from _attributes(cls)
    elif is_body(cls):
        yield from _attributes(cls)
    elif own := _dict_of(cls):  # of a library: what it wraps
        yield Part(lambda f: [v for k, v in own(f).items() if k == "__wrapped__"])


def is_body(cls: type) -> bool:
    """Whether objects of ``cls`` have attributes of their own that are the user's: modules, and helper objects."""
    return issubclass(cls, WITH_ATTRIBUTES) or (not in_library(cls) and not issubclass(cls, _NO_BODIES))


def root_name(thing: Any) -> str:
    """What to call a root."""
    return "model" if issubclass(type(thing), nn.Module) else "loss_fn"


def reachable(roots: Sequence[Any]) -> tuple[list[Root], list[tuple[str, Tensor]]]:
    """What ``roots`` lead to, each with a name: modules and helper objects, where a plan begins, and tensors.

    Functions are new in every step, and so are the tuples and lists that they capture: this short way is walked each
    time, and the long one, behind the modules and objects, is remembered.
    """
    bodies: list[Root] = []
    tensors: list[tuple[str, Tensor]] = []
    seen: set[int] = set()
    todo = deque((root_name(thing), thing, 0) for thing in roots)
    looked_at = 0
    while todo:
        name, thing, depth = todo.popleft()
        cls = type(thing)
        if id(thing) in seen or depth > DEEPEST or cls in ATOMS:
            continue
        seen.add(id(thing))
        looked_at += 1
        if is_body(cls):
            bodies.append((name, thing))
        elif issubclass(cls, Tensor):
            tensors.append((name, thing))
        elif looked_at < MOST:
            for part in parts(thing):
                if part.searched:
                    values = part.values(thing)
                    names = label(name, thing, part, len(values))
                    todo += zip(names, values, [depth + 1] * len(values), strict=False)
    return bodies, tensors


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


def _attributes(cls: type) -> Iterator[Part]:
    if own := _dict_of(cls):
        yield attributes(own)
    yield from _slots(cls)


def _dict_of(cls: type) -> Callable[[Any], dict[str, Any]] | None:
    """The raw ``__dict__`` of objects of ``cls``, also where the class puts a property before it."""
    for base in _MRO(cls):
        own = _VARS(base).get("__dict__")
        if type(own) in (types.GetSetDescriptorType, types.MemberDescriptorType):
            return own.__get__
    return None


def _slots(cls: type) -> Iterator[Part]:
    found = [
        slot
        for base in _MRO(cls)
        if not in_library(base)
        for slot in _VARS(base).values()
        if type(slot) is types.MemberDescriptorType
    ]
    if found:
        yield slots(found)


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
    if str(f.__globals__.get("__name__")).partition(".")[0] != _OURS:  # no global of this package is a user's model
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
