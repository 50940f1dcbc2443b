"""Random augmentation around the attack: one draw that is used twice, and which step changes the range of images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

from .core import checks
from .core.attack import Attack
from .core.binding import WithClosure


class Step(NamedTuple):
    """One step of a pipeline and the images that it gave."""

    name: str
    dtype: torch.dtype
    low: float
    high: float
    changed: bool  # whether it led images into [0, 1], out of it, or to another kind of dtype

    def __str__(self) -> str:
        mark = "  <- changes the range" if self.changed else ""
        return f"{self.name:<24} {str(self.dtype)[6:]:<9} {self.low:>8.3g} .. {self.high:<8.3g}{mark}"


def check_pipeline(pipeline: Any, images: Tensor) -> list[Step]:
    """Follow the range of ``images`` through ``pipeline``: does each attack in it get the range that it was told?

    An attack takes images in [0, 1] or, where it has ``mean`` and ``std``, normalised by them. It is not run here, so
    that no closure is needed. ``print(*check_pipeline(pipeline, images), sep="\\n")`` shows all steps.

    Args:
        pipeline: a v2.Compose, nn.Sequential or container of kornia's, nested as may be, or a list of callables.
        images: (B, C, H, W), a batch as the training loop has it, of any dtype.

    Raises:
        ValueError: where an attack gets another range: which step changed it last, and the cure.
    """
    steps = [_measure("input", images)]
    for step in _steps(pipeline):
        attack = _attack(step)
        images = images if attack else step(images)
        steps.append(_measure(type(step).__name__, images, steps[-1]))
        problem = _problem(images, attack) if attack else None
        if problem:
            source = max((i for i, s in enumerate(steps) if s.changed), default=0)
            table = "\n".join(f"  {i} {line}" for i, line in enumerate(steps))
            raise ValueError(
                f"step {len(steps) - 1}, {steps[-1].name}: {problem}. "
                f"Step {source}, {steps[source].name}, gave them this range:\n{table}"
            )
    return steps


def _measure(name: str, images: Tensor, before: Step | None = None) -> Step:
    step = Step(name, images.dtype, float(images.amin()), float(images.amax()), False)
    return step._replace(changed=before is not None and _kind(step) != _kind(before))


def _kind(step: Step) -> tuple[bool, bool]:
    return step.dtype.is_floating_point, step.low >= -0.01 and step.high <= 1.01


def _problem(images: Tensor, attack: Attack) -> str | None:
    try:
        checks.check_images(images, attack.codec.axes, images.device)
        checks.check_range(images, attack.settings.mean, attack.settings.std, attack.codec.axes)
    except (TypeError, ValueError) as error:
        return str(error)
    mean, std = attack.settings.mean, attack.settings.std
    if mean is not None and bool((images >= 0).all()):
        return (
            f"images were declared to be normalised by mean={mean} and std={std}, and none of their "
            "values is below 0; leave mean and std out for images in [0, 1], or normalise before"
        )
    return None


def _steps(pipeline: Any) -> Iterator[Any]:
    """The steps of nested containers, one after another."""
    if isinstance(pipeline, v2.Compose):
        pipeline = pipeline.transforms
    elif isinstance(pipeline, nn.Sequential):  # kornia's containers are of this kind too
        pipeline = list(pipeline)
    if isinstance(pipeline, list | tuple):
        for part in pipeline:
            yield from _steps(part)
    else:
        yield pipeline


def _attack(step: Any) -> Attack | None:
    """The attack that ``step`` is or holds: a kornia augmentation as ``attack``, a bound one as ``transform``."""
    if isinstance(step, Attack):
        return step
    inside = step.transform if isinstance(step, WithClosure) else getattr(step, "attack", None)
    return _attack(inside) if isinstance(inside, nn.Module) else None
