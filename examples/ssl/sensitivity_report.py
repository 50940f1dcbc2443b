"""Table and figures of sensitivity.py from its JSONs: table.md and a PNG for each figure and scale, beside them.

    python examples/ssl/sensitivity_report.py benchmarks/results/sensitivity

sensitivity.py does this after each run.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from config import configure
from figures import AXES, OF_IDAA, OF_VAE, SCALES, cells

from benchmarks import estimate
from examples.shared.table import Run, markdown, origins, spread

METRICS = {"knn_backbone": "kNN", "linear_backbone": "linear"}
COLORS = {"none": "tab:gray", "third": "tab:blue", "clae": "tab:green", "idaa": "tab:orange", "idaa-grad": "tab:red"}
ABOUT = (
    "SimCLR on CIFAR-10, one setting varied at a time; accuracy on test images in per cent after the last epoch, mean "
    "± deviation over seeds. Of a setting that only IDAA knows, the other views have one line. The JSON of each run "
    "beside this file has its command, commit, machine, hours and every setting."
)
Panel = dict[str, dict[float, list[Run]]]  # by view and value


def read(results: Path, scale: str, axis: str) -> Panel:
    """The runs of one panel that there are."""
    panel: Panel = {}
    for cell in cells(scale, axis, COLORS):
        if files := sorted(results.glob(f"{cell.name}--s*.json")):
            panel.setdefault(cell.view, {})[cell.value] = [json.loads(file.read_text()) for file in files]
    return panel


def varied(panel: Panel) -> bool:
    """Whether more than one value was run."""
    return any(len(line) > 1 for line in panel.values())


def measured(panel: Panel, axis: str) -> str:
    """A row for each view and value."""
    lines = []
    for view, line in panel.items():
        for value, runs in line.items():
            seeds = " ".join(str(run["config"]["seed"]) for run in runs)
            shown = "-" if axis in OF_IDAA and not view.startswith("idaa") else f"{value:g}"
            scores = [spread([run["metrics"][name] for run in runs]) for name in METRICS]
            lines.append([view, shown, seeds, *scores])
    return markdown(["view", AXES[axis][1], "seeds", *METRICS.values()], lines)


def draw(axes: Any, panel: Panel, axis: str, metric: str) -> None:
    """One panel: a line through the means of each view, a dot for each seed. A view without the setting
    is flat, and what its seeds span is shaded."""
    for view, line in panel.items():
        color, values = COLORS[view], sorted(line)
        scores = [[100 * run["metrics"][metric] for run in line[value]] for value in values]
        means = [statistics.mean(score) for score in scores]
        if axis in OF_IDAA and not view.startswith("idaa"):
            axes.axhline(means[0], color=color, linestyle="--", label=view)
            axes.axhspan(min(scores[0]), max(scores[0]), color=color, alpha=0.12, linewidth=0)
            continue
        axes.plot(values, means, color=color, label=view)
        for value, score in zip(values, scores, strict=True):
            axes.plot([value] * len(score), score, "o", color=color, markersize=4, alpha=0.6)
    ticks = sorted({value for line in panel.values() for value in line if len(line) > 1})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)


def plot(panels: dict[str, Panel], title: str, file: Path) -> None:
    """A figure of the paper: a column for each setting that was varied, kNN above linear accuracy."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1 + 3.6 * len(panels), 5.6), dpi=140, layout="constrained")
    grid = figure.subplots(2, len(panels), squeeze=False, sharex="col", sharey="row")
    for column, (axis, panel) in enumerate(panels.items()):
        for row, metric in enumerate(METRICS):
            draw(grid[row][column], panel, axis, metric)
        grid[1][column].set_xlabel(AXES[axis][1])
    for row, name in enumerate(METRICS.values()):
        grid[row][0].set_ylabel(f"{name} accuracy, %")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize=9, title=title)
    figure.savefig(file)


def commands() -> str:
    """What a seed of each panel takes at the paper's scale."""
    lines = []
    for axis, (figure, label) in AXES.items():
        hours, todo = 0.0, list(cells("paper", axis))
        for cell in todo:
            config = configure(cell.options)
            work = estimate.Work(config.backbone, 32, config.epochs * 50_000, estimate.PASSES)
            hours += estimate.hours(work, cell.view)
        size = SCALES["paper"]
        if axis in OF_VAE:
            widths = size.values["width"] if axis == "width" else [size.usual["width"]] * len(size.values[axis])
            hours += sum(estimate.hours_of_vae(int(z)) for z in widths)
        values = ", ".join(f"{value:g}" for value in size.values[axis])
        command = f"`python examples/ssl/sensitivity.py --figure {axis}`"
        lines.append([str(figure), label, values, command, str(len(todo)), f"{hours:.0f}"])
    return markdown(["figure", "varies", "values", "command", "runs", "GPU hours"], lines)


def write(results: Path) -> None:
    """table.md and the figures in the folder of the JSONs."""
    parts = ["# What accuracy depends on", ABOUT]
    for scale in SCALES:
        for number in sorted({figure for figure, _ in AXES.values()}):
            panels = {axis: read(results, scale, axis) for axis, (figure, _) in AXES.items() if figure == number}
            panels = {axis: panel for axis, panel in panels.items() if varied(panel)}
            if not panels:
                continue
            file = results / f"figure{number}-{scale}.png"
            plot(panels, f"SimCLR on CIFAR-10, --scale {scale}", file)
            parts += [f"## Figure {number}, --scale {scale}", f"![Accuracy against {', '.join(panels)}]({file.name})"]
            for axis, panel in panels.items():
                runs = [run for line in panel.values() for same in line.values() for run in same]
                parts += [f"### {AXES[axis][1]}, --scale {scale}", measured(panel, axis), origins(runs)]
    parts += ["## At the paper's scale", commands()]
    (results / "table.md").write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
