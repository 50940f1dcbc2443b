"""A flat dataclass of settings as a command line: --eps 0.3, --no-dual-bn, --jitter .4 .4 .4 .1."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin, get_type_hints


def command_line(settings: type, about: str | None = None) -> argparse.ArgumentParser:
    """A parser with an option for each field of ``settings``. What is not said is not in its result, so that recipes
    can go between the defaults and the command line."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    types = get_type_hints(settings)
    for one in fields(settings):
        kind, choices = types[one.name], get_args(types[one.name])
        options: dict[str, Any] = {"type": kind}
        if kind in (bool, bool | None):
            options = {"action": argparse.BooleanOptionalAction}
        elif get_origin(kind) is Literal:
            options = {"choices": choices, "type": type(choices[0])}
        elif get_origin(kind) is tuple:
            options = {"type": choices[0], "nargs": "+"}
        elif get_origin(kind) is dict:
            options = {"type": json.loads}
        parser.add_argument(f"--{one.name.replace('_', '-')}", default=argparse.SUPPRESS, **options)
    return parser


def run_name(axes: Iterable[Any], said: dict[str, Any], silent: Iterable[str]) -> str:
    """A name for the folder of a run: the ``axes`` of its grid, then what else was ``said`` on the command line and is
    not ``silent``."""
    return "-".join([*map(str, axes), *(f"{name}={value}" for name, value in said.items() if name not in silent)])
