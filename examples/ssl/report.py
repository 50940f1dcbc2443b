"""Table from the JSONs of runs, beside the paper's numbers.

    python examples/ssl/report.py benchmarks/results/ssl

run_table.py does this after each cell.
"""

from __future__ import annotations

import sys
from pathlib import Path

from config import configure
from methods import METHODS

from examples.shared.table import Run, grouped, markdown, origins, read_runs, seconds, spread, told
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
METRICS = {
    "knn_backbone": "kNN",
    "linear_backbone": "linear",
    "knn_embedding": "kNN, embedding",
    "linear_embedding": "linear, embedding",
}


def settings(run: Run) -> str:
    """What a run was told beyond method, view, data, scale and seed."""
    config = run["config"]
    usual = vars(configure([f"--{name}={config[name]}" for name in ("method", "view", "data", "scale")]))
    return told(config, usual, () if config["view"].startswith("clae") else ("clae_eps",))


def measured(runs: list[Run]) -> str:
    """The table of one method, data and scale: views in the order of VIEWS, usual settings first."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in sorted(runs, key=lambda r: (bool(settings(r)), VIEWS.index(r["config"]["view"]), r["config"]["seed"])):
        groups.setdefault((run["config"]["view"], settings(run)), []).append(run)
    lines = []
    for (view, other), same in groups.items():
        line = [view, other, " ".join(str(run["config"]["seed"]) for run in same), str(len(same[0]["log"]))]
        line += [spread([run["metrics"][name] for run in same]) for name in METRICS]
        lines.append([*line, spread([seconds(run) for run in same], 1, ".0f")])
    return markdown(["view", "settings", "seeds", "epochs", *METRICS.values(), "training, s"], lines)


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


def write(results: Path) -> None:
    """table.md in the folder of the JSONs."""
    runs = read_runs(results)
    parts = ["# Results of examples/ssl"]
    parts.append(
        "Accuracy on the test set in per cent after the last epoch, mean ± standard deviation over seeds. Time is "
        "processor time where there is no GPU. The JSON of each run beside this file has its command and settings."
    )
    for (scale, data, method), group in sorted(grouped(runs, "scale", "data", "method").items()):
        parts += [f"## {method}, {data}, --scale {scale}", measured(group), origins(group)]
    about = "The paper's table, and runs with its settings (`--scale paper`, a GPU) where there are any."
    parts += ["## Beside the paper", about, beside_the_paper(runs)]
    (results / "table.md").write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
