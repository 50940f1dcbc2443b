"""Tables of results: Markdown, from the JSONs of runs."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.harness import table as markdown

__all__ = [
    "Run",
    "all_else",
    "clock",
    "grouped",
    "interval",
    "markdown",
    "origins",
    "read_runs",
    "seconds",
    "spread",
    "students_t",
    "told",
]

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


def told(config: dict[str, Any], usual: dict[str, Any], aside: Iterable[str] = ()) -> str:
    """What a run was told: where its ``config`` is not as ``usual``. The seed is ``aside``, and bf16, of which what is
    usual is up to the machine that makes the table. Options that there are no more are left out."""
    names = usual.keys() - {"seed", "bf16", *aside}
    differ = {k: v for k, v in config.items() if k in names and json.dumps(v) != json.dumps(usual[k])}
    return ", ".join(f"{name} {value}" for name, value in differ.items())


def all_else(config: dict[str, Any], but: Iterable[str]) -> str:
    """Everything in a ``config`` ``but`` some settings, as one word: the same for a run and for its control."""
    return json.dumps({name: value for name, value in config.items() if name not in {*but}}, sort_keys=True)


def clock(run: Run) -> str:
    """What stands before ``seconds`` and ``hours`` that count: on a GPU the clock's, which stand alone; elsewhere the
    processor's, since other work may share it."""
    return "cpu_" if "no GPU" in run["run"]["machine"] else ""


def seconds(run: Run) -> float:
    """Training time, by the clock that counts."""
    return sum(row[f"{clock(run)}seconds"] for row in run["log"])


def interval(differences: list[float]) -> str:
    """Mean in points and, of two and more, half the width of its 95 % interval."""
    mean = 100 * statistics.mean(differences)
    if len(differences) < 2:
        return f"{mean:+.1f}"
    half = students_t(len(differences) - 1) * 100 * statistics.stdev(differences) / math.sqrt(len(differences))
    return f"{mean:+.1f} ± {half:.1f}"


def students_t(freedom: int) -> float:
    """How many standard errors the half of a 95 % interval has, for so many degrees of freedom."""
    from scipy import stats  # of the extra ssl

    return float(stats.t.ppf(0.975, freedom))


def origins(runs: list[Run]) -> str:
    """Commits, machines and dates of runs, as a sentence."""
    commits, machines, dates = (sorted({run["run"][fact] for run in runs}) for fact in ("commit", "machine", "date"))
    return f"Commit {', '.join(commits)}; {'; '.join(machines)}; {', '.join(dates)}."
