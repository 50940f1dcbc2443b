"""Table and plots from the JSONs of runs, beside the paper's numbers.

    python examples/ssl/report.py benchmarks/results/ssl

run_table.py does this after each cell.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from config import Config, configure
from methods import METHODS

from examples.shared.table import Run, all_else, clock, grouped, markdown, origins, read_runs, spread, told
from examples.shared.views import VIEWS

# Yang et al., ICML 2022: kNN on CIFAR-10 and CIFAR-100, linear on CIFAR-10 and CIFAR-100, per cent, mean of their runs,
# each the best epoch on the test set. Ours is the last epoch.
PAPER = {
    ("plain", "none"): (82.78, 54.73, 79.65, 51.82),
    ("plain", "clae"): (83.09, 55.28, 79.94, 52.14),
    ("plain", "idaa"): (86.00, 58.64, 82.83, 56.12),
    ("uel", "none"): (83.63, 55.23, 80.63, 52.99),
    ("uel", "clae"): (84.00, 55.96, 80.94, 54.27),
    ("uel", "idaa"): (86.69, 59.04, 83.65, 57.25),
    ("simsiam", "none"): (88.22, 57.13, 89.84, 62.76),
    ("simsiam", "clae"): (85.59, 53.88, 87.77, 60.89),
    ("simsiam", "idaa"): (89.08, 58.19, 90.99, 65.21),
    ("simclr", "none"): (80.79, 41.11, 86.40, 57.81),
    ("simclr", "clae"): (80.27, 43.57, 85.25, 57.69),
    ("simclr", "idaa"): (83.41, 46.78, 88.07, 60.90),
}
BESIDE = (
    "Runs with the paper's settings (`--scale paper`, a GPU). The paper has neither `third` and `idaa-grad` nor MoCo, "
    "BYOL and SwAV: they are listed once they have been run."
)
METRICS = {
    "knn_backbone": "kNN",
    "linear_backbone": "linear",
    "knn_embedding": "kNN, embedding",
    "linear_embedding": "linear, embedding",
}
# What decides nothing where the third view is random: a run is compared with the control that shares all else.
OF_ATTACKS = {
    "view",
    "attacked",
    "pair",
    "eps",
    "clae_eps",
    "eps_schedule",
    "steps",
    "step_size",
    "anchor",
    "start",
    "weights",
}


def settings(run: Run) -> str:
    """What a run was told beyond method, view, data, scale and seed."""
    config = run["config"]
    usual = vars(configure([f"--{name}={config[name]}" for name in ("method", "view", "data", "scale")]))
    return told(config, usual, () if config["view"] == "clae" else ("clae_eps",))


def of_control(run: Run) -> str:
    """What a run shares with its control, the seed included."""
    usual = vars(Config())  # of options that there were not yet when it ran; those that have gone were at theirs
    return all_else({name: run["config"].get(name, value) for name, value in usual.items()}, OF_ATTACKS)


def seconds(run: Run) -> list[float]:
    """Training time up to the end of each epoch, by the clock that counts."""
    total, ends = 0.0, []
    for row in run["log"]:
        total += row[f"{clock(run)}seconds"]
        ends.append(total)
    return ends


def variants(runs: list[Run]) -> dict[tuple[str, str], list[Run]]:
    """Runs of one method, data and scale by view and settings, in the order of VIEWS, usual settings first."""
    found: dict[tuple[str, str], list[Run]] = {}
    for run in sorted(runs, key=lambda r: (bool(settings(r)), VIEWS.index(r["config"]["view"]), r["config"]["seed"])):
        found.setdefault((run["config"]["view"], settings(run)), []).append(run)
    return found


def measured(runs: list[Run]) -> str:
    """The table of one method, data and scale."""
    groups = variants(runs)
    plain = [seconds(run)[-1] / len(run["log"]) for run in groups.get(("none", ""), [])]
    control = {of_control(run): run for run in runs if run["config"]["view"] == "third"}
    lines = []
    for (view, other), same in groups.items():
        pairs = [(run, control.get(of_control(run))) for run in same if view != "third"]
        gains = [[r["metrics"][name] - c["metrics"][name] for r, c in pairs if c] for name in list(METRICS)[:2]]
        cost = [seconds(run)[-1] / len(run["log"]) for run in same]
        times = format(statistics.mean(cost) / statistics.mean(plain), ".2f") if plain else "-"
        line = [view, other, " ".join(str(run["config"]["seed"]) for run in same), str(len(same[0]["log"]))]
        line += [spread([run["metrics"][name] for run in same]) for name in METRICS]
        line += [spread(gain, sign="+") if gain else "-" for gain in gains]
        line += [spread([seconds(run)[-1] for run in same], 1, ".0f"), times]
        lines.append(line)
    lines += [[view, "", *["not run"] * 10] for view in VIEWS if (view, "") not in groups]
    header = [
        "view",
        "settings",
        "seeds",
        "epochs",
        *METRICS.values(),
        "kNN over third",
        "linear over third",
        "training, s",
        "epoch, none = 1",
    ]
    return markdown(header, lines)


def beside_the_paper(runs: list[Run]) -> str:
    """The paper's grid, with runs of its settings where there are any."""
    lines = []
    for method in METHODS:
        for view in VIEWS:
            line, known = [method, view], (method, view) in PAPER
            for i, (metric, data) in enumerate((m, d) for m in list(METRICS)[:2] for d in ("cifar10", "cifar100")):
                wanted = (method, view, data, "paper")
                same = [r for r in grouped(runs, "method", "view", "data", "scale").get(wanted, []) if not settings(r)]
                line.append(f"{PAPER[method, view][i]:.2f}" if (method, view) in PAPER else "-")
                line.append(spread([run["metrics"][metric] for run in same]) if same else "not run")
                known |= bool(same)
            if known:
                lines.append(line)
    header = ["method", "view"]
    for metric in ("kNN", "linear"):
        for data in ("CIFAR-10", "CIFAR-100"):
            header += [f"{metric}, {data}: paper", "here"]
    return markdown(header, lines)


def plot(runs: list[Run], file: Path) -> None:
    """kNN accuracy against epochs and against time: thin lines seeds, thick ones their mean. Of settings with one seed
    only where there are no others."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), dpi=140, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    groups = variants(runs)
    groups = {name: same for name, same in groups.items() if len(same) > 1} or groups
    for color, ((view, other), same) in enumerate(groups.items()):
        curves = [
            [
                (row["epoch"], end, 100 * row["knn"])
                for row, end in zip(run["log"], seconds(run), strict=True)
                if row["knn"]
            ]
            for run in same
        ]
        means = [tuple(map(statistics.mean, zip(*points, strict=True))) for points in zip(*curves, strict=True)]
        style = {"color": f"C{color % 10}", "linestyle": "--" if other else "-"}
        for axis, x in ((left, 0), (right, 1)):
            for curve in curves if len(curves) > 1 else ():
                axis.plot([p[x] for p in curve], [p[2] for p in curve], **style, alpha=0.35, linewidth=0.8)
            axis.plot(
                [p[x] for p in means],
                [p[2] for p in means],
                **style,
                marker="o",
                markersize=3.5,
                label=f"{view} {other}".strip(),
            )
    left.set(xlabel="epoch", ylabel="kNN accuracy on backbone features, %")
    right.set(xlabel="seconds of training" + (" (processor time)" if clock(runs[0]) else ""))
    for axis in (left, right):
        axis.grid(alpha=0.3)
    left.legend(fontsize=8)
    figure.suptitle(", ".join(runs[0]["config"][name] for name in ("method", "data", "scale")), fontsize=11)
    figure.savefig(file)


def write(results: Path) -> None:
    """table.md and a plot for each method, data and scale in the folder of the JSONs."""
    runs = read_runs(results)
    parts = ["# Results of examples/ssl"]
    parts.append(
        "Accuracy on the test set in per cent after the last epoch, mean ± standard deviation over seeds; kNN with "
        "K = 200, weighted. `over third`: points more than `third` with the same seed, epochs and random augmentation. "
        "`training, s` is "
        "processor time where there is no GPU. The JSON of each run beside this file has its command, commit, machine, "
        "hours and every setting; `-dirty` there means that results of other runs lay in the tree uncommitted."
    )
    for (scale, data, method), group in sorted(grouped(runs, "scale", "data", "method").items()):
        file = results / f"{method}-{data}-{scale}.png"
        plot(group, file)
        parts += [f"## {method}, {data}, --scale {scale}", measured(group), origins(group)]
        parts.append(f"![kNN accuracy against epochs and time]({file.name})")
    parts += ["## Beside the paper", BESIDE, beside_the_paper(runs)]
    (results / "table.md").write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
