"""Table and plot of identity.py's rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import harness

Row = dict[str, Any]
LEGEND = """What views cost, at the same rise of the attacked loss, interpolated between the eps that were measured.
Agreement: the reference model predicts the same class. Retrieval: the view's nearest image among all is its own, by the
reference model's features. Cosine: of its outputs for image and view, mean over reference models. Their loss: how much
the same loss rises for the reference models. L2: of images in [0, 1], mean; and as a multiple of CLAE's, one step."""
REFERENCE_MODELS = ("supervised", "simclr", "mobilenet")
GAINS = (0.1, 0.2, 0.3)


def lines(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows that differ in eps (or target_gain) only, by a name, in the order of what they raise the loss by."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row["method"] != "random":
            found.setdefault(name(row), []).append(row)
    return {key: sorted(line, key=lambda row: row["gain"]) for key, line in found.items()}


def name(row: Row) -> str:
    """What a line is called."""
    if row["method"] == "random":
        return str(row["augmentation"])
    extras = [row["norm"]] if row.get("norm", "linf") != "linf" else []
    extras += ["posterior units"] if "scale" in row else []
    extras += ["guard"] if "guard" in row else []
    extras += ["target gain"] if "target_gain" in row else []
    start = "CLAE" if row["method"] == "CLAE" else f"IDAA {row['weights']}"
    return ", ".join([start, f"{row['steps']} step{'s' if row['steps'] > 1 else ''}", *extras])


Value = Callable[[Row], float]


def at_gain(line: list[Row], gain: float, value: Value, at_zero: float) -> float:
    """``value`` where the line reaches ``gain``, interpolated, from ``at_zero`` on; NaN beyond its end."""
    gains, values = [0.0, *(row["gain"] for row in line)], [at_zero, *(value(row) for row in line)]
    return float(np.interp(gain, gains, values)) if gain <= gains[-1] else float("nan")


def mean(key: str) -> Value:
    """Mean over the reference models."""
    return lambda row: float(np.mean([row[model][key] for model in REFERENCE_MODELS]))


COLUMNS: dict[str, tuple[Value, float]] = {  # of the table: what, and what an untouched image has
    "supervised: agreement": (lambda row: row["supervised"]["prediction_agreement"], 1.0),
    "supervised: retrieval": (lambda row: row["supervised"]["retrieval_at_1"], 1.0),
    "simclr: retrieval": (lambda row: row["simclr"]["retrieval_at_1"], 1.0),
    "mobilenet: retrieval": (lambda row: row["mobilenet"]["retrieval_at_1"], 1.0),
    "cosine": (mean("cosine"), 1.0),
    "their loss": (mean("transferred"), 0.0),
    "L2": (lambda row: row["l2"], 0.0),
}


def report(rows: list[Row], file: Path) -> str:
    """The tables as Markdown, also written beside ``file``, which names the run, and the plot."""
    text = ["# What views cost in identity", LEGEND]
    found = lines(rows)
    for gain in GAINS:
        body = []
        for title, line in found.items():
            values = [at_gain(line, gain, *column) for column in COLUMNS.values()]
            if not all(map(np.isnan, values)):
                times = values[-1] / at_gain(found["CLAE, 1 step"], gain, *COLUMNS["L2"])
                body.append([title, *map(cell, values), cell(times, 1)])
        text.append(harness.table([f"cifar10, loss + {gain:g}", *COLUMNS, "L2 / CLAE"], body))
    random = [row for row in rows if row["method"] == "random"]
    body = [[name(r), f"{r['gain']:+.2f}", *(cell(value(r)) for value, _ in COLUMNS.values())] for r in random]
    text.append(harness.table(["random augmentation", "loss", *COLUMNS], body))
    body = [
        [f"{r['target_gain']:g}", *(f"{r[key]:.3f}" for key in ("gain", "gain_q1", "gain_q3")), cell(r["l2"])]
        for r in rows
        if "target_gain" in r
    ]
    text.append(harness.table(["target_gain", "mean", "lower quartile", "upper quartile", "L2"], body))
    text.append(". ".join(json.loads(file.read_text())["run"].values()))
    file.with_suffix(".md").write_text("\n\n".join(text) + "\n")
    plot(rows, file.with_suffix(".png"))
    return "\n\n".join(text)


def cell(value: float, digits: int = 3) -> str:
    """A number, or a dash where there is none."""
    return "-" if np.isnan(value) else f"{value:.{digits}f}"


SHOWN = {  # of the many lines, those that tell the story
    "CLAE, 1 step": ("tab:red", "o--"),
    "CLAE, 5 steps": ("tab:orange", "s--"),
    "IDAA cifar10-vae, 1 step": ("tab:blue", "o-"),
    "IDAA cifar10-vae, 5 steps": ("tab:green", "s-"),
    "IDAA cifar10-vae, 1 step, l2, posterior units": ("tab:purple", "^-"),
    "IDAA cifar10-vae, 5 steps, l2, posterior units": ("tab:pink", "^-"),
    "IDAA cifar10-vae-z128, 1 step": ("tab:olive", "v-"),
    "IDAA taef2, 1 step": ("tab:gray", "d-"),
}


PANELS: list[tuple[str, str, Value, Value]] = [
    (
        "supervised ResNet: prediction agreement",
        "",
        lambda r: r["gain"],
        lambda r: r["supervised"]["prediction_agreement"],
    ),
    ("SimCLR features: retrieval at 1", "", lambda r: r["gain"], lambda r: r["simclr"]["retrieval_at_1"]),
    ("MobileNetV2 (ImageNet): retrieval at 1", "", lambda r: r["gain"], lambda r: r["mobilenet"]["retrieval_at_1"]),
    ("distance moved, L2 of images in [0, 1]", "", lambda r: r["gain"], lambda r: r["l2"]),
    ("reference models: rise of their own loss", "", lambda r: r["gain"], mean("transferred")),
    ("MobileNetV2: cosine", "distance moved, L2", lambda r: r["l2"], lambda r: r["mobilenet"]["cosine"]),
]


def plot(rows: list[Row], file: Path) -> None:
    """Identity by each reference model, distance, and hardness for reference models, against hardness."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7.4), dpi=120, layout="constrained")
    found, random = lines(rows), [row for row in rows if row["method"] == "random"]
    for axis, (title, label, across, up) in zip(figure.subplots(2, 3).flat, PANELS, strict=True):
        for key, (colour, style) in SHOWN.items():
            line = found.get(key, [])
            axis.plot([across(r) for r in line], [up(r) for r in line], style, ms=4, color=colour, label=key)
        stars = [row for row in random if label or row["gain"] > 0]
        axis.plot([across(r) for r in stars], [up(r) for r in stars], "k*", ms=9, label="random augmentation")
        axis.set(
            title=title, xlabel=label or "rise of the attacked network's loss", xscale="log" if label else "linear"
        )
        axis.grid(alpha=0.3)
        if title.startswith("distance"):
            axis.set_yscale("log")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    figure.savefig(file)
