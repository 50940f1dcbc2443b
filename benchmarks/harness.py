"""One way to time things: side by side, interleaved, medians. Absolute times vary between machines; ratios hold.

A result file is ``{"run": provenance, "settings": {...}, "rows": [...]}``. A row of a speed suite has ``case`` (what
was timed), the axes that vary (``batch``, ``dtype``, ...), ``ms`` (median, q1, q3, min) and, where it was looked at,
``peak_mib``: the most memory that was held at once beyond what was there before.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable, Hashable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.profiler import ProfilerActivity, profile

from idaa_transforms._util.provenance import provenance

RESULTS = Path(__file__).parent / "results"
Key = TypeVar("Key", bound=Hashable)


def measure(
    cases: dict[Key, Callable[[], Any]],
    repeats: int,
    device: str,
    warmup: int = 2,
    now: Callable[[], float] = time.perf_counter,
) -> dict[Key, dict[str, float]]:
    """Milliseconds of each case: median, quartiles and fastest of ``repeats``, all cases in each round, shuffled.

    Args:
        now: the clock on a CPU. ``time.process_time`` knows nothing of other processes; it adds up threads.
    """
    clock = _cuda_milliseconds if device.startswith("cuda") else partial(_milliseconds, now)
    times: dict[Key, list[float]] = {name: [] for name in cases}
    order = list(cases)
    for turn in range(warmup + repeats):
        random.Random(turn).shuffle(order)
        for name in order:
            took = clock(cases[name])
            if turn >= warmup:
                times[name].append(took)
    return {name: summary(values) for name, values in times.items()}


def _milliseconds(now: Callable[[], float], case: Callable[[], Any]) -> float:
    started = now()
    case()
    return 1e3 * (now() - started)


def _cuda_milliseconds(case: Callable[[], Any]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    case()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end)


def summary(values: list[float]) -> dict[str, float]:
    """Median, quartiles and smallest of at least two values."""
    low, middle, high = statistics.quantiles(values, n=4)
    return {"median": middle, "q1": low, "q3": high, "min": min(values)}


def memory(case: Callable[[], Any], device: str) -> tuple[int, int]:
    """Bytes that ``case`` held at most, and those it left behind, beyond what was there before. Exact, from the
    allocator's own record, and repeatable."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        case()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before, torch.cuda.memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        case()
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak, held


def rows(cases: dict[str, Callable[[], Any]], repeats: int, device: str, **axes: Any) -> list[dict[str, Any]]:
    """A row for each case, measured side by side."""
    measured = measure(cases, repeats, device)
    peaks = {name: memory(case, device)[0] / 2**20 for name, case in cases.items()}
    return [{"case": name, **axes, "ms": ms, "peak_mib": peaks[name]} for name, ms in measured.items()]


def save(name: str, settings: dict[str, Any], rows: list[dict[str, Any]]) -> Path:
    """Write ``results/name.json``: where the numbers come from, what was set, and the rows."""
    file = RESULTS / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"run": provenance(), "settings": settings, "rows": rows}, indent=1) + "\n")
    return file


def number(value: Any) -> str:
    """Three digits at least, and no false ones."""
    if not isinstance(value, float):
        return "-" if value is None else str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
