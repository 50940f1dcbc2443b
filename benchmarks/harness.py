"""One way to time things: side by side, interleaved, medians. Absolute times vary between machines; ratios hold."""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from idaa_transforms.provenance import provenance

RESULTS = Path(__file__).parent / "results"


def measure(
    cases: dict[str, Callable[[], Any]], repeats: int, device: str, warmup: int = 2
) -> dict[str, dict[str, float]]:
    """Milliseconds of each case: median, quartiles and fastest of ``repeats``, all cases in each round, shuffled."""
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    times: dict[str, list[float]] = {name: [] for name in cases}
    order = list(cases)
    for turn in range(warmup + repeats):
        random.Random(turn).shuffle(order)
        for name in order:
            wait()
            started = time.perf_counter()
            cases[name]()
            wait()
            if turn >= warmup:
                times[name].append(1e3 * (time.perf_counter() - started))
    return {name: _summary(values) for name, values in times.items()}


def _summary(values: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": middle, "q1": low, "q3": high, "min": min(values)}


def save(name: str, settings: dict[str, Any], rows: list[dict[str, Any]]) -> Path:
    """Write ``results/name.json``: where the numbers come from, what was set, and the rows."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}.json"
    file.write_text(json.dumps({"run": provenance(), "settings": settings, "rows": rows}, indent=1) + "\n")
    return file


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
