"""What bench.py can measure. Each module has ``run(options)``, which yields the rows of its result."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """What the command line says to every suite."""

    device: str = "cpu"
    dtype: str = "float32"
    batch: int = 32
    batches: tuple[int, ...] = (1, 8, 32, 128)
    repeats: int = 15
    weights: tuple[str, ...] = ("cifar10-vae", "cifar10-vae-small")
