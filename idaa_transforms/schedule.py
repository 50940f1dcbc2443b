"""eps over a training run."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal


@dataclasses.dataclass(frozen=True)
class EpsSchedule:
    """eps as a function of the training step, so that it goes on where an interrupted run left off.

    Args:
        first, last: eps at step 0 and from ``steps`` on, in the transform's unit of eps.
        steps: over how many steps it goes from one to the other.
        shape: ``"linear"``, or ``"cosine"``: slow at both ends.

    Example:
        >>> schedule = EpsSchedule(0.0, 0.1, steps=1000)
        >>> views = aug(x, loss_fn=nce, eps=schedule(step))
    """

    first: float
    last: float
    steps: int
    shape: Literal["linear", "cosine"] = "linear"

    def __post_init__(self) -> None:
        if min(self.first, self.last) < 0 or not math.isfinite(self.first + self.last) or self.steps < 1:
            raise ValueError(f"{self} needs finite first and last of at least 0, and at least one step")
        if self.shape not in ("linear", "cosine"):
            raise ValueError(f"shape={self.shape!r} is not one of ('linear', 'cosine')")

    def __call__(self, step: int) -> float:
        """eps at ``step``, counted from 0."""
        done = min(max(step / self.steps, 0.0), 1.0)
        done = done if self.shape == "linear" else (1 - math.cos(math.pi * done)) / 2
        return (1 - done) * self.first + done * self.last
