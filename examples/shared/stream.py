"""Labelled pictures that do not fit into memory, from shards or a folder: crops of them, made by workers, in an order
that is known beforehand.

What a step sees depends on the seed, the epoch and the step alone, not on the number of workers or processes, nor on
where a run was interrupted: a batch holds the same pictures, and of each the same crops.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional

from idaa_transforms.training.data import parts
from idaa_transforms.training.folder import Found
from idaa_transforms.training.pictures import shown
from idaa_transforms.training.reading import Part, Told, collate, shuffled
from idaa_transforms.training.run import TrainingError
from idaa_transforms.training.sources import open_source

Crops = Callable[[Tensor, random.Random], Any]


def open_pictures(data: str, root: str = "data", train: int = 0, test: int = 0) -> tuple[Part, Part]:
    """The pictures of ``data`` to train and to test on, RGB; none is read.

    Args:
        data: a folder of shards, of pictures with a folder for each class, or a name of one in ``root``.
        train: keep so many, the first; 0 for all. ``test`` likewise.

    Raises:
        ValueError: there is no such folder, or some pictures have no labels.
    """
    folder = next((path for path in (Path(data), Path(root) / data) if path.is_dir()), None)
    if folder is None:
        raise ValueError(
            f"{data!r} is no folder of shards or pictures; `idaa pack DATA {data}` makes one of other data"
        )
    found = Found(shown(folder))
    learning, testing = parts(open_source(str(folder), found, Path(root)), found, channels=3)
    for part, many in ((learning, train), (testing, test)):
        part.rows = part.rows[: many or None]
        if not part.rows or min(part.labels()) < 0:
            raise ValueError(f"{folder} has no pictures to train or to test on, or some that have no label")
    return learning, testing


def random_crop(picture: Tensor, size: int, scale: tuple[float, float], dice: random.Random) -> Tensor:
    """A part of a picture (C, H, W), as Szegedy et al. (CVPR 2015) draw it, resized to (C, size, size): a share of the
    area within ``scale``, and sides of 3:4 to 4:3."""
    height, width = picture.shape[1:]
    for _ in range(10):
        area = height * width * dice.uniform(*scale)
        ratio = math.exp(dice.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            break
    else:  # a very long picture: all of its shorter side
        h, w = min(height, round(width * 4 / 3)), min(width, round(height * 4 / 3))
    top, left = dice.randint(0, height - h), dice.randint(0, width - w)
    return functional.resized_crop(picture, top, left, h, w, [size, size], antialias=True)


def middle(picture: Tensor, size: int) -> Tensor:
    """The middle of a picture (C, H, W) as (C, size, size): 7/8 of its shorter side."""
    square = functional.center_crop(picture, [min(picture.shape[1:])] * 2)
    whole = functional.resize(square, [round(size * 8 / 7)] * 2, antialias=True)
    return functional.center_crop(whole, [size, size])


class Cropped(Dataset[Any]):
    """``crops`` of each picture and its label. They are given dice that depend on ``seed`` and the row alone."""

    def __init__(self, part: Part, crops: Crops, seed: str = "") -> None:
        self.part, self.crops, self.seed = part, crops, seed

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, i: int) -> Any:
        picture, label = self.part[i]
        return self.crops(picture, random.Random(f"{self.seed} {i}")), label


class RandomCrops:
    """Random crops: of each size so many, with a share of the area within ``scale``; stacks (V, C, size, size).

    Args:
        kinds: a size, a number and a scale each.
    """

    def __init__(self, kinds: list[tuple[int, int, tuple[float, float]]]) -> None:
        self.kinds = [kind for kind in kinds if kind[1]]

    def __call__(self, picture: Tensor, dice: random.Random) -> list[Tensor]:
        """A stack for each size."""
        return [
            torch.stack([random_crop(picture, size, scale, dice) for _ in range(count)])
            for size, count, scale in self.kinds
        ]


def epoch_order(part: Part, seed: int, epoch: int, size: int) -> Tensor:
    """The batches of an epoch, (steps, size) rows of ``part``; what does not fill a batch is left out."""
    order = shuffled(part, torch.Generator().manual_seed(seed * 1_000_003 + epoch))
    return order[: len(order) // size * size].view(-1, size)


def load(dataset: Dataset[Any], batches: list[list[int]], workers: int, patience: float) -> Iterator[Any]:
    """Each of the ``batches`` of rows, decoded.

    Args:
        workers: processes that decode; 0 for this one.
        patience: seconds that a batch may take.

    Raises:
        ValueError: a picture cannot be read; one line.
        TrainingError: a worker has died, or takes longer than that; one line.
    """
    options = {"timeout": patience, "prefetch_factor": 4} if workers else {}
    pin = torch.cuda.is_available()
    loader = DataLoader(
        Told(dataset), batch_sampler=batches, num_workers=workers, collate_fn=collate, pin_memory=pin, **options
    )
    try:
        for batch, reasons in loader:
            if reasons:
                raise ValueError(reasons[0])
            yield batch
    except RuntimeError as error:
        said = " ".join(str(error).split())
        if "DataLoader" not in said:
            raise
        raise TrainingError(
            f"the workers that decode pictures ended, or took more than {patience:g} s for a batch ({said[:120]}); "
            "look at the memory and at the disk, or use fewer --workers"
        ) from error
