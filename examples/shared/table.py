"""Tables of results: Markdown, from the JSONs of runs."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from benchmarks.harness import table as markdown

__all__ = ["Run", "grouped", "markdown", "origins", "read_runs", "spread"]

Run = dict[str, Any]


def read_runs(results: Path) -> list[Run]:
    """The results in a folder, by the names of their files."""
    return [json.loads(file.read_text()) for file in sorted(results.glob("*.json"))]


def spread(values: list[float], scale: float = 100, form: str = ".1f", sign: str = "") -> str:
    """Mean, and the standard deviation where there is more than one value."""
    mean = format(scale * statistics.mean(values), sign + form)
    return mean + (f" ± {scale * statistics.stdev(values):{form}}" if len(values) > 1 else "")


def grouped(runs: list[Run], *names: str) -> dict[tuple[Any, ...], list[Run]]:
    """Runs by values of their config."""
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(run["config"][name] for name in names), []).append(run)
    return groups


def origins(runs: list[Run]) -> str:
    """Commits, machines and dates of runs, as a sentence."""
    commits, machines, dates = (sorted({run["run"][fact] for run in runs}) for fact in ("commit", "machine", "date"))
    return f"Commit {', '.join(commits)}; {'; '.join(machines)}; {', '.join(dates)}."
