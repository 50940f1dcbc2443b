"""A run of training: where it runs, what it saves and how long it takes; it goes on where it was interrupted, and says
where its result comes from."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from idaa_transforms._util.files import write_whole
from idaa_transforms.training.run import load_checkpoint, own_device, processes, same_settings, save_whole

Times = dict[str, float]
"""Of the clock and of the processor, which other work may share."""


def set_up(config: Any) -> tuple[int, int]:
    """Take the threads and the device that ``config`` says; returns the rank of this process and how many there are."""
    if config.threads:
        torch.set_num_threads(config.threads)
    device = own_device(config.device)
    if device.type == "cuda" and device.index is not None:  # "cuda" alone is the current one already
        torch.cuda.set_device(device)
    return processes(device, getattr(config, "patience", None))


def now() -> Times:
    """What the clocks show."""
    return {"seconds": time.perf_counter(), "cpu_seconds": time.process_time()}


def since(started: Times) -> Times:
    """What has passed since :func:`now` gave ``started``."""
    return {name: value - started[name] for name, value in now().items()}


def hours(spent: Times) -> Times:
    """Seconds as results say them: hours and cpu_hours."""
    return {name.replace("seconds", "hours"): value / 3600 for name, value in spent.items()}


def decaying(model: nn.Module) -> list[dict[str, Any]]:
    """Groups of an optimiser: weights decay; biases, and scales and shifts of norms, do not."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    others = {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}
    return [{"params": [p for p in parameters if p.ndim > 1]}, others]


def save(checkpoint: Path, config: Any, state: dict[str, Any], epoch: int, spent: Times) -> None:
    """Write the state after ``epoch`` epochs, or steps, which took the time ``spent``."""
    parts = {name: part.state_dict() for name, part in state.items()}
    save_whole(parts | {"config": asdict(config), "epoch": epoch, "spent": spent}, checkpoint)


def resume(checkpoint: Path, config: Any, state: dict[str, Any], place: Iterable[str]) -> tuple[int, Times]:
    """Load ``state`` from a checkpoint, if there is one; returns the epochs or steps done, and the time they took.

    Args:
        checkpoint: what :func:`save` wrote.
        config: a dataclass, the settings of now.
        place: settings that may differ, since they decide nothing but where and how fast.

    Raises:
        ValueError: the file is damaged, of other code, or of other settings.
    """
    if not checkpoint.exists():
        return 0, {"seconds": 0.0, "cpu_seconds": 0.0}
    saved = load_checkpoint(checkpoint, config.device)
    if missing := {*state, "config", "epoch", "spent"} - saved.keys():
        raise ValueError(
            f"{checkpoint} has no {', '.join(sorted(missing))}: it is of another program; use another --out"
        )
    same_settings(checkpoint, saved["config"], asdict(config), place)
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
