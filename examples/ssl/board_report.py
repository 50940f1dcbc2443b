"""Tables and plot of the board from its JSONs: board.md and board.png beside them.

    python examples/ssl/board_report.py benchmarks/results/ssl-board

run_table.py --board does this after each cell, and `make tables` puts the tables into docs/board.md.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import report
from board import ARMS, LADDER, RUNGS

from examples.shared.table import interval, seconds

FRESH = 10  # seeds from here on decide; those below explore
NAMES = {arm.replace(" ", "-"): arm for arm in ARMS}
Runs = dict[str, dict[int, dict[str, Any]]]  # arm, seed


def read(results: Path, rung: str) -> Runs:
    """The runs of one rung, those of arms that have gone from the code as well."""
    runs: Runs = {}
    for file in results.glob(f"{rung}--*--s*.json"):
        _, arm, seed = file.stem.split("--")
        arm = NAMES.get(arm, arm.replace("-", " ").replace("idaa ", "idaa-"))
        runs.setdefault(arm, {})[int(seed[1:])] = json.loads(file.read_text())
    return {arm: dict(sorted(seeds.items())) for arm, seeds in sorted(runs.items())}


def ours(runs: Runs) -> set[str]:
    """Arms with adversarial views of this package."""
    return {arm for arm, seeds in runs.items() if _view(seeds).startswith("idaa")}


def leading(runs: Runs) -> str | None:
    """Of our forms that with most seeds, of those the best."""
    return max(ours(runs), key=lambda arm: (len(runs[arm]), _mean(runs[arm])), default=None)


def _view(seeds: dict[int, dict[str, Any]]) -> str:
    return next(iter(seeds.values()))["config"]["view"]


def _mean(seeds: dict[int, dict[str, Any]], metric: str = "knn_backbone") -> float:
    return statistics.mean(run["metrics"][metric] for run in seeds.values())


def _time(seeds: dict[int, dict[str, Any]]) -> float:
    return statistics.mean(seconds(run) for run in seeds.values())


def table(runs: Runs, budget: float) -> str:
    """Accuracy of every arm, and how far our leading form is over it, seed by seed. The time that it took is the
    runs' own, over that of ``none``."""
    score = {arm: _mean(seeds) for arm, seeds in runs.items()}
    best = leading(runs)
    plain, lines = _time(runs["none"]) if "none" in runs else 0, []
    for arm, seeds in sorted(runs.items(), key=lambda item: -score[item[0]]):
        epochs = statistics.mean(run["config"]["epochs"] for run in seeds.values())
        line = [f"**{arm}**" if arm == best else arm, " ".join(map(str, seeds))]
        line += [f"{budget / epochs:.2f}", f"{epochs:.2f}", f"{_time(seeds) / plain:.2f}" if plain else "-"]
        line += [report.spread([run["metrics"][name] for run in seeds.values()]) for name in report.METRICS]
        for name in list(report.METRICS)[:2]:
            line.append(compare(runs, best, arm, name) if best and arm != best else "-")
        lines.append(line)
    header = ["arm", "seeds", "cost of a step", "epochs", "time it took", *report.METRICS.values()]
    return report.markdown([*header, f"kNN: {best or 'ours'} over it", "linear: the same"], lines)


def gains(runs: Runs, one: str, other: str, metric: str = "knn_backbone") -> list[float]:
    """How far ``one`` arm is over the ``other``, for each seed that both have."""
    both = sorted(runs.get(one, {}).keys() & runs.get(other, {}).keys())
    return [runs[one][s]["metrics"][metric] - runs[other][s]["metrics"][metric] for s in both]


def compare(runs: Runs, one: str, other: str, metric: str) -> str:
    """The same as mean and interval; "-" where no seed has both."""
    found = gains(runs, one, other, metric)
    return interval(found) if found else "-"


def summary(rungs: dict[str, Runs]) -> str:
    """Of every rung our best form over longer training, and over whatever plain control is best by the same measure."""
    lines = []
    for rung, runs in rungs.items():
        best = leading(runs)
        plain = [arm for arm in runs if arm not in ours(runs) and _view(runs[arm]) != "latent"]
        if best is None or "none" not in plain:
            continue
        line = [rung, best, " ".join(map(str, runs[best]))]
        for metric in list(report.METRICS)[:2]:
            first = max(plain, key=lambda arm: _mean(runs[arm], metric))
            line += [compare(runs, best, "none", metric), f"{compare(runs, best, first, metric)} ({first})"]
        lines.append(line)
    header = ["rung", "our form", "seeds", "kNN over longer training", "kNN over the best control"]
    return report.markdown([*header, "linear over longer training", "linear over the best control"], lines)


def plot(groups: dict[str, Runs], file: Path) -> None:
    """kNN and linear accuracy of every arm after the same time: a dot for each seed, a line at the mean."""
    from matplotlib.figure import Figure

    columns = min(3, len(groups))
    down = -(-len(groups) // columns)
    figure = Figure(figsize=(5.5 * columns, 3.2 * down), dpi=100, layout="constrained")
    axes = figure.subplots(down, columns, squeeze=False).flat
    for unused in list(axes)[len(groups) :]:
        unused.axis("off")
    for axis, (title, runs) in zip(figure.axes, groups.items(), strict=False):
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


def gain(runs: Runs, arms: Iterable[str]) -> float | None:
    """Of the best of ``arms``, mean kNN over ``none``, in points, on the seeds that both have."""
    means = [100 * statistics.mean(found) for arm in arms if (found := gains(runs, arm, "none"))]
    return max(means, default=None)


def ladder(rungs: dict[str, Runs], file: Path) -> None:
    """kNN accuracy over `none` after the same time, for ever stronger random augmentation; of ours the best form."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axis = figure.subplots()
    lines: dict[str, Callable[[Runs], Iterable[str]]] = {
        "IDAA, best form": ours,
        "a random step in the latent": lambda runs: [arm for arm in runs if _view(runs[arm]) == "latent"],
        **{arm: lambda runs, arm=arm: [arm] for arm in ("quantize 8", "mixup .6", "clae", "third")},
    }
    for label, of in lines.items():
        axis.plot([gain(runs, of(runs)) for runs in rungs.values()], "o-", label=label, markersize=4)
    axis.axhline(0, color="gray", linewidth=0.8)
    axis.set_xticks(range(len(rungs)), [rung.partition("-")[2] for rung in rungs])
    axis.set(xlabel="random augmentation", ylabel="kNN over two random views, points", title="the same time, CIFAR-10")
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)
    figure.savefig(file)


def write(results: Path) -> None:
    """board.md, board.png and ladder.png in the folder of the JSONs."""
    parts, fresh = [], {}
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
                fresh |= {rung: part} if title.startswith("fresh") else {}
        origins = [run["run"] for seeds in runs.values() for run in seeds.values()]
        facts = ("commit", "machine", "date")
        said = "; ".join(", ".join(sorted({origin[fact] for origin in origins})) for fact in facts)
        dirty = any(origin["commit"].endswith("-dirty") for origin in origins)
        parts.append(said + "." + dirty * " -dirty: the code was not quite that commit, see the changes below.")
    if fresh:
        plot(fresh, results / "board.png")
        ladder({rung: fresh[rung] for rung in LADDER if rung in fresh}, results / "ladder.png")
        parts[:0] = ["### Summary", summary(fresh)]
    (results / "board.md").write_text("\n\n".join(parts or ["Nothing was run yet."]) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
