"""Run a closure on copies of module state, then put the originals back.

A loss closure runs the user's model one more time than training alone would. Without care that moves batch norm
statistics, fills queues and counts steps. Within :class:`preserve_state` every module that the closure reaches works on
copies of its state:

* registered buffers;
* attributes: tensors, and lists, dicts, sets and deques with the tensors in them; other values as they are; and so the
  train or eval mode;
* of its parameters ``.grad``, ``requires_grad`` and attributes.

Afterwards the originals are back, the very same objects, also when the closure raises. Nothing else is touched: not
the values of parameters, not random numbers, and nothing that is no module (trainers, meters, loggers, tensors of your
own). Parameters and captured tensors that the closure changed are named in a :class:`ClosureMutationWarning`.
"""

from __future__ import annotations

import functools
import types
import warnings
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parallel import DistributedDataParallel

CURE = "keep such updates (momentum, queues, centres) out of the closure, in the training step"
DEEPEST = 5  # objects and functions on the way from a closure to a module
_ATOMS = {type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size, types.ModuleType}
_REGISTRIES = vars(nn.Module()).keys() - {"training"}  # what every module has: its own parameters, hooks, children
_MAPPINGS = (dict, OrderedDict, defaultdict, Counter)


class ClosureMutationWarning(UserWarning):
    """A closure changed something that is not put back."""


@contextmanager
def preserve_state(*held: nn.Module | Callable[..., Any]) -> Iterator[Callable[[Tensor], Tensor]]:
    """Within the block, modules that ``held`` reaches work on copies of their state; see the top of this module.

    Args:
        held: modules, and closures over modules: what a function captures, its defaults and the globals it names;
            partials and bound methods; attributes of objects, and containers, five levels deep.

    Yields:
        A function that returns the loss it is given. It remembers parameters that the loss depends on and that belong
        to no module that was found.

    Warns:
        ClosureMutationWarning: names parameters and captured tensors that changed within the block, or a parameter of
            no module that was found.
    """
    modules, captured = find_modules(*held)
    copies: dict[int, Tensor] = {}
    swaps = [(module, vars(module), _on_copies(module, own, copies)) for module, own in modules.items()]
    parameters = {id(p): p for module in modules for p in module._parameters.values() if p is not None}.values()
    before = [(p, p.grad, p.requires_grad, vars(p)) for p in parameters]
    watched = [*parameters, *captured.values()]
    states = _states(watched)
    strangers: list[Tensor] = []

    # FSDP computes with other parameters than a module has at rest.
    as_they_are = all(type(p) is nn.Parameter for p in parameters)

    def check(loss: Tensor) -> Tensor:
        if as_they_are and isinstance(loss, Tensor) and not strangers:
            known = set(map(id, watched))
            strangers.extend(_unknown_parameters(loss, known, captured.values()))
        return loss

    try:
        for module, _, new in swaps:
            object.__setattr__(module, "__dict__", new)
        for p, grad, _, own in before:
            if grad is not None:
                p.grad = None
            p.__dict__ = dict(own)
        yield check
        changed = [t for t, old, now in zip(watched, states, _states(watched), strict=True) if old != now]
    finally:
        for module, old, _ in swaps:
            object.__setattr__(module, "__dict__", old)
        for p, grad, wanted, own in before:
            if p.requires_grad != wanted:
                p.requires_grad_(wanted)
            if p.grad is not grad:
                p.grad = grad
            p.__dict__ = own
    if changed:
        names = ", ".join(_names(changed, list(modules), captured))
        warnings.warn(f"the closure changed {names}, which stays so; {CURE}", ClosureMutationWarning, stacklevel=5)
    if strangers:
        warnings.warn(
            f"the loss depends on a parameter of shape {tuple(strangers[0].shape)} of no module that was found in the "
            "closure, so that the state of its model was not preserved; name the model: `with preserve_state(model):` "
            "around the call",
            ClosureMutationWarning,
            stacklevel=5,
        )


def find_modules(*held: Any) -> tuple[dict[nn.Module, list[str]], dict[str, Tensor]]:
    """The modules that ``held`` reaches, with all their submodules, each with the names of its attributes that are no
    plain values; and tensors outside of modules, by name."""
    modules: dict[nn.Module, list[str]] = {}
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    todo = deque(("", thing, 0) for thing in held)
    while todo:
        name, thing, depth = todo.popleft()
        if type(thing) in _ATOMS or id(thing) in seen or isinstance(thing, type):
            continue
        seen.add(id(thing))
        if isinstance(thing, Tensor):
            tensors.setdefault(name, thing)
        elif isinstance(thing, nn.Module):
            for module in thing.modules():
                if module not in modules and not _is_lazy(module):
                    own = vars(module)
                    modules[module] = [k for k in own if k not in _REGISTRIES and not _is_plain(own[k])]
                    todo.extend((k, own[k], depth + 1) for k in modules[module] if not isinstance(own[k], Tensor))
        elif depth < DEEPEST:
            todo.extend((part, value, depth + 1) for part, value in _parts(name, thing))
    return modules, tensors


def _parts(name: str, thing: Any) -> Iterator[tuple[str, Any]]:
    """What a function, container or plain object holds, by name."""
    if isinstance(thing, types.FunctionType):
        for part, cell in zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True):
            try:
                yield part, cell.cell_contents
            except ValueError:  # not assigned yet
                continue
        yield from ((n, thing.__globals__[n]) for n in _global_names(thing.__code__) if n in thing.__globals__)
        yield from ((name, value) for value in (thing.__defaults__ or ()))
        yield from (thing.__kwdefaults__ or {}).items()
        yield from vars(thing).items()
    elif isinstance(thing, types.MethodType):
        yield from (("self", thing.__self__), (name, thing.__func__))
    elif isinstance(thing, functools.partial):
        yield from ((name, value) for value in (thing.func, *thing.args, *thing.keywords.values()))
    elif isinstance(thing, dict | list | tuple | set | frozenset | deque):
        values = list(thing.values()) if isinstance(thing, dict) else list(thing)
        if len(values) > 1000:  # a table or a data set: of its entries only modules count
            kinds = {kind for kind in set(map(type, values)) if issubclass(kind, nn.Module)}
            values = [value for value in values if type(value) in kinds] if kinds else []
        yield from ((name, value) for value in values)
    else:
        yield from getattr(thing, "__dict__", {}).items()
        slots = [slot for cls in type(thing).__mro__ for slot in getattr(cls, "__slots__", ())]
        yield from ((slot, getattr(thing, slot, None)) for slot in slots)
        if isinstance(call := vars(type(thing)).get("__call__"), types.FunctionType):
            yield name, call


@functools.lru_cache(maxsize=1024)
def _global_names(code: types.CodeType) -> tuple[str, ...]:
    inner = (n for const in code.co_consts if isinstance(const, types.CodeType) for n in _global_names(const))
    return (*code.co_names, *inner)


def _is_lazy(module: nn.Module) -> bool:
    """Whether its first forward pass has still to make its parameters, which stay."""
    return isinstance(module, LazyModuleMixin) and module.has_uninitialized_params()


def _is_plain(value: Any) -> bool:
    """Whether it is a number or the like, or a tuple of these."""
    kind = type(value)
    return kind in _ATOMS or (kind is tuple and set(map(type, value)) <= _ATOMS)


def _on_copies(module: nn.Module, attributes: list[str], copies: dict[int, Tensor]) -> dict[str, Any]:
    """The ``__dict__`` of ``module`` with copies of its buffers and ``attributes``."""
    new = dict(vars(module))
    for key in attributes:
        new[key] = _copied(new[key], copies)
    new["_buffers"] = {key: _copied(buffer, copies) for key, buffer in new["_buffers"].items()}
    if isinstance(module, DistributedDataParallel):  # a pass of its own would begin a training step
        inside = module.module
        new["forward"] = lambda *args, **kwargs: inside(*args, **kwargs)
    return new


def _copied(value: Any, copies: dict[int, Tensor]) -> Any:
    """A copy of a tensor or plain container, with the tensors in it; every other value as it is."""
    if isinstance(value, Tensor):
        if id(value) not in copies:
            copies[id(value)] = _clone(value)
        return copies[id(value)]
    kind = type(value)
    if kind in _MAPPINGS:
        new = value.copy()
        if not set(map(type, new.values())) <= _ATOMS:
            for key, item in value.items():
                new[key] = _copied(item, copies)
        return new
    if kind in (list, deque, set):
        new = value.copy()
        if kind is not set and not set(map(type, new)) <= _ATOMS:
            for i, item in enumerate(value):
                new[i] = _copied(item, copies)
        return new
    if kind is tuple and not set(map(type, value)) <= _ATOMS:
        return tuple(_copied(item, copies) for item in value)
    return value


def _clone(tensor: Tensor) -> Tensor:
    """A copy of ``tensor``, a leaf as it is one. Parameters, and tensors without values or memory, stay themselves."""
    if type(tensor) is Tensor and not tensor.requires_grad and tensor.layout is torch.strided:
        try:
            return tensor.clone()
        except RuntimeError:
            return tensor
    if isinstance(tensor, nn.Parameter) or nn.parameter.is_lazy(tensor):
        return tensor
    try:
        if tensor.layout is torch.strided and tensor.untyped_storage().nbytes() == 0:  # sharded, or empty
            return tensor
        return tensor.detach().clone().requires_grad_(tensor.requires_grad and tensor.is_leaf)
    except (RuntimeError, NotImplementedError):  # of an odd kind: on the meta device, nested, of functorch
        return tensor


def _states(tensors: list[Tensor]) -> list[tuple[int, int]]:
    """What changes when the values of a tensor do: its version, and where they are, by ``p.data = ...``."""
    known = (Tensor, nn.Parameter)
    try:
        return [(t._version, t.data_ptr()) if type(t) in known else (0, 0) for t in tensors]
    except RuntimeError:  # some were made in inference mode, or have no memory
        return [state for t in tensors for state in (_states([t]) if len(tensors) > 1 else [(0, 0)])]


def _unknown_parameters(loss: Tensor, known: set[int], captured: Any) -> list[Tensor]:
    """A parameter in the graph of ``loss`` that is not among the ``known``, if there is one."""
    seen = {tensor.grad_fn for tensor in captured}  # made before the closure
    todo = [loss.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        flat = getattr(variable, "_is_flat_param", False)  # FSDP's own
        if type(variable) is nn.Parameter and not flat and id(variable) not in known:
            return [variable]
        todo += [following for following, _ in node.next_functions]
    return []


def _names(tensors: list[Tensor], modules: list[nn.Module], captured: dict[str, Tensor]) -> list[str]:
    names = {id(tensor): name for name, tensor in captured.items()}
    for module in reversed(modules):  # outer modules come first, and their longer names last
        names |= {id(p): name for name, p in module.named_parameters(remove_duplicate=False)}
    return sorted(names[id(tensor)] for tensor in tensors)
