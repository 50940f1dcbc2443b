"""Random crops of pictures that do not fit into memory, made by workers, in an order that is known beforehand.

What a step sees depends on the seed, the epoch and the step alone, not on the number of workers or processes, nor on
where a run was interrupted: a batch holds the same pictures, and of each the same crops.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchdata.stateful_dataloader.sampler import StatefulDistributedSampler
from torchvision.transforms import v2

from examples.shared.images import HUB
from idaa_transforms.training.pictures import Pictures, Told, collate, open_pictures


def labelled_pictures(data: str, root: str = "data", train: int = 0, test: int = 0) -> tuple[Pictures, Pictures]:
    """RGB pictures of ``data``, or of a folder of that name in ``root``, to train and to test on; none is read.

    Args:
        train: keep so many, the first; 0 for all. ``test`` likewise.

    Raises:
        ValueError: there is no such data, or some pictures have no labels.
    """
    folder = Path(root) / data
    parts = open_pictures(str(folder) if folder.is_dir() and not Path(data).exists() else HUB.get(data, data))
    kept = [part.only(list(range(len(part)))[: many or None]) for part, many in zip(parts, (train, test), strict=True)]
    for part in kept:
        part.channels = 3
        if not len(part) or part.labels.min() < 0:
            raise ValueError(f"{data!r} has no pictures to train or to test on, or some that have no label")
    return kept[0], kept[1]


class Cropped(Dataset[Any]):
    """``crop`` of each picture, whose random numbers depend on ``seed`` and the picture alone, and its label."""

    def __init__(self, pictures: Pictures, crop: Callable[[Tensor], Any], seed: str = "") -> None:
        self.pictures, self.crop, self.seed = pictures, crop, seed

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, i: int) -> Any:
        picture, label = self.pictures[i]
        with torch.random.fork_rng([]):
            torch.manual_seed(random.Random(f"{self.seed} {i}").getrandbits(63))
            return self.crop(picture), label


class RandomCrops:
    """So many random crops of a picture, with a share of its area within ``scale``, (count, C, size, size)."""

    def __init__(self, size: int, count: int, scale: tuple[float, float]) -> None:
        self.crop, self.count = v2.RandomResizedCrop(size, scale, antialias=True), count

    def __call__(self, picture: Tensor) -> Tensor:
        """See above."""
        return torch.stack([self.crop(picture) for _ in range(self.count)])


def middle(size: int) -> v2.Compose:
    """The middle of a picture, 7/8 of its shorter side, (C, size, size)."""
    return v2.Compose([v2.Resize(round(size * 8 / 7), antialias=True), v2.CenterCrop(size)])


def load(
    dataset: Cropped,
    size: int,
    workers: int,
    patience: float,
    rank: int = 0,
    world: int = 1,
    order: tuple[int, int, int] | None = None,
) -> Iterator[Any]:
    """The share of process ``rank`` of each batch of ``size``, decoded.

    Args:
        dataset: what is loaded.
        size: of a batch, over all processes.
        workers: processes that decode; 0 for this one.
        patience: seconds that a batch may take.
        order: seed and epoch that shuffle, and the steps of the epoch that are done; what does not fill a batch is left
            out. None: all in their own order.

    Raises:
        ValueError: a picture cannot be read; one line.
        RuntimeError: a worker has died, or takes longer than that.
    """
    seed, epoch, done = order or (0, 0, 0)
    if order is None:
        sampler: Any = range(rank, len(dataset), world)
    else:
        sampler = StatefulDistributedSampler(dataset, world, rank, seed=seed, drop_last=True)
        sampler.set_epoch(epoch)
        sampler.load_state_dict({"yielded": done * size // world})
    loader = DataLoader(
        Told(dataset),
        size // world,
        sampler=sampler,
        drop_last=order is not None,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        **({"timeout": patience, "prefetch_factor": 4} if workers else {}),
    )
    for batch in loader:
        if isinstance(batch, str):
            raise ValueError(batch)
        yield batch
