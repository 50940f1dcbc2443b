"""What a method adds to a backbone: heads, a loss between two views, and what an attack on a view raises."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

Features = Callable[[Tensor], Tensor]


class View(NamedTuple):
    """A batch of views as the networks see it. In a run of many processes these are the views of all of them."""

    features: Tensor  # (B, width) of the backbone
    target: Tensor | None = None  # (B, D) embedding by the target network, for methods that have one

    def detach(self) -> View:
        """The same without a gradient."""
        return View(*(part if part is None else part.detach() for part in self))


class Method(nn.Module):
    """Heads and losses on top of a backbone with ``width`` features. Losses see the global batch."""

    recipe: ClassVar[dict[str, Any]]  # its settings in train.Config, from the paper
    momentum: ClassVar[float | None] = None  # of a target network: a moving average of backbone and projector
    projector: nn.Module

    def embed(self, features: Tensor) -> Tensor:
        """Features (B, width) to the embedding (B, D) that the loss compares."""
        return self.projector(features)

    def loss(self, a: View, b: View) -> Tensor:
        """The training loss between two views of the same images, shape ()."""
        raise NotImplementedError

    def attack(self, features: Features, anchor: View) -> Callable[[Tensor], Tensor]:
        """What an attack raises: a closure of views, with the ``anchor`` held fixed."""
        raise NotImplementedError

    def constant_lr(self) -> Iterable[nn.Parameter]:
        """Parameters whose learning rate does not follow the schedule."""
        return ()

    def update(self, views: list[View]) -> None:
        """After a step: queues, prototypes."""
