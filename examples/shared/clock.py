"""Where the time goes: each moment belongs to one phase of a step."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class Clock:
    """Seconds of each phase: of the device's own time on CUDA, which runs behind the processor, else of the clock's.

    What happens within :meth:`phase` belongs to it, and what happens outside to "step".
    """

    def __init__(self, device: torch.device | str) -> None:
        self.cuda = torch.device(device).type == "cuda"
        self.now = "step"
        self.marks: list[tuple[str, Any]] = [("", self._mark())]  # a phase, and when it ended

    def _mark(self) -> Any:
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _to(self, name: str) -> str:
        self.marks.append((self.now, self._mark()))
        before, self.now = self.now, name
        return before

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What happens within takes its time from the phase around it."""
        before = self._to(name)
        try:
            yield
        finally:
            self._to(before)

    def watch(self, module: nn.Module, name: str) -> None:
        """Every call of ``module`` is a phase."""
        before: list[str] = []
        module.register_forward_pre_hook(lambda *_: before.append(self._to(name)))
        module.register_forward_hook(lambda *_: self._to(before.pop()) and None, always_call=True)

    def read(self) -> dict[str, float]:
        """Seconds of each phase since the last reading."""
        self._to(self.now)
        if self.cuda:
            torch.cuda.synchronize()
        spent: Counter[str] = Counter()
        for (_, start), (name, stop) in zip(self.marks, self.marks[1:], strict=False):
            spent[name] += start.elapsed_time(stop) / 1000 if self.cuda else stop - start
        self.marks = self.marks[-1:]
        return dict(spent)
