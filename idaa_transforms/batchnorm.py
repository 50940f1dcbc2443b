"""Dual batch norm: adversarial views have statistics of their own.

Clean and adversarial images come from two distributions. Batch norm that sees both at once fits neither, so each layer
gets a twin for adversarial views, with its own affine parameters and running statistics, and everything else is shared.
AdvProp (Xie et al., CVPR 2020) and the IDAA paper train this way and evaluate with the clean one.

timm's ``convert_splitbn_model`` splits a batch in two halves along its first dimension instead, which needs clean and
adversarial images in one batch, in equal number. Here the caller says which they are, for any batch.

Activation checkpointing runs parts of the model a second time during the backward pass, when the ``with branch`` block
of the first time is over. Every node of an autograd graph carries the sequence number at which it was made, and each
block notes the numbers at which it begins and ends: so the node that asks for a recomputation tells its branch.
"""

from __future__ import annotations

import copy
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from .autoencoders.codec import Codec

Branch = Literal["clean", "adversarial"]
_BLOCKS = 1024  # that a norm remembers


class _History:
    """When the branch of a norm changed: (sequence number, branch from there on), for the last blocks.

    Kept outside the norm, so that copies, pickles and compiled code know nothing of it.
    """

    def __init__(self, active: Branch) -> None:
        self.changes: deque[tuple[int, Branch]] = deque([(-1, active)], maxlen=2 * _BLOCKS)
        self.thread: int | None = threading.get_ident()  # whose numbers these are; None once there were several
        self.opened_in_backward = 0  # blocks that a recomputation is in
        self.asked = -1  # the number that `at` was asked for last

    def seen(self) -> None:
        """Called in a forward pass or block: sequence numbers are counted by each thread for itself."""
        if self.thread != threading.get_ident():
            self.thread = None

    def changes_to(self, name: Branch) -> None:
        """Called where a block begins or ends, in the forward pass."""
        self.seen()
        self.changes.append((torch._C._autograd._get_sequence_nr(), name))

    def opens_in_backward(self, name: Branch) -> None:
        """Called where a recomputation comes to a block of its own. What it ran before the block was on the branch of
        the node that asked; but that node may lie in this very block."""
        if (number := _number_of_recomputed()) == self.asked and self.at(number) == name:
            raise RuntimeError(
                "a checkpointed part of the model runs dual batch norm outside and then inside a `with branch` block: "
                "when it is run again, the branch of the first is not known; open a block for each, or checkpoint them "
                "one by one"
            )
        self.opened_in_backward += 1

    def at(self, number: int) -> Branch:
        """The branch that was active when the node of this number was made."""
        self.asked = number
        if self.thread is None:
            raise RuntimeError(
                "a checkpointed dual batch norm ran in several threads, so that the branch of its recomputation is not "
                "known; run forward passes and `with branch` blocks in one thread, or turn activation checkpointing off"
            )
        for since, name in reversed(self.changes):
            if since <= number:
                return name
        raise RuntimeError(
            f"this backward pass recomputes a forward pass that is more than {_BLOCKS:,} `with branch` blocks old, and "
            "its branch is no longer known; call backward earlier"
        )


_histories: WeakKeyDictionary[DualBatchNorm, _History] = WeakKeyDictionary()


class DualBatchNorm(nn.Module):
    """A batch norm and its twin. ``active`` says which of them counts; :func:`branch` sets it."""

    def __init__(self, clean: nn.Module, momentum: float | None) -> None:
        super().__init__()
        self.clean, self.adversarial = clean, copy.deepcopy(clean)
        self.adversarial.momentum = momentum  # type: ignore[assignment]
        self.active: Branch = "clean"

    def forward(self, x: Tensor) -> Tensor:
        """What the active one makes of x; in a recomputation, what the one of the forward pass made of it."""
        if not torch.compiler.is_compiling():
            if _in_backward():
                return self._again(x)
            if history := _histories.get(self):
                history.seen()
        return self.clean(x) if self.active == "clean" else self.adversarial(x)

    def _again(self, x: Tensor) -> Tensor:
        """The same as in the forward pass, which has counted x in the running statistics already."""
        history = _histories.get(self)
        name = self.active
        if history is not None and not history.opened_in_backward:
            name = history.at(_number_of_recomputed())
        norm = self.clean if name == "clean" else self.adversarial
        kept = dict(norm._buffers)
        norm._buffers.update({key: None if b is None else b.clone() for key, b in kept.items()})
        try:
            return norm(x)
        finally:
            norm._buffers.update(kept)

    def __getattr__(self, name: str) -> Any:
        """``weight``, ``num_features`` and the like are those of the clean one, for code that asks a norm for them."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("clean"), name)

    def extra_repr(self) -> str:
        """The active branch."""
        return f"active={self.active!r}"


def convert_dual_batchnorm(model: nn.Module, momentum: float | None = 0.01) -> nn.Module:
    """Give every batch norm of ``model`` a twin for adversarial views; in place, and returned.

    BatchNorm1d, 2d, 3d, SyncBatchNorm and subclasses (timm's batch norm with activation) are converted. The twin starts
    as a copy. Convert before the optimiser is made and before DistributedDataParallel wraps the model. The autoencoder
    of a transform that is part of the model stays as it is.

    Args:
        model: with at least one batch norm, not converted yet.
        momentum: of the twins' running statistics. The default is the paper's; None averages over all batches.

    Raises:
        ValueError: for a model without batch norm, converted twice, or wrapped already.
    """
    if isinstance(model, DistributedDataParallel):
        raise ValueError("the model is wrapped in DistributedDataParallel; convert it first, then wrap it")
    inside = {module for codec in model.modules() if isinstance(codec, Codec) for module in codec.modules()}
    modules = {name: module for name, module in model.named_modules() if module not in inside}
    if any(isinstance(module, DualBatchNorm) for module in modules.values()):
        raise ValueError("the model has dual batch norm already; convert it once")
    norms = [(name, module) for name, module in modules.items() if isinstance(module, _BatchNorm)]
    if not norms:
        kinds = sorted({type(m).__name__ for m in modules.values() if "norm" in type(m).__name__.lower()})
        raise ValueError(
            f"{type(model).__name__} has no batch norm{f' but {kinds}' if kinds else ''}: it does not mix "
            "the statistics of clean and adversarial images, and needs no conversion"
        )
    return _replace(model, {module: DualBatchNorm(module, momentum) for _, module in norms})


def strip_dual_batchnorm(model: nn.Module) -> nn.Module:
    """The plain model again, with the clean batch norms and plain state-dict keys; in place, and returned."""
    return _replace(model, {module: module.clean for module in _duals(model)})


@contextmanager
def branch(model: nn.Module, name: Branch) -> Iterator[None]:
    """``with branch(model, "adversarial"): z = model(views)``. Afterwards, also after an exception, all is as before.

    The backward pass may follow after the block. Under activation checkpointing, of both kinds and in one backward pass
    of clean and hard images, what is computed again is on the branch of the forward pass, and moves no statistics.

    Raises:
        ValueError: for another name, or a model without dual batch norm.
        RuntimeError: in a backward pass, where the branch of what is computed again is not known. The text says why.
    """
    if name not in ("clean", "adversarial"):
        raise ValueError(f"branch {name!r} is neither 'clean' nor 'adversarial'")
    before = {module: module.active for module in _duals(model)}
    try:
        for module in before:
            _switch(module, name, opens=True)
        yield
    finally:
        for module, active in before.items():
            _switch(module, active, opens=False)


def _switch(module: DualBatchNorm, name: Branch, opens: bool) -> None:
    if not torch.compiler.is_compiling():
        history = _histories.setdefault(module, _History(module.active))
        if not _in_backward():
            history.changes_to(name)
        elif opens:
            history.opens_in_backward(name)
        else:
            history.opened_in_backward = max(history.opened_in_backward - 1, 0)
    module.active = name


def _in_backward() -> bool:
    return torch._C._current_autograd_node() is not None


def _number_of_recomputed() -> int:
    """The sequence number of a node of the checkpointed part that is run again.

    It is the node whose backward asked for the recomputation. Reentrant checkpoints run a backward pass of their own
    over what they recomputed, so that this node may belong to a recomputation itself: then the outermost ``backward``
    on the stack is the one that the forward pass has made.
    """
    node: Any = torch._C._current_autograd_node()
    frame = sys._getframe(1)
    while frame := frame.f_back:  # type: ignore[assignment]
        if frame.f_code.co_name == "backward" and frame.f_code.co_argcount:
            first = frame.f_locals[frame.f_code.co_varnames[0]]
            node = first if isinstance(first, Node) else node
    return int(node._sequence_nr())


def _duals(model: nn.Module) -> list[DualBatchNorm]:
    found = [module for module in model.modules() if isinstance(module, DualBatchNorm)]
    if not found:
        raise ValueError(f"{type(model).__name__} has no dual batch norm; make it so: convert_dual_batchnorm(model)")
    return found


def _replace(model: nn.Module, by: dict[Any, nn.Module]) -> nn.Module:
    """``model`` with each module that is a key of ``by`` replaced, wherever it stands, once or shared."""
    if model in by:
        return by[model]
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child in by and parent not in by:
                parent._modules[name] = by[child]
    return model
