"""Table and plot of identity.py's rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import harness
import numpy as np

Row = dict[str, Any]
JUDGES = {"supervised": "prediction_kept", "simclr": "retrieved", "mobilenet": "retrieved"}
TITLES = {
    "supervised": "supervised ResNet\nkeeps its prediction",
    "simclr": "SimCLR features\nfind the image again",
    "mobilenet": "MobileNetV2 (ImageNet) features\nfind the image again",
}
GAINS = (0.1, 0.2, 0.3)


def lines(rows: list[Row], data: str) -> dict[str, list[Row]]:
    """Rows that differ in eps (or target_gain) only, by a name, in the order of what they raise the loss by."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row["data"] == data and row["method"] != "random":
            found.setdefault(name(row), []).append(row)
    return {key: sorted(line, key=lambda row: row["gain"]) for key, line in found.items()}


def name(row: Row) -> str:
    """What a line is called."""
    if row["method"] == "random":
        return str(row["augmentation"])
    extras = [row["norm"]] if row.get("norm", "linf") != "linf" else []
    extras += [f"{row['start']} start"] if "start" in row else []
    extras += ["posterior scale"] if "scale" in row else []
    extras += ["grad"] if "grad" in row else []
    extras += ["guard"] if "guard" in row else []
    extras += ["target gain"] if "target_gain" in row else []
    start = "CLAE" if row["method"] == "CLAE" else f"IDAA {row['weights']}"
    return ", ".join([start, f"{row['steps']} step{'s' if row['steps'] > 1 else ''}", *extras])


def at_gain(line: list[Row], gain: float, value: Any) -> float:
    """``value`` of a row where the line reaches ``gain``, interpolated from (0, 1 or 0); NaN beyond its end."""
    gains = [0.0, *(row["gain"] for row in line)]
    start = 0.0 if value(line[0]) < value(line[-1]) else 1.0
    values = [start, *(value(row) for row in line)]
    return float(np.interp(gain, gains, values)) if gain <= gains[-1] else float("nan")


def report(rows: list[Row], file: Path) -> str:
    """The table as Markdown, also written beside ``file``, and the plot."""
    text = []
    for data in dict.fromkeys(row["data"] for row in rows):
        header = [f"{data}: view"]
        for gain in GAINS:
            header += [f"+{gain:g}: {judge}" for judge in JUDGES] + ["L2"]
        body = []
        for title, line in lines(rows, data).items():
            cells = []
            for gain in GAINS:
                for judge, key in JUDGES.items():
                    cells.append(cell(at_gain(line, gain, lambda r, j=judge, k=key: r[j].get(k, r[j]["retrieved"]))))
                cells.append(cell(at_gain(line, gain, lambda r: r["l2"])))
            body.append([title, *cells])
        text.append(harness.table(header, body))
    random = [row for row in rows if row["method"] == "random"]
    body = [
        [
            name(r),
            f"{r['gain']:+.2f}",
            *(cell(r[j].get(k, r[j]["retrieved"])) for j, k in JUDGES.items()),
            cell(r["l2"]),
        ]
        for r in random
    ]
    text.append(harness.table(["random augmentation", "gain", *JUDGES, "L2"], body))
    file.with_suffix(".md").write_text("\n\n".join(text) + "\n")
    plot(rows, file.with_suffix(".png"))
    return "\n\n".join(text)


def cell(value: float) -> str:
    """Two digits, or a dash where there is nothing."""
    return "-" if np.isnan(value) else f"{value:.2f}"


SHOWN = {  # of the many lines, those that tell the story
    "CLAE, 1 step": ("tab:red", "o--"),
    "CLAE, 5 steps": ("tab:orange", "s--"),
    "IDAA cifar10-vae, 1 step": ("tab:blue", "o-"),
    "IDAA cifar10-vae, 5 steps": ("tab:green", "s-"),
    "IDAA cifar10-vae, 1 step, l2, posterior scale": ("tab:purple", "^-"),
    "IDAA cifar10-vae, 5 steps, l2, posterior scale": ("tab:pink", "^-"),
    "IDAA cifar10-vae-z128, 5 steps": ("tab:olive", "v-"),
    "IDAA taef2, 5 steps": ("tab:gray", "d-"),
}


def plot(rows: list[Row], file: Path) -> None:
    """Identity by each judge, and distance, against hardness; CIFAR-10."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 4.2), dpi=130, layout="constrained")
    axes = figure.subplots(1, 4)
    found = lines(rows, "cifar10")
    for axis, (judge, key) in zip(axes, JUDGES.items(), strict=False):
        for title, (colour, style) in SHOWN.items():
            if title in found:
                line = found[title]
                axis.plot([r["gain"] for r in line], [r[judge][key] for r in line], style, color=colour, label=title)
        axis.set(title=TITLES[judge], xlabel="rise of the attacked loss", xlim=(0, 0.6), ylim=(0, 1.02))
    for title, (colour, style) in SHOWN.items():
        if title in found:
            axes[3].plot([r["gain"] for r in found[title]], [r["l2"] for r in found[title]], style, color=colour)
    axes[3].set(title="moved, L2 of images in [0, 1]", xlabel="rise of the attacked loss", xlim=(0, 0.6), yscale="log")
    for axis in axes:
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(file)
