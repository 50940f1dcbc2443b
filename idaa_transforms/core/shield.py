"""What keeps the user's model untouched, and how a closure reaches a transform that a container calls."""

from __future__ import annotations

import functools
import types
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


class ClosureMutationWarning(UserWarning):
    """Strict mode: what a closure changed while it was asked for a direction."""


@contextmanager
def untouched(*roots: Any, strict: bool = False) -> Iterator[None]:
    """Run a block, then put back what it changed in every module that ``roots`` hold.

    Put back, also when the block raises: each submodule's train or eval flag, its buffers and tensor attributes
    (batch-norm statistics, queues, centres), and its parameters' ``.grad``. Within the block a
    ``DistributedDataParallel`` calls its module directly, since a pass of its own would begin a training step: it
    would broadcast buffers, fail under ``no_sync`` and, with ``static_graph``, let the ranks diverge.

    Args:
        roots: modules, or closures over them: functions, lambdas, partials, bound methods, callable objects. Modules
            are found in what a function captures and in the globals it names, through containers and attributes.
        strict: warn with the names of all that changed; parameters and captured tensors are watched as well.
    """
    found = list(_reachable(*roots))
    tops = [(name, top) for name, top in found if isinstance(top, nn.Module)]
    modules = {m: f"{name}.{path}".rstrip(".") for name, top in tops for path, m in top.named_modules()}
    modes = {m: m.training for m in modules}
    parameters = {
        p: f"{name}.{key}" for m, name in modules.items() for key, p in m._parameters.items() if p is not None
    }
    grads = {p: p.grad for p in parameters}
    tensors = [
        (held, key, value, value.clone(), f"{name}.{key}")
        for m, name in modules.items()
        for held in (m._buffers, vars(m))
        for key, value in held.items()
        if key not in _OWN_OF_MODULES and isinstance(value, Tensor)
    ]
    watched = parameters | {thing: name for name, thing in found if isinstance(thing, Tensor)} if strict else {}
    versions = {t: t._version for t in watched if not t.is_inference()}
    wrappers = {m: vars(m).get("forward") for m in modules if isinstance(m, DistributedDataParallel)}
    for wrapper in wrappers:
        vars(wrapper)["forward"] = wrapper.module.__call__
    for p in parameters:
        p.grad = None  # so that a closure that calls backward() adds to nothing of the user's
    try:
        yield
    finally:
        changed: list[str] = []
        if strict:
            changed = [n for held, key, t, old, n in tensors if held.get(key) is not t or not _same(t, old)]
            changed += [watched[t] for t, version in versions.items() if t._version != version]
            changed += [f"{name}.training" for m, name in modules.items() if m.training != modes[m]]
            changed += [f"{name}.grad" for p, name in parameters.items() if p.grad is not None]
        for m, mode in modes.items():
            if m.training != mode:  # a module's own __setattr__ is slow
                m.training = mode
        for wrapper, own in wrappers.items():
            vars(wrapper).pop("forward")
            if own is not None:
                vars(wrapper)["forward"] = own
        for held, key, tensor, old, _ in tensors:
            held[key] = tensor
            tensor.data.copy_(old)  # .data: no new version, so that graphs which saved this tensor stay valid
        for p, grad in grads.items():
            p.grad = grad
        _tell(changed)  # last: with warnings as errors this raises


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.nan_to_num(), b.nan_to_num()) if a.is_floating_point() else torch.equal(a, b)


def _tell(names: list[str]) -> None:
    if names:
        warnings.warn(
            f"the closure changed {', '.join(names)}. Buffers, modes and gradients were put back, and nothing else. "
            "Keep updates (queues, momentum, centres) out of the closure, in the training step.",
            ClosureMutationWarning,
            stacklevel=4,
        )


_OWN_OF_MODULES = frozenset(vars(nn.Module()))
_LIBRARIES = ("torch", "torchvision", "numpy", "functools", "builtins")
_HOLDERS = (list, tuple, dict, types.FunctionType, types.MethodType, functools.partial)
_NO_HOLDERS = (types.ModuleType, type, Tensor)
_LARGEST, _DEEPEST = 256, 8  # containers of data, and graphs of objects, are no place to look for a model


def _reachable(*roots: Any) -> Iterator[tuple[str, nn.Module | Tensor]]:
    """Modules and tensors that ``roots`` hold, each with a name for messages."""
    seen: set[int] = set()
    todo = [("loss_fn" if callable(r) and not isinstance(r, nn.Module) else "model", r, 0) for r in reversed(roots)]
    while todo:
        name, thing, depth = todo.pop()
        if id(thing) in seen or depth > _DEEPEST:
            continue
        seen.add(id(thing))
        if isinstance(thing, nn.Module | Tensor):
            yield name, thing
        todo += [(part_name, part, depth + 1) for part_name, part in _parts(name, thing)]


def _parts(name: str, thing: Any) -> Iterator[tuple[str, Any]]:
    """What ``thing`` holds, one level down."""
    if isinstance(thing, types.FunctionType):
        yield from vars(thing).items()  # __wrapped__ of decorators, the original of torch.compile
        if not _of_a_library(thing):
            for variable, cell in zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True):
                try:
                    yield variable, cell.cell_contents
                except ValueError:  # not assigned yet
                    continue
            yield from ((f"{name} default", value) for value in thing.__defaults__ or ())
            yield from (thing.__kwdefaults__ or {}).items()
            yield from ((n, thing.__globals__[n]) for n in _names(thing.__code__) if n in thing.__globals__)
    elif isinstance(thing, functools.partial):
        yield from ((name, part) for part in (thing.func, *thing.args))
        yield from thing.keywords.items()
    elif isinstance(thing, types.MethodType):
        yield name, thing.__self__
        yield name, thing.__func__
    elif isinstance(thing, Mapping):
        if len(thing) <= _LARGEST:
            yield from ((f"{name}[{key!r}]", value) for key, value in thing.items())
    elif isinstance(thing, list | tuple | set | frozenset):
        if len(thing) <= _LARGEST:
            yield from ((f"{name}[{i}]", value) for i, value in enumerate(thing))
    elif isinstance(thing, nn.Module):
        hidden = [(key, value) for key, value in vars(thing).items() if key not in _OWN_OF_MODULES]
        yield from ((f"{name}.{key}", value) for key, value in hidden if isinstance(value, _HOLDERS))
    elif hasattr(thing, "__dict__") and not isinstance(thing, _NO_HOLDERS) and not _of_a_library(type(thing)):
        yield from ((f"{name}.{key}", value) for key, value in vars(thing).items())
        yield name, getattr(type(thing), "__call__", None)  # noqa: B004


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _names(const)


def _of_a_library(thing: Any) -> bool:
    return (getattr(thing, "__module__", None) or "builtins").split(".")[0] in _LIBRARIES
