"""Which training images have a label: the same number of each class, drawn by a seed, and kept in a file."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from idaa_transforms._util.files import write_json


def draw(labels: Tensor, count: int, seed: int) -> list[int]:
    """``count`` rows of ``labels`` (N,), the same number of each class, in order.

    Raises:
        ValueError: ``count`` is no multiple of the number of classes, or a class has too few images.
    """
    classes = int(labels.max()) + 1
    if count % classes or count < classes:
        raise ValueError(
            f"--labels {count} is no multiple of the {classes} classes: say {max(1, count // classes) * classes}"
        )
    generator, rows = torch.Generator().manual_seed(seed), []
    for each in range(classes):
        own = (labels == each).nonzero().flatten().cpu()
        if len(own) < count // classes:
            raise ValueError(
                f"class {each} has {len(own)} training images, fewer than the {count // classes} that --labels {count} "
                f"asks of each class: say --labels {len(own) * classes} or less, or leave the class out"
            )
        rows += own[torch.randperm(len(own), generator=generator)[: count // classes]].tolist()
    return sorted(rows)


def load(file: Path, labels: Tensor) -> list[int]:
    """The rows in a file of :func:`save`, for data with ``labels`` (N,).

    Raises:
        ValueError: it is no such file, names images that are not there, or leaves a class empty.
    """
    try:
        rows = json.loads(file.read_text())["rows"]
        good = bool(rows) and all(type(row) is int for row in rows) and len(set(rows)) == len(rows)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"--split {file} cannot be read ({error}); say a split.json of another run") from error
    if not good or min(rows) < 0 or max(rows) >= len(labels):
        raise ValueError(f"--split {file} is not a list of different rows of the {len(labels)} training images")
    missing = sorted(set(range(int(labels.max()) + 1)) - set(labels[rows].tolist()))
    if missing:
        raise ValueError(f"--split {file} leaves class {missing[0]} without a label; say a split that has all classes")
    return rows


def save(file: Path, rows: list[int], seed: int) -> None:
    """Write rows, and the seed that drew them."""
    write_json(file, {"seed": seed, "rows": rows})
