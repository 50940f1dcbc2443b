"""One call of an attack: all that was said, resolved once."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .direction import check_loss
from .functional import Loss


class Call(NamedTuple):
    """Images, where to go, how far, and which of the images."""

    x: Tensor  # outside of inference mode and of any graph
    loss_fn: Loss | None
    grad: Tensor | None
    eps: float | Tensor
    generator: torch.Generator | None
    rows: Tensor | None  # those to attack; None: all

    def pick(self, value: Any) -> Any:
        """Of a tensor with a row for each image, the rows to attack."""
        return value[self.rows] if self.rows is not None and isinstance(value, Tensor) else value

    def whole(self, part: Tensor) -> Tensor:
        """The batch with the attacked rows replaced by ``part``."""
        return part if self.rows is None else self.x.index_copy(0, self.rows, part)

    def loss(self, views: Tensor) -> Tensor:
        """What the closure says of the whole batch, checked."""
        assert self.loss_fn is not None
        return check_loss(self.loss_fn(views), views)

    def measure(self, views: Tensor) -> Tensor:
        """The loss of a copy of ``views``, as the closure returns it; by a gradient, the product with it."""
        if self.grad is not None:
            return (self.grad * views).flatten(1).sum(1)
        assert self.loss_fn is not None
        return self.loss_fn(views.clone())
