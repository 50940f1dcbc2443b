"""The table of transfer from the JSONs of evaluate.py.

python -m examples.transfer.report benchmarks/results/transfer
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from examples.shared.table import Run, all_else, markdown, origins, read_runs, spread
from examples.shared.views import VIEWS

# What decides nothing where the third view is random: a backbone is compared with the control that shares all else.
OF_ATTACKS = ("name", "view", "attacked", "pair", "eps", "clae_eps", "start", "weights")
SHOWN = ("crop", "jitter", "gray", "epochs")  # of the random augmentation and the length of the training


def trained_as(run: Run) -> str:
    """How a backbone was trained, but for its attack and seed."""
    return all_else(run["backbone"], (*OF_ATTACKS, "seed"))


def _lines(runs: list[Run], names: list[str]) -> list[list[str]]:
    """One for each view: mean and deviation over seeds on every set, and the mean difference to ``third``."""
    control = {run["backbone"]["seed"]: run for run in runs if run["backbone"]["view"] == "third"}
    lines = []
    for view in sorted({run["backbone"]["view"] for run in runs}, key=VIEWS.index):
        same = sorted((r for r in runs if r["backbone"]["view"] == view), key=lambda r: r["backbone"]["seed"])
        eps = {"clae": "clae_eps", "idaa": "eps", "idaa-grad": "eps"}.get(view)
        label = view + (f", eps {same[0]['backbone'][eps]:g}" if eps else "")
        line = [label, " ".join(str(run["backbone"]["seed"]) for run in same)]
        line += [spread([run["sets"][name]["score"] for run in same]) for name in names]
        means = [(r, statistics.mean(r["sets"][n]["score"] for n in names)) for r in same]
        gains = [
            mean - statistics.mean(control[r["backbone"]["seed"]]["sets"][n]["score"] for n in names)
            for r, mean in means
            if view != "third" and r["backbone"]["seed"] in control
        ]
        lines.append([*line, spread([mean for _, mean in means]), spread(gains, sign="+") if gains else "-"])
    return lines


def _table(runs: list[Run]) -> str:
    names = [name for name in runs[0]["sets"] if all(name in run["sets"] for run in runs)]
    about = runs[0]["sets"]
    heads = [f"{name} ({about[name]['train'] + about[name]['validation']} images)" for name in names]
    return markdown(["view", "seeds", *heads, "mean", "mean over third"], _lines(runs, names))


def write(results: Path) -> None:
    """table.md in the folder of the JSONs."""
    runs = read_runs(results)
    parts = ["# Results of examples/transfer"]
    parts.append(
        "Frozen features, logistic regression by L-BFGS, C chosen on validation images and the classifier then trained "
        "on these too. Accuracy on the test set in per cent, mean ± standard deviation over seeds of the backbone. "
        "`mean over third`: points more than `third` with the same seed, over all sets."
    )
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        key = (run["config"]["scale"], trained_as(run)) if run["backbone"].get("view") else (run["config"]["scale"], "")
        groups.setdefault(key, []).append(run)
    for (scale, trained), group in sorted(groups.items()):
        if not trained:  # networks of timm
            names = list(group[0]["sets"])
            rows = [[r["backbone"]["name"], *(f"{100 * r['sets'][n]['score']:.1f}" for n in names)] for r in group]
            parts += [f"## Networks of timm, --scale {scale}", markdown(["network", *names], rows), origins(group)]
            continue
        own = group[0]["backbone"]
        how = ", ".join(f"{name} {own[name]}" for name in SHOWN if name in own)
        parts += [f"## {own.get('method', 'fixmatch')} on {own['data']}, {how}; --scale {scale}"]
        parts += [_table(group), origins(group)]
    (results / "table.md").write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
