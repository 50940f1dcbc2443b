"""The table of FixMatch from the JSONs of runs, beside the paper's numbers and those of others.

python -m examples.semi.report benchmarks/results/semi
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from examples.shared.table import Run, all_else, clock, grouped, markdown, origins, read_runs, spread, told

from .config import VIEWS, configure

LABELS = (400, 2500, 10_000)  # of CIFAR-100, in all
# Accuracy on CIFAR-100 in per cent: Yang et al., ICML 2022, and plain FixMatch as two libraries publish it.
PAPER = {"none": (47.76, 66.30, 74.13), "clae": (50.34, 68.58, 74.54), "idaa": (52.88, 68.96, 75.28)}
OTHERS = {
    "FixMatch in TorchSSL (WRN-28-8)": (53.22, 71.94, 77.80),
    "FixMatch in USB (WRN-28-2)": (46.63, 65.71, 71.72),
}
BESIDE = (
    "CIFAR-100, WRN-28-8 and WRN-28-2, 2^20 steps (`--scale paper`, a GPU). TorchSSL's plain FixMatch with the network "
    "that the paper names is above all rows of the paper, and the paper's own plain FixMatch is near USB's with the "
    "narrower one. So both widths are to be run, and a gain counts over a baseline with the same width, here."
)
# What decides nothing without an attack: a run is compared with the control that shares all else.
OF_ATTACKS = ("view", "eps", "clae_eps", "weights")


def settings(run: Run) -> str:
    """What a run was told beyond view, data, labels, scale and seed."""
    config = run["config"]
    usual = vars(configure([f"--{name}={config[name]}" for name in ("view", "data", "labels", "scale")]))
    return told(config, usual)


def of_control(run: Run) -> str:
    """What a run shares with its control, the seed included."""
    return all_else(run["config"], OF_ATTACKS)


def measured(runs: list[Run]) -> str:
    """The table of one data set, number of labels and scale."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in sorted(runs, key=lambda r: (settings(r), VIEWS.index(r["config"]["view"]), r["config"]["seed"])):
        groups.setdefault((run["config"]["view"], settings(run)), []).append(run)
    control = {of_control(run): run["metrics"]["accuracy"] for run in runs if run["config"]["view"] == "third"}
    lines = []
    for (view, other), same in groups.items():
        known = [run for run in same if view != "third" and of_control(run) in control]
        gains = [run["metrics"]["accuracy"] - control[of_control(run)] for run in known]
        line = [view, other, " ".join(str(run["config"]["seed"]) for run in same)]
        line += [spread([run["metrics"][name] for run in same]) for name in ("accuracy", "accuracy_without_average")]
        line += [spread(gains, sign="+") if gains else "-"]
        line += [spread([run["log"][-1][name] for run in same]) for name in ("sure", "right")]
        lines.append([*line, format(3600 * statistics.mean(run[f"{clock(run)}hours"] for run in same), ".0f")])
    lines += [[view, "", *["not run"] * 7] for view in VIEWS if (view, "") not in groups]
    header = ["view", "settings", "seeds", "accuracy", "without average", "over third", "sure", "right of these"]
    return markdown([*header, "training, s"], lines)


def beside_the_paper(runs: list[Run]) -> str:
    """The paper's grid, with runs of its settings where there are any, and what others report."""
    lines = [
        [name, *(cell for value in values for cell in (f"{value:.2f}", "-", "-"))] for name, values in OTHERS.items()
    ]
    full = grouped(runs, "view", "labels", "scale", "data", "backbone")
    for view in VIEWS:
        line, known = [f"`{view}`"], view in PAPER
        for i, labels in enumerate(LABELS):
            line.append(f"{PAPER[view][i]:.2f}" if view in PAPER else "-")
            for backbone in ("wrn-28-8", "wrn-28-2"):
                same = full.get((view, labels, "paper", "cifar100", backbone), [])
                line.append(spread([run["metrics"]["accuracy"] for run in same]) if same else "not run")
                known |= bool(same)
        if known:
            lines.append(line)
    heads = [f"{labels} labels: {what}" for labels in LABELS for what in ("reported", "WRN-28-8 here", "WRN-28-2 here")]
    return markdown(["FixMatch with view", *heads], lines)


def write(results: Path) -> None:
    """table.md in the folder of the JSONs."""
    runs = read_runs(results)
    parts = ["# Results of examples/semi"]
    parts.append(
        "Accuracy on the test set in per cent after the last step, of the moving average of the weights, mean ± "
        "standard deviation over seeds; a seed draws the labelled images too. `over third`: points more than `third` "
        "with the same seed. `sure`: per cent of the unlabelled images with a confidence of at least tau in the last "
        "epoch, and how many of these labels were right. `training, s` is processor time where there is no GPU."
    )
    for (scale, data, labels), group in sorted(grouped(runs, "scale", "data", "labels").items()):
        parts += [f"## {data}, {labels} labels, --scale {scale}", measured(group), origins(group)]
    parts += ["## Beside the paper", BESIDE, beside_the_paper(runs)]
    (results / "table.md").write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
