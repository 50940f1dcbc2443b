"""The sets that features are transferred to: pictures and labels to choose on, to validate on and to test on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets
from torchvision.transforms import v2

from examples.shared.images import labelled_images

BATCH = 250


@dataclass(frozen=True)
class Named:
    """A set that torchvision has: its splits to train on, to validate on (or none) and to test on."""

    kind: str
    splits: tuple[str, str | None, str]


TORCHVISION = {
    "dtd": Named("DTD", ("train", "val", "test")),
    "aircraft": Named("FGVCAircraft", ("train", "val", "test")),
    "flowers102": Named("Flowers102", ("train", "val", "test")),
    "pets": Named("OxfordIIITPet", ("trainval", None, "test")),
}
PAPERS = ("cifar10", "cifar100", "birdsnap", "aircraft", "dtd", "pets", "flowers102", "cub200")
MEAN_PER_CLASS = ("aircraft", "pets", "flowers102")  # as in Kornblith et al.; top-1 elsewhere
HELD_OUT = 5  # where there is no set to validate on, every so many-th image of a random order becomes one


@dataclass
class Part:
    """Images, uint8 (N, 3, size, size) or read when asked for, and labels (N,)."""

    images: Tensor | Dataset[Any]
    labels: Tensor

    def batches(self) -> Iterator[Tensor]:
        """All images in order, in [0, 1]."""
        if isinstance(self.images, Tensor):
            yield from (batch.float() / 255 for batch in self.images.split(BATCH))
        else:
            yield from (batch.float() / 255 for batch, _ in DataLoader(self.images, BATCH))


@dataclass
class Parts:
    """One set. ``rows`` of ``train`` are to learn from and to validate on while C is chosen; of ``val`` all are."""

    train: Part
    val: Part | None
    test: Part


def load(name: str, root: Path, size: int, download: bool, train: int = 0, test: int = 0) -> Parts:
    """A set by name.

    Args:
        name: one of torchvision's, or NAME of <root>/NAME.npz, any .npz, a folder with train/ and test/ in it, and in
            these a folder for each class; cifar10, cifar100, or another data set of the Hub, org/name.
        root: where sets are; a folder <root>/NAME is one too.
        size: height and width: pictures are scaled to it by their shorter side, and cropped to the middle.
        download: whether torchvision may.
        train: keep so many of the training images, drawn at random; 0 for all. ``test`` likewise.

    Raises:
        ValueError: it is not there, has fewer than two classes, or cannot be used.
    """
    if name in TORCHVISION:
        parts = _of_torchvision(TORCHVISION[name], root, size, download)
    else:
        folder = root / name
        if name in ("birdsnap", "cub200") and not folder.is_dir() and not (root / f"{name}.npz").exists():
            raise ValueError(f"{name} is not in {root}: examples/transfer/README.md says where to get it")
        images = labelled_images(str(folder) if folder.is_dir() else name, str(root), size)
        parts = Parts(Part(images.train, images.train_labels), None, Part(images.test, images.test_labels))
    parts = Parts(_some(parts.train, train), parts.val, _some(parts.test, test))
    _check(name, parts)
    return parts


def held_out(count: int) -> tuple[Tensor, Tensor]:
    """Rows to learn from and rows to validate on, of ``count`` training images that come without a set for that."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    keep = torch.arange(count) % HELD_OUT > 0
    return order[keep], order[~keep]


def _some(part: Part, count: int) -> Part:
    if not count or count >= len(part.labels):
        return part
    rows = torch.randperm(len(part.labels), generator=torch.Generator().manual_seed(0))[:count]
    images = part.images
    images = images[rows] if isinstance(images, Tensor) else torch.utils.data.Subset(images, rows.tolist())
    return Part(images, part.labels[rows])


def _check(name: str, parts: Parts) -> None:
    known = set(parts.train.labels.tolist())
    if len(known) < 2:
        raise ValueError(f"{name} has {len(known)} class to train on; a classifier needs two")
    if strange := sorted(set(parts.test.labels.tolist()) - known):
        raise ValueError(f"{name} tests on class {strange[0]}, of which it has no training image; leave it out of both")


def _of_torchvision(named: Named, root: Path, size: int, download: bool) -> Parts:
    change = v2.Compose([v2.RGB(), v2.Resize(size, antialias=True), v2.CenterCrop(size), v2.PILToTensor()])
    kind = getattr(datasets, named.kind)

    def part(split: str | None) -> Part | None:
        if split is None:
            return None
        try:
            pictures = kind(root, split=split, transform=change, download=download)
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:160]
            raise ValueError(
                f"torchvision's {named.kind} is not in {root} and could not be downloaded ({reason}): copy it from a "
                "machine that has it, or leave it out of --sets"
            ) from error
        return Part(pictures, torch.tensor([int(label) for label in pictures._labels]))

    train, val, test = (part(split) for split in named.splits)
    return Parts(train, val, test)
