"""Tables and figure of the board from its JSONs: board.md and board.png beside them.

    python examples/ssl/board_report.py benchmarks/results/board

run_table.py --board does this after each cell, and `make tables` puts the tables into docs/board.md.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from pathlib import Path
from typing import Any

from board import BRIEFLY, METHODS, SETTINGS, SHORT, in_words

from examples.shared.table import markdown, spread, students_t

DECIDING = range(10, 30)  # seeds; all others explore
MEASURES = {"knn_embedding": "kNN, embedding", "knn_backbone": "kNN", "linear_backbone": "linear"}
NAMES = {name.replace(" ", "-"): name for name in METHODS}
Runs = dict[str, dict[int, dict[str, Any]]]  # method, seed


def read(results: Path, setting: str, deciding: bool) -> Runs:
    """The runs of one setting, on the seeds that decide or on those that explore."""
    runs: Runs = {}
    for file in results.glob(f"{setting}--*--s*.json"):
        method, _, seed = file.stem.removeprefix(f"{setting}--").rpartition("--s")  # a method's name may have a --
        if (int(seed) in DECIDING) == deciding:
            name = NAMES.get(method, method.replace("-", " "))  # without an option that lost, a method has left METHODS
            runs.setdefault(name, {})[int(seed)] = json.loads(file.read_text())
    return {name: runs[name] for name in [*METHODS, *sorted(runs.keys() - METHODS.keys())] if name in runs}


def values(seeds: dict[int, dict[str, Any]], measure: str) -> list[float]:
    """One number for each seed, in per cent."""
    return [100 * run["metrics"][measure] for run in seeds.values()]


def pooled(runs: Runs, measure: str) -> tuple[float, int]:
    """Standard deviation between seeds, pooled over the methods of a setting, and its degrees of freedom."""
    groups = [values(seeds, measure) for seeds in runs.values()]
    freedom = sum(len(group) - 1 for group in groups)
    squares = sum((value - statistics.mean(group)) ** 2 for group in groups for value in group)
    return (math.sqrt(squares / freedom), freedom) if freedom else (0.0, 0)


def gain(runs: Runs, one: str, other: str, measure: str) -> str:
    """Points of ``one`` method over the ``other``, with the 95 % interval by the pooled deviation."""
    a, b = (values(runs[name], measure) for name in (one, other))
    deviation, freedom = pooled(runs, measure)
    mean = f"{statistics.mean(a) - statistics.mean(b):+.1f}"
    if not freedom:
        return mean
    return f"{mean} ± {students_t(freedom) * deviation * math.sqrt(1 / len(a) + 1 / len(b)):.1f}"


def ours(name: str) -> bool:
    """Whether the views of a method are hard ones of this package."""
    return name.startswith(("third view", "both views"))


def table(runs: Runs) -> str:
    """Accuracy of every method, and how far it is over `none`, trained for the same time."""
    lines = []
    for name, seeds in runs.items():
        epochs = statistics.mean(run["epochs"] for run in seeds.values())
        line = [f"**{name}**" if ours(name) else name, str(len(seeds)), f"{epochs:.1f}"]
        line += [spread(values(seeds, measure), 1) for measure in MEASURES]
        compared = "none" in runs and name != "none"
        line += [gain(runs, name, "none", measure) if compared else "-" for measure in MEASURES]
        lines.append(line)
    header = ["method", "seeds", "epochs", *MEASURES.values(), *(f"{name}: over none" for name in MEASURES.values())]
    return markdown(header, lines)


def short(settings: dict[str, Runs]) -> str:
    """README's table: a few methods in the settings of CIFAR-10, accuracy with its 95 % interval."""
    shown = {setting: runs for setting, runs in settings.items() if setting in BRIEFLY}
    cells = [(runs, measure) for runs in shown.values() for measure in MEASURES]
    lines = [
        [
            text + longer(shown, name),
            *(accuracy(runs, name, measure) if name in runs else "-" for runs, measure in cells),
        ]
        for name, text in SHORT.items()
        if any(name in runs for runs in shown.values())
    ]
    names = [f"{BRIEFLY[setting]}: {name}" for setting in shown for name in MEASURES.values()]
    return markdown(["", *names], lines)


def longer(settings: dict[str, Runs], name: str) -> str:
    """By how much the time of a method "for" so many epochs exceeds that of the others."""
    short, _, epochs = name.partition(" for ")
    if not epochs:
        return ""
    fits = next(iter(next(runs for runs in settings.values() if short in runs)[short].values()))["epochs"]
    return f": {float(epochs.split()[0]) / fits:.1f} times the time"


def accuracy(runs: Runs, name: str, measure: str) -> str:
    """Mean in per cent, with the 95 % interval by the pooled deviation."""
    found, (deviation, freedom) = values(runs[name], measure), pooled(runs, measure)
    mean = f"{statistics.mean(found):.1f}"
    return f"{mean} ± {students_t(freedom) * deviation / math.sqrt(len(found)):.1f}" if freedom else mean


def plot(settings: dict[str, Runs], file: Path) -> None:
    """Each measure in a panel of its own, a dot for each seed and a line at the mean; ours in colour, others grey."""
    from matplotlib.figure import Figure

    settings = {
        title: {m: r for m, r in runs.items() if m != "untrained" and not m.startswith("none T")}
        for title, runs in settings.items()
    }
    settings = {title: runs for title, runs in settings.items() if runs}
    if not settings:
        return
    rows = sum(map(len, settings.values()))
    figure = Figure(figsize=(11, 1.2 * len(settings) + 0.22 * rows), dpi=110, layout="constrained")
    heights = [len(runs) for runs in settings.values()]
    axes = figure.subplots(len(settings), len(MEASURES), squeeze=False, sharey="row", height_ratios=heights)
    for line, (setting, runs) in zip(axes, settings.items(), strict=True):
        for axis, (measure, title) in zip(line, MEASURES.items(), strict=True):
            for height, (name, seeds) in enumerate(reversed(runs.items())):
                found, color = values(seeds, measure), "tab:red" if ours(name) else "grey"
                axis.plot(found, [height] * len(found), "o", color=color, markersize=4, alpha=0.7)
                axis.plot(statistics.mean(found), height, "|", color=color, markersize=13, markeredgewidth=2)
            low, high = axis.get_xlim()
            narrow = max(0, 3 - (high - low)) / 2  # than 3 points: that would make much of little
            axis.set_xlim(low - narrow, high + narrow)
            axis.set_title(f"{title}, %", fontsize=9)
            axis.locator_params("x", nbins=4)
            axis.grid(alpha=0.3, axis="x")
        line[0].set_ylim(-0.6, len(runs) - 0.4)
        line[1].set_title(f"{SETTINGS[setting].title}\n\n{line[1].get_title()}", fontsize=9)
        line[0].set_yticks(range(len(runs)), [in_words(name) for name in reversed(runs)])
    figure.savefig(file)


def write(results: Path) -> None:
    """board.md and board.png in the folder of the JSONs."""
    parts: list[str] = []
    shown: dict[str, Runs] = {}
    for deciding, title in ((True, "seeds that decide"), (False, "explored")):
        for setting in SETTINGS:
            if runs := read(results, setting, deciding):
                shown |= {setting: runs} if deciding or setting not in shown else {}
                origins = [run["run"] for seeds in runs.values() for run in seeds.values()]
                facts = ("commit", "machine", "date")
                said = "; ".join(", ".join(sorted({origin[fact] for origin in origins})) for fact in facts)
                parts += [f"### {setting}, {title}", table(runs), f"{said}."]
    if shown:
        plot(shown, results / "board.png")
        parts[:0] = ["### In short", short(shown)]
    (results / "board.md").write_text("\n\n".join(parts or ["Nothing was run yet."]) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
