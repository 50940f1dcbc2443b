"""What happened so far: counts, and what was told once."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from .direction import ZERO_CURE, ZeroGradientWarning, check_gradient
from .functional import Views


class Counters(nn.Module):
    """Counts of an attack. The one of images without a direction lives on the device, so that no call waits for it."""

    unchanged: Tensor

    @torch.inference_mode(False)
    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.register_buffer("unchanged", torch.zeros((), dtype=torch.int64, device=device), persistent=False)
        self.calls = self.attacked = 0
        self.values_were_read = self.zero_was_told = False

    def add(self, found: Views) -> None:
        """One more attack."""
        self.calls, self.attacked = self.calls + 1, self.attacked + len(found.views)
        self.unchanged += (~(found.finite & found.delta.flatten(1).any(1))).sum()

    def read(self, found: Views, loss: Tensor | None) -> None:
        """Look at the values of the first gradient and loss, see :func:`~.direction.check_gradient`."""
        problem = check_gradient(found.gradient, loss)
        self.values_were_read = True
        if problem and not self.zero_was_told:
            self.zero_was_told = True
            warnings.warn(f"{problem}; {ZERO_CURE}", ZeroGradientWarning, stacklevel=2)

    def compute(self) -> dict[str, int]:
        """The counts. Synchronises."""
        return {"calls": self.calls, "attacked": self.attacked, "unchanged": int(self.unchanged)}
