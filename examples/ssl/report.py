"""Table from the JSONs of runs.

    python examples/ssl/report.py benchmarks/results/ssl

run_table.py does this after each cell.
"""

from __future__ import annotations

import sys
from pathlib import Path

from config import configure

from examples.shared.table import Run, grouped, markdown, origins, read_runs, seconds, spread, told
from examples.shared.views import VIEWS

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
    (results / "table.md").write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
