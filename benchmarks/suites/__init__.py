"""What bench.py can measure. Each module has ``TITLE``, and ``run(options)``, which yields the rows of its result."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """The command line's options, for every suite."""

    device: str = "cpu"
    dtype: str = "float32"
    batch: int = 32
    repeats: int = 15
    weights: tuple[str, ...] = ("cifar10-vae", "cifar10-vae-small")
