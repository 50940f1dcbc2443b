"""Tables and plot of the board from its JSONs: board.md and board.png beside them.

    python examples/ssl/board_report.py benchmarks/results/ssl-board

run_table.py --board does this after each cell, and `make tables` puts the tables into docs/board.md.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import report
from board import ARMS, LADDER, RUNGS

from examples.shared.table import interval

FRESH = 10  # seeds from here on decide; those below explore
OURS = {arm for arm, options in ARMS.items() if "idaa-grad" in options or "idaa-small" in options}
Runs = dict[str, dict[int, dict[str, Any]]]  # arm, seed


def read(results: Path, rung: str) -> Runs:
    """The runs of one rung, in the order of ARMS."""
    runs: Runs = {}
    for arm in ARMS:
        stem = f"{rung}--{arm.replace(' ', '-')}--s"
        found = {int(file.stem.removeprefix(stem)): file for file in results.glob(f"{stem}*.json")}
        if found:
            runs[arm] = {seed: json.loads(file.read_text()) for seed, file in sorted(found.items())}
    return runs


def _mean(seeds: dict[int, dict[str, Any]]) -> float:
    return statistics.mean(run["metrics"]["knn_backbone"] for run in seeds.values())


def table(runs: Runs, budget: float) -> str:
    """Accuracy of every arm, and how far ours is over it, seed by seed: the form with most seeds, of those the best."""
    score = {arm: _mean(seeds) for arm, seeds in runs.items()}
    ours = max((arm for arm in runs if arm in OURS), key=lambda arm: (len(runs[arm]), score[arm]), default=None)
    lines = []
    for arm, seeds in sorted(runs.items(), key=lambda item: -score[item[0]]):
        epochs = statistics.mean(run["config"]["epochs"] for run in seeds.values())
        line = [f"**{arm}**" if arm == ours else arm, " ".join(map(str, seeds))]
        line += [f"{budget / epochs:.2f}", f"{epochs:.2f}"]
        line += [report.spread([run["metrics"][name] for run in seeds.values()]) for name in report.METRICS]
        for name in list(report.METRICS)[:2]:
            both = sorted(set(seeds) & set(runs[ours])) if ours and arm != ours else []
            gains = [runs[ours][s]["metrics"][name] - seeds[s]["metrics"][name] for s in both]
            line.append(interval(gains) if gains else "-")
        lines.append(line)
    header = ["arm", "seeds", "cost of a step", "epochs", *report.METRICS.values()]
    return report.markdown([*header, f"kNN: {ours or 'ours'} over it", "linear: the same"], lines)


def plot(groups: dict[str, Runs], file: Path) -> None:
    """kNN and linear accuracy of every arm after the same time: a dot for each seed, a line at the mean."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * len(groups), 3.8), dpi=120, layout="constrained")
    for axis, (title, runs) in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups.items(), strict=True):
        names = sorted(runs, key=lambda arm: _mean(runs[arm]))
        for height, arm in enumerate(names):
            for metric, color in (("knn_backbone", "tab:blue"), ("linear_backbone", "tab:orange")):
                values = [100 * run["metrics"][metric] for run in runs[arm].values()]
                axis.plot(values, [height] * len(values), "o", color=color, markersize=4, alpha=0.7)
                axis.plot(statistics.mean(values), height, "|", color=color, markersize=16)
        axis.set_yticks(range(len(names)), names)
        axis.set(xlabel="accuracy, %: kNN blue, linear orange", title=title)
        axis.grid(alpha=0.3)
    figure.savefig(file)


def ladder(rungs: dict[str, Runs], file: Path) -> None:
    """kNN accuracy over `none` after the same time, for ever stronger random augmentation; of ours the best form."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axis = figure.subplots()
    lines = {arm: (arm,) for arm in ("third", "clae", "latent .5", "quantize 8", "mixup .6")} | {
        "idaa, best form": OURS
    }
    for label, arms in lines.items():
        gains = {}
        for x, runs in enumerate(rungs.values()):
            found = [
                statistics.mean(
                    run["metrics"]["knn_backbone"] - runs["none"][s]["metrics"]["knn_backbone"]
                    for s, run in both.items()
                )
                for arm in arms
                if (both := {s: run for s, run in runs.get(arm, {}).items() if s in runs.get("none", {})})
            ]
            gains |= {x: 100 * max(found)} if found else {}
        axis.plot(list(gains), list(gains.values()), "o-", label=label, markersize=4)
    axis.axhline(0, color="gray", linewidth=0.8)
    axis.set_xticks(range(len(rungs)), [rung.partition("-")[2] for rung in rungs])
    axis.set(xlabel="random augmentation", ylabel="kNN over two random views, points", title="the same time, CIFAR-10")
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)
    figure.savefig(file)


def write(results: Path) -> None:
    """board.md, board.png and ladder.png in the folder of the JSONs."""
    parts, plotted = [], {}
    for rung, (_, budget) in RUNGS.items():
        runs = read(results, rung)
        if not runs:
            continue
        for title, kept in (("fresh seeds, which decide", lambda s: s >= FRESH), ("explored", lambda s: s < FRESH)):
            part = {arm: {s: r for s, r in seeds.items() if kept(s)} for arm, seeds in runs.items()}
            part = {arm: seeds for arm, seeds in part.items() if seeds}
            if part:
                parts += [f"### {rung}, {title}", f"Budget: the time of {budget:g} epochs of `none`."]
                parts.append(table(part, budget))
                plotted[f"{rung}, {title.split(',')[0]}"] = part
        origins = [run["run"] for seeds in runs.values() for run in seeds.values()]
        facts = ("commit", "machine", "date")
        parts.append("; ".join(", ".join(sorted({origin[fact] for origin in origins})) for fact in facts) + ".")
    if plotted:
        plot(plotted, results / "board.png")
        steps = {rung: runs for rung in LADDER if (runs := read(results, rung))}
        ladder(steps, results / "ladder.png")
    (results / "board.md").write_text("\n\n".join(parts or ["Nothing was run yet."]) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
