"""The keyword arguments of an attack, for signatures that pass them on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from .ascent import Norm, Scale, Start
from .guard import Judge


class Settings(TypedDict, total=False):
    """The keyword arguments of :class:`~idaa_transforms.core.attack.Attack` that are saved with weights, beside eps."""

    norm: Norm
    steps: int
    step_size: float | None
    start: Start
    scale: Scale
    target_gain: float | None
    p: float
    clip: tuple[float, float] | None
    mean: Sequence[float] | None
    std: Sequence[float] | None
    chunk_size: int | None
    strict: bool


class Parameters(Settings, total=False):
    """All keyword arguments of :class:`~idaa_transforms.core.attack.Attack`, for signatures that pass them on."""

    guard: Judge | None
    min_similarity: float | None
    halvings: int
