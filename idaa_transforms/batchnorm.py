"""Dual batch norm: adversarial views have statistics of their own.

Clean and adversarial images come from two distributions. Batch norm that sees both at once fits neither, so each layer
gets a twin for adversarial views, with its own affine parameters and running statistics, and everything else is shared.
AdvProp (Xie et al., CVPR 2020) and the IDAA paper train this way and evaluate with the clean one.

timm's ``convert_splitbn_model`` splits a batch in two halves along its first dimension instead, which needs clean and
adversarial images in one batch, in equal number. Here the caller says which they are, for any batch.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

Branch = Literal["clean", "adversarial"]


class DualBatchNorm(nn.Module):
    """A batch norm and its twin. ``active`` says which of them counts; :func:`branch` sets it."""

    def __init__(self, clean: nn.Module, momentum: float | None) -> None:
        super().__init__()
        self.clean, self.adversarial = clean, copy.deepcopy(clean)
        self.adversarial.momentum = momentum  # type: ignore[assignment]
        self.active: Branch = "clean"
        self._in_block: list[float] = []  # passes in each open block that backward has not run again

    def forward(self, x: Tensor) -> Tensor:
        """What the active one makes of x. Under activation checkpointing statistics move twice, as those of any batch
        norm do.

        Raises:
            RuntimeError: where activation checkpointing runs a part of the model again outside of its block.
        """
        again = _in_backward()
        if again and (not self._in_block or not self._in_block[-1]):
            raise RuntimeError(
                "activation checkpointing runs dual batch norm again outside of the `with branch` block of its forward "
                "pass, so that its branch is not known; call backward inside the block, once for each block. Clean "
                "passes need one too: `with branch(model, 'clean'):`"
            )
        if self._in_block and not torch.compiler.is_compiling():
            self._in_block[-1] += -1 if again else 1
        return self.clean(x) if self.active == "clean" else self.adversarial(x)

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
    modules = list(model.modules())
    if any(isinstance(module, DualBatchNorm) for module in modules):
        raise ValueError("the model has dual batch norm already; convert it once")
    norms = [module for module in modules if isinstance(module, _BatchNorm)]
    if not norms:
        kinds = sorted({type(m).__name__ for m in modules if "norm" in type(m).__name__.lower()})
        raise ValueError(
            f"{type(model).__name__} has no batch norm{f' but {kinds}' if kinds else ''}: it does not mix "
            "the statistics of clean and adversarial images, and needs no conversion"
        )
    return _replace(model, {module: DualBatchNorm(module, momentum) for module in norms})


def strip_dual_batchnorm(model: nn.Module) -> nn.Module:
    """The plain model again, with the clean batch norms and plain state-dict keys; in place, and returned."""
    return _replace(model, {module: module.clean for module in _duals(model)})


@contextmanager
def branch(model: nn.Module, name: Branch) -> Iterator[None]:
    """``with branch(model, "adversarial"): z = model(views)``. Afterwards, also after an exception, all is as before.

    The backward pass may follow after the block, except under activation checkpointing, which runs parts of the model
    again in the backward pass: call it inside the block then, and for an attack open the block around ``aug(...)``.

    Raises:
        ValueError: for another name, or a model without dual batch norm.
    """
    if name not in ("clean", "adversarial"):
        raise ValueError(f"branch {name!r} is neither 'clean' nor 'adversarial'")
    before = [(module, module.active, module._in_block) for module in _duals(model)]
    try:
        passes = math.inf if _in_backward() else 0  # a block that is run again knows its branch
        for module, _, counts in before:
            module.active, module._in_block = name, [*counts, passes]
        yield
    finally:
        for module, active, counts in before:
            module.active, module._in_block = active, counts


def _in_backward() -> bool:
    return not torch.compiler.is_compiling() and torch._C._current_autograd_node() is not None


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
