"""Check the settings of a transform. The docstrings of the transforms explain them."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any, Literal

from .checks import check_radius, is_number

EpsUnit = Literal["latent", "posterior"]


def _optional(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda name, value: None if value is None else check(name, value)


def _one_of(*allowed: str) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        if value not in allowed:
            raise ValueError(f"{name}={value!r} is not one of {allowed}")
        return str(value)

    return check


def _count(name: str, value: Any) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}={value!r} must be a whole number of at least 1")
    return int(value)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name}={value!r} must be True or False")
    return value


def _probability(name: str, value: Any) -> float:
    if not is_number(value) or not 0 <= value <= 1:
        raise ValueError(f"{name}={value!r} is a probability; it must lie in [0, 1]")
    return float(value)


def _range(name: str, value: Any) -> tuple[float, float]:
    try:
        low, high = map(float, value)
    except (TypeError, ValueError):
        low = high = 0.0
    if not low < high:
        raise ValueError(f"{name}={value!r} must be None or (lo, hi) with lo < hi")
    return low, high


CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "eps": check_radius,
    "norm": _one_of("linf", "l2"),
    "steps": _count,
    "step_size": _optional(check_radius),
    "random_start": _flag,
    "eps_unit": _one_of("latent", "posterior"),
    "target_gain": _optional(check_radius),
    "p": _probability,
    "clip": _optional(_range),
    "chunk_size": _optional(_count),
}


def check_statistics(mean: Any, std: Any) -> tuple[tuple[float, ...], tuple[float, ...]] | tuple[None, None]:
    """What x is normalised by: a number for each channel, or None and None."""
    if mean is None and std is None:
        return None, None
    try:
        mean, std = tuple(map(float, mean)), tuple(map(float, std))
        if not mean or len(mean) != len(std) or min(std) <= 0:
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(
            f"mean={mean!r} and std={std!r} say together what images are normalised by: a list each, with one number "
            "for each channel, std above 0"
        ) from None
    return mean, std


def check_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that were saved beside weights, checked."""
    unknown = sorted(settings.keys() - CHECKS.keys() - {"mean", "std"})
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not a setting; settings are {', '.join(CHECKS)}, mean, std")
    checked = {name: CHECKS[name](name, value) for name, value in settings.items() if name in CHECKS}
    mean, std = check_statistics(settings.get("mean"), settings.get("std"))
    return checked if mean is None else checked | {"mean": mean, "std": std}
