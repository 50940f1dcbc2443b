"""What the paper's Figures 5 and 6 vary, one setting at a time, as runs of train.py. sensitivity.py runs them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import NamedTuple

VIEWS = ("none", "third", "clae", "idaa-grad")
AXES = {  # figure of the paper, and what it varies
    "batch": (5, "batch size"),
    "depth": (5, "layers of the ResNet"),
    "epochs": (5, "epochs"),
    "beta": (6, "beta of the VAE"),
    "width": (6, "width of the bottleneck, z"),
    "eps": (6, "eps"),
}
OF_IDAA = ("beta", "width", "eps")  # no other view knows them
OF_VAE = ("beta", "width")
Values = dict[str, tuple[float, ...]]


class Scale(NamedTuple):
    """Runs of one size: by axis what is usual, and the values that a figure has."""

    options: list[str]  # of train.py
    vae: list[str]  # of `idaa train-vae`, for the axes that vary the VAE
    usual: dict[str, float]
    values: Values
    depths: dict[float, list[str]]  # options of train.py by the layers of the ResNet


class Cell(NamedTuple):
    """Runs that differ in the seed alone."""

    view: str
    value: float
    name: str
    options: list[str]  # of train.py

    def run(self, seed: int) -> list[str]:
        """Options of train.py for one of them, its folder last."""
        return [*self.options, "--seed", str(seed), "--out", f"runs/sensitivity/{self.name}--s{seed}"]


def narrow(**options: object) -> dict[float, list[str]]:
    """ResNets like the one of --scale small, the smallest."""
    layers = {10: [1, 1, 1, 1], 18: [2, 2, 2, 2], 34: [3, 4, 6, 3]}
    return {n: ["--backbone-options", json.dumps(options | {"layers": blocks})] for n, blocks in layers.items()}


VAE = ["--weights", "cifar10-vae-small"]
SHORT = ["--flat-epochs", "0", *VAE]
BETA, EPS = (0.1, 0.4, 1.6, 6.4), (0.05, 0.1, 0.2, 0.5)
SCALES = {
    "paper": Scale(
        [],
        [],
        {"batch": 256, "depth": 18, "epochs": 300, "beta": 0.4, "width": 512, "eps": 0.1},
        {
            "batch": (64, 128, 256, 512, 1024),
            "depth": (10, 18, 34, 50),
            "epochs": (100, 200, 300, 500),
            "beta": BETA,
            "width": (64, 128, 256, 512),
            "eps": (*EPS, 1.0),
        },
        {10: ["--backbone", "resnet10t"], 34: ["--backbone", "resnet34"], 50: ["--backbone", "resnet50"]},
    ),
    "small": Scale(  # less than elsewhere: 4,000 images for two epochs, judged on 5,000
        ["--train-images", "4000", "--test-images", "5000", "--epochs", "2", *SHORT],
        ["--width", "16", "--epochs", "2", "--bf16"],
        {"batch": 128, "depth": 10, "epochs": 2, "beta": 0.1, "width": 128, "eps": 0.1},
        {
            "batch": (64, 128, 256),
            "depth": (10, 18, 34),
            "epochs": (1, 2, 4),
            "beta": BETA,
            "width": (32, 128, 512),
            "eps": EPS,
        },
        narrow(channels=[32, 64, 128, 256], stem_width=16),
    ),
    "smoke": Scale(
        VAE,
        ["--width", "8", "--epochs", "1", "--batch-size", "20"],
        {"batch": 16, "depth": 10, "epochs": 1, "beta": 0.4, "width": 4, "eps": 0.1},
        {"batch": (8, 16), "depth": (10, 18), "epochs": (1, 2), "beta": (0.4, 1.6), "width": (4, 8), "eps": (0.1, 0.2)},
        narrow(channels=[8, 8, 8, 8], stem_width=4),
    ),
}


def vae(scale: str, axis: str, value: float) -> tuple[str, list[str]]:
    """Folder of the VAE for a value of ``beta`` or ``width``, and the options of `idaa train-vae` that train it."""
    size = SCALES[scale]
    beta, z = (value if axis == name else size.usual[name] for name in ("beta", "width"))
    folder = f"runs/vae/{scale}-z{z:g}-beta{beta:g}"
    return folder, ["--latent-dim", f"{z:g}", "--beta", f"{beta:g}", *size.vae, "--out", folder]


def variant(scale: str, axis: str, value: float) -> tuple[str, list[str]]:
    """Name of a value and options of train.py for it; of a usual one none, so that the axes share its runs. The VAEs of
    an axis are trained alike, the one of the usual value too."""
    if axis in OF_VAE:
        folder = vae(scale, axis, value)[0]
        return "--" + folder.rpartition(f"{scale}-")[2], ["--weights", folder]
    if value == SCALES[scale].usual[axis]:
        return "", []
    options = {"batch": "--batch-size", "epochs": "--epochs", "eps": "--eps"}
    said = SCALES[scale].depths[value] if axis == "depth" else [options[axis], f"{value:g}"]
    return f"--{axis}{value:g}", said


def cells(scale: str, axis: str, views: Iterable[str] = VIEWS) -> Iterator[Cell]:
    """One panel. A view that does not know the setting has one value, the usual one."""
    size = SCALES[scale]
    for view in views:
        known = axis not in OF_IDAA or view.startswith("idaa")
        for value in size.values[axis] if known else [size.usual[axis]]:
            suffix, said = variant(scale, axis, value) if known else ("", [])
            options = ["--scale", scale, *size.options, "--view", view, *said]
            yield Cell(view, value, f"{scale}--{view}{suffix}", options)
