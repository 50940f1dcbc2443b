"""What a closure works on in place of the user's tensors, so that these are never written.

A stand-in has the values, strides and ``requires_grad`` of its original and belongs to no graph. Tensors that share
memory have stand-ins that share memory, where these can be made from one copy of it.

Some are kept for as long as their originals live, and filled again for each block. Large ones on the CPU, since fresh
memory costs more than the copy: the price is as much memory as the original takes. On CUDA all, since CUDA graphs
record addresses, and would record a model anew for every address they meet, up to a limit where they give up. One
address for training and one for attacks makes two recordings. ``torch.compile`` without them compares no addresses, and
compiles nothing anew. One that a graph still needs is left to it, and another is made.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .holders import UNINITIALISED

KEPT_FROM = 2**17  # bytes; from here on the C library's allocator asks for fresh pages
_kept: dict[int, tuple[weakref.ref[Tensor], Tensor]] = {}  # by the identity of the original


def stand_ins(originals: Sequence[Tensor]) -> dict[int, Tensor]:
    """By the identity of each original, what stands in for it. One that cannot be copied has none."""
    found: dict[int, Tensor] = {}
    refill: dict[tuple[torch.device, torch.dtype], list[tuple[Tensor, Tensor]]] = defaultdict(list)
    with torch.no_grad():
        if any(type(tensor) is Tensor and tensor._is_view() for tensor in originals):
            found = _sharing(originals)
        for tensor in originals:
            if id(tensor) in found:
                continue
            try:
                old = _take(tensor) if id(tensor) in _kept else None
                if old is None:
                    found[id(tensor)] = _copy(tensor)
                else:
                    found[id(tensor)] = old
                    refill[tensor.device, tensor.dtype].append((old, tensor))
            except Exception:  # an odd tensor costs nothing but its own protection
                continue
        for pairs in refill.values():
            torch._foreach_copy_([new for new, _ in pairs], [old for _, old in pairs])
    return found


def keeps_address(original: Tensor) -> bool:
    """Whether its stand-in is kept."""
    return original.is_cuda or original.numel() * original.element_size() >= KEPT_FROM


def keep(pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
    """After a block, of (original, stand-in): what is kept for the next, unless the block left it in a graph."""
    for original, stand_in in pairs:
        if keeps_address(original) and stand_in.grad_fn is None and _is_strided(stand_in) and not stand_in._is_view():
            _keep(original, stand_in)


def _keep(original: Tensor, stand_in: Tensor) -> None:
    key = id(original)
    _kept[key] = weakref.ref(original, lambda _: _kept.pop(key, None)), stand_in


def _take(original: Tensor) -> Tensor | None:
    """The stand-in of last time, if it is still like its original. It is taken out, so that a block within a block
    gets another one."""
    held, stand_in = _kept.pop(id(original))
    if held() is not original or stand_in._use_count() > 1:  # a graph has saved it
        return None
    return stand_in if _layout(original) == _layout(stand_in) and not stand_in.is_inference() else None


def _layout(tensor: Tensor) -> tuple[object, ...]:
    wants_grad = tensor.requires_grad and tensor.is_leaf
    return type(tensor), wants_grad, tensor.dtype, tensor.device, tensor.shape, tensor.stride()


def _sharing(originals: Sequence[Tensor]) -> dict[int, Tensor]:
    """Stand-ins of tensors that share memory, which is copied once, if they cover no less than there is of it."""
    groups: dict[int, list[Tensor]] = defaultdict(list)
    for tensor in originals:
        if type(tensor) is Tensor and _is_strided(tensor) and tensor.device.type != "meta" and not tensor.requires_grad:
            groups[tensor.untyped_storage()._cdata].append(tensor)
    found: dict[int, Tensor] = {}
    for group in groups.values():
        storage = group[0].untyped_storage()
        if len(group) > 1 and storage.nbytes() <= sum(t.numel() * t.element_size() for t in group):
            memory = storage.clone()
            for t in group:
                copy = torch.empty(0, dtype=t.dtype, device=t.device)
                found[id(t)] = copy.set_(memory, t.storage_offset(), t.shape, t.stride())  # type: ignore[call-overload]
    return found


def _is_strided(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_nested


def _copy(tensor: Tensor) -> Tensor:
    if (
        type(tensor) is Tensor
        and not tensor.requires_grad
        and tensor.layout is torch.strided
        and tensor.is_contiguous()
    ):
        return tensor.clone()
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
