"""What a closure works on in place of the user's tensors, so that these are never written.

A stand-in has the values, strides and ``requires_grad`` of its original and belongs to no graph. On the CPU it is made
anew for each block. On CUDA it is kept for as long as its original lives and filled again: CUDA graphs record
addresses, and would record a model anew for every address they meet, up to a limit where they give up. One address for
training and one for attacks makes two recordings. ``torch.compile`` without them compares no addresses, and compiles
nothing anew.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .search import UNINITIALISED

_kept: dict[int, tuple[weakref.ref[Tensor], Tensor]] = {}  # by the identity of the original


def stand_ins(originals: Sequence[Tensor]) -> dict[int, Tensor]:
    """By the identity of each original, what stands in for it. One that cannot be copied has none."""
    found: dict[int, Tensor] = {}
    refill: dict[tuple[torch.device, torch.dtype], list[tuple[Tensor, Tensor]]] = defaultdict(list)
    with torch.no_grad():
        for tensor in originals:
            try:
                old = _take(tensor) if _kept else None
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
    """Whether CUDA graphs may hold the address of its stand-in."""
    return original.is_cuda


def keep(original: Tensor, stand_in: Tensor) -> None:
    """After a block: the stand-in for the next one, unless the block left it in a graph."""
    if not keeps_address(original) or stand_in.grad_fn is not None or stand_in._is_view():
        return
    key = id(original)
    _kept[key] = weakref.ref(original, lambda _: _kept.pop(key, None)), stand_in


def _take(original: Tensor) -> Tensor | None:
    """The stand-in of last time, if it is still like its original. It is taken out, so that a block within a block
    gets another one."""
    held, stand_in = _kept.pop(id(original), (None, None))
    if held is None or stand_in is None or held() is not original:
        return None
    return stand_in if _layout(original) == _layout(stand_in) and not stand_in.is_inference() else None


def _layout(tensor: Tensor) -> tuple[object, ...]:
    wants_grad = tensor.requires_grad and tensor.is_leaf
    return type(tensor), wants_grad, tensor.dtype, tensor.device, tensor.shape, tensor.stride()


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
    if tensor.layout is torch.strided and not tensor.is_nested and 0 in tensor.stride():  # expanded: so is the copy
        first = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in tensor.stride())
        copy = tensor[first].clone().expand(tensor.shape)
    else:
        copy = tensor.clone()
    return copy.requires_grad_() if wants_grad else copy
