"""Everything that can be set on an attack: said, checked and described here, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from numbers import Integral
from typing import Any, TypedDict

from .ascent import Norm, Scale, Start
from .checks import check_radius
from .guard import Guard

CHOICES = {"norm": ("linf", "l2"), "start": ("zero", "uniform"), "scale": ("latent", "posterior")}


@dataclass(frozen=True)
class Settings:
    """How an attack moves images, checked when it is made.

    Args:
        eps: how far delta may go, in units of the latent's scale; of CLAE, in pixels of [0, 1].
        norm: ``"linf"`` or ``"l2"``: the norm of delta that eps bounds.
        steps: gradient steps within the ball; the paper takes one.
        step_size: length of a step, in the unit of eps; by default ``min(1, 2.5 / steps) * eps`` (Madry et al., 2018).
        start: where delta starts: ``"zero"``, as in the paper, or ``"uniform"``, anywhere in the ball.
        scale: the unit of eps: ``"latent"``, the spread of the latent over images, or ``"posterior"``, for each number
            of each latent its own standard deviation (try ``eps=7, norm="l2"`` with it).
        target_gain: how much each image's loss shall rise, instead of by all that eps allows; to first order, from the
            gradient at hand. A loss (B,) counts summed; of a mean, one image's share is 1 / B. With ``grad=``, of a
            scaled loss, this is scaled too.
        p: probability of a view, image by image; the others come back bit for bit, and are not encoded.
        clip: (lo, hi) to clamp views to, in image units; by default, as in the paper, views may leave [0, 1] a little.
        mean: what x is normalised by, a number a channel; by default x is in [0, 1].
        std: goes with ``mean``.
        resize: let images have another size than the autoencoder, which then sees them resampled; False refuses them.
        chunk_size: images that pass the autoencoder at once, which bounds its memory; by default all.
        strict: check values on every call, and name what a closure changed (it is put back in any case).
        guard: ``Guard(judge, 0.95)``: a judge of identity that views have to pass.
    """

    eps: float
    norm: Norm = "linf"
    steps: int = 1
    step_size: float | None = None
    start: Start = "zero"
    scale: Scale = "latent"
    target_gain: float | None = None
    p: float = 1.0
    clip: tuple[float, float] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: bool = True
    chunk_size: int | None = None
    strict: bool = False
    guard: Guard | None = None

    def __post_init__(self) -> None:
        for name in ("eps", "step_size", "target_gain", "p"):
            self._store(name, check_radius(name, getattr(self, name), optional=name in ("step_size", "target_gain")))
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} is not one of {allowed}")
        for name in ("steps", "chunk_size"):
            value = getattr(self, name)
            if value is None and name == "chunk_size":
                continue
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name}={value!r} must be a whole number of at least 1")
            self._store(name, int(value))
        if self.target_gain is not None and self.start != "zero":
            raise ValueError(f"target_gain counts from the image itself, and start={self.start!r} does not begin there")
        if self.p > 1:
            raise ValueError(f"p={self.p!r} is a probability; it must lie in [0, 1]")
        if self.clip is not None:
            if not (len(self.clip) == 2 and self.clip[0] < self.clip[1]):
                raise ValueError(f"clip={self.clip!r} must be None or (lo, hi) with lo < hi")
            self._store("clip", tuple(map(float, self.clip)))
        if not isinstance(self.resize, bool):
            raise ValueError(f"resize={self.resize!r} must be True or False")
        self._check_statistics()
        if self.guard is not None and not isinstance(self.guard, Guard):
            raise TypeError(
                f"guard is a {type(self.guard).__name__}; say which judge and how similar: "
                "guard=Guard(judge, 0.95), with Guard from idaa_transforms"
            )

    def _check_statistics(self) -> None:
        mean, std = self.mean, self.std
        if (mean is None) != (std is None):
            raise ValueError(f"mean={mean} and std={std} describe normalised images together; give both or neither")
        if mean is not None and std is not None:
            mean, std = tuple(map(float, mean)), tuple(map(float, std))
            if len(mean) != len(std) or not mean or min(std) <= 0:
                raise ValueError(f"mean={mean} and std={std} need one number a channel each, std above 0")
            self._store("mean", mean)
            self._store("std", std)

    def _store(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def replace(self, **changes: Any) -> Settings:
        """The same with ``changes``, checked."""
        return replace(self, **changes)

    def changed(self) -> dict[str, Any]:
        """eps, and what differs from its default, by name."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {n: value for n, value in values.items() if n == "eps" or value != DEFAULTS[n]}

    def saved(self) -> dict[str, Any]:
        """What is written beside weights: :meth:`changed`, without the guard, which is the caller's."""
        return {name: value for name, value in self.changed().items() if name != "guard"}


DEFAULTS = {each.name: each.default for each in fields(Settings)}
SAVED = frozenset(DEFAULTS) - {"guard"}


class OptionsButP(TypedDict, total=False):
    """The settings as keyword arguments, for signatures with an eps and a p of their own."""

    norm: Norm
    steps: int
    step_size: float | None
    start: Start
    scale: Scale
    target_gain: float | None
    clip: Sequence[float] | None
    mean: Sequence[float] | None
    std: Sequence[float] | None
    resize: bool
    chunk_size: int | None
    strict: bool
    guard: Guard | None


class Options(OptionsButP, total=False):
    """The settings as keyword arguments, for signatures with an eps of their own."""

    p: float


class Setting:
    """A setting as an attribute of what holds ``settings``: ``aug.eps = 0.2`` is checked like the constructor's."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        return self if owner is None else getattr(owner.settings, self.name)

    def __set__(self, owner: Any, value: Any) -> None:
        owner.settings = owner.settings.replace(**{self.name: value})
