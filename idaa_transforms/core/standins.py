"""What a closure works on in place of the user's tensors, so that these are never written.

A stand-in has the values, strides and ``requires_grad`` of its original and belongs to no graph. Tensors that share
memory on the CPU have stand-ins that do, if together they are as large as that memory.

Some are kept for as long as their originals live, and filled again for each block. Large ones on the CPU, since fresh
memory costs more than the copy: the price is as much memory as the original takes. On CUDA all, since CUDA graphs
record addresses, and would record a model anew for every address they meet, up to a limit where they give up. One
address for training and one for attacks makes two recordings. ``torch.compile`` without them compares no addresses, and
compiles nothing anew. One that a graph still needs is left to it, and another is made.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

from .holders import UNINITIALISED

KEPT_FROM = 2**15  # numbers; for these the C library's allocator asks for fresh pages
_use_count: Callable[[Tensor], int] = torch.Tensor._use_count  # type: ignore[attr-defined]
_kept: dict[int, tuple[weakref.ref[Tensor], Tensor]] = {}  # by the identity of the original


def stand_ins(originals: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """By the identities of ``originals``, what stands in for them. One that cannot be copied has none."""
    found: dict[int, Tensor] = {}
    refill: dict[tuple[torch.device, torch.dtype], list[tuple[Tensor, Tensor]]] = defaultdict(list)
    with torch.no_grad():
        if any(type(tensor) is Tensor and tensor._is_view() for tensor in originals.values()):
            found = _sharing(originals.values())
            originals = {key: tensor for key, tensor in originals.items() if key not in found}
        for key, tensor in originals.items():
            try:
                if key in _kept and (old := _take(tensor)) is not None:
                    found[key] = old
                    refill[tensor.device, tensor.dtype].append((old, tensor))
                elif type(tensor) is Tensor and not tensor.requires_grad and tensor.is_contiguous():
                    found[key] = tensor.clone()
                else:
                    found[key] = _copy(tensor)
            except Exception:  # an odd tensor costs nothing but its own protection
                continue
        for pairs in refill.values():
            torch._foreach_copy_([new for new, _ in pairs], [old for _, old in pairs])
    return found


def keeps_address(original: Tensor) -> bool:
    """Whether its stand-in is kept."""
    return original.numel() >= KEPT_FROM or original.is_cuda


def keep(originals: Mapping[int, Tensor], used: Mapping[int, Tensor]) -> None:
    """After a block: what of the stand-ins ``used`` is kept for the next one, unless the block left it in a graph."""
    for key, new in used.items():
        old = originals[key]
        if type(old) is Tensor and keeps_address(old) and _is_strided(new) and not (new.grad_fn or new._is_view()):
            _keep(old, new)


def _keep(original: Tensor, stand_in: Tensor) -> None:
    key = id(original)
    _kept[key] = weakref.ref(original, lambda _: _kept.pop(key, None)), stand_in


def _take(original: Tensor) -> Tensor | None:
    """The stand-in of last time, if it is still like its original. It is taken out, so that a block within a block
    gets another one."""
    held, stand_in = _kept.pop(id(original))
    if held() is not original or _use_count(stand_in) > 1:  # a graph has saved it
        return None
    return stand_in if _layout(original) == _layout(stand_in) and not stand_in.is_inference() else None


def _layout(tensor: Tensor) -> tuple[object, ...]:
    wants_grad = tensor.requires_grad and tensor.is_leaf
    return wants_grad, tensor.dtype, tensor.device, tensor.shape, tensor.stride()


def _sharing(originals: Iterable[Tensor]) -> dict[int, Tensor]:
    """Stand-ins of tensors that share memory, which is copied once, if they cover no less than there is of it. On the
    CPU alone: on CUDA addresses matter more."""
    groups: dict[int, list[Tensor]] = defaultdict(list)
    for tensor in originals:
        if type(tensor) is Tensor and tensor.device.type == "cpu" and _is_strided(tensor) and not tensor.requires_grad:
            try:
                groups[tensor.untyped_storage()._cdata].append(tensor)
            except RuntimeError:  # a tensor of torch.func has no memory of its own
                continue
    found: dict[int, Tensor] = {}
    for group in groups.values():
        storage = group[0].untyped_storage()
        if len(group) > 1 and storage.nbytes() <= sum(t.numel() * t.element_size() for t in group):
            memory = storage.clone()
            for t in group:
                whole = torch.empty(0, dtype=t.dtype).set_(memory)
                with torch.enable_grad():  # or else autograd would not allow to write to the view
                    found[id(t)] = whole.as_strided(t.shape, t.stride(), t.storage_offset())
    return found


def _is_strided(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_nested


def _copy(tensor: Tensor) -> Tensor:
    """A copy of an odd one."""
    if issubclass(type(tensor), (nn.Parameter, UNINITIALISED)):
        raise TypeError("parameters and what has no values yet have no stand-in")
    wants_grad = tensor.requires_grad and tensor.is_leaf
    tensor = tensor.detach()
    if _is_strided(tensor) and 0 in tensor.stride():  # expanded: so is the copy
        first = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in tensor.stride())
        copy = tensor[first].clone().expand(tensor.shape)
    else:
        copy = tensor.clone()
    return copy.requires_grad_() if wants_grad else copy
