"""A run of training: it goes on where it was interrupted, and says where its result comes from."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from idaa_transforms.training.run import load_checkpoint
from idaa_transforms.util.files import write_whole


def resume(checkpoint: Path, config: Any, state: dict[str, Any], place: Iterable[str]) -> tuple[int, dict[str, float]]:
    """Load ``state`` from a checkpoint; returns the epochs done, and the time they took.

    Args:
        checkpoint: what holds ``state_dict()`` of each part of ``state``, and config, epoch and spent.
        config: a dataclass, the settings of now.
        place: settings that may differ, since they decide nothing but where and how fast.

    Raises:
        ValueError: the file is damaged, of other code, or of other settings.
    """
    saved = load_checkpoint(checkpoint, config.device)
    if missing := {*state, "config", "epoch", "spent"} - saved.keys():
        raise ValueError(
            f"{checkpoint} has no {', '.join(sorted(missing))}: it is of another program; use another --out"
        )
    now, was = asdict(config), saved["config"]
    if differ := [name for name in now if name not in place and was.get(name) != now[name]]:
        differences = ", ".join(f"{name} {was.get(name)!r}, not {now[name]!r}" for name in differ)
        raise ValueError(f"{checkpoint} was made with {differences}; use another --out")
    for name, part in state.items():
        part.load_state_dict(saved[name])
    return saved["epoch"], saved["spent"]


def read_log(file: Path) -> list[dict[str, float | None]]:
    """The rows of a log.csv, None where nothing was measured."""
    with file.open() as lines:
        return [{name: float(value) if value else None for name, value in row.items()} for row in csv.DictReader(lines)]


def write_result(folder: Path, origin: dict[str, str], config: Any, place: Iterable[str], **parts: Any) -> dict:
    """Write result.json and return it: where it comes from, by ``provenance()`` at the start of the run, the settings
    that decide anything, and ``parts``."""
    settings = {name: value for name, value in asdict(config).items() if name not in place}
    result = {"run": origin, "config": settings, **parts}
    write_whole(folder / "result.json", json.dumps(result, indent=1) + "\n")
    return result
