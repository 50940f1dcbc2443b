"""From the places of pictures to tensors: what they are, then their pixels, in this process or in workers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision.transforms import v2

from .._util.extras import require
from .folder import Found
from .pictures import Header, header_of, one_line, pixels, read_header, read_picture
from .shards import Shards

CURE = "; skip_bad=True (--skip-bad) leaves out what cannot be read"

WINDOW = 16
"""So many shards are read at a time: some 2 GB, which a system keeps in memory, and enough to shuffle."""


class Files:
    """Picture files and their labels."""

    def __init__(self, files: Sequence[Path], labels: Sequence[int]) -> None:
        self.files, self.labels = files, labels

    def __len__(self) -> int:
        return len(self.files)

    def header(self, i: int) -> Header:
        """What picture ``i`` is."""
        return read_header(self.files[i])

    def read(self, i: int, channels: int | None) -> tuple[Tensor, int]:
        """Picture ``i``, uint8 (C, H, W), and its label."""
        return read_picture(self.files[i], channels), self.labels[i]


class Named:
    """A torchvision dataset likewise. Masks, boxes and the like are no labels."""

    def __init__(self, inner: Any, name: str) -> None:
        self.inner, self.name = inner, name

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, i: int) -> Any:
        return self.inner[i]

    def header(self, i: int) -> Header:
        """What picture ``i`` is."""
        with one_line(Path(f"{self.name}[{i}]")):
            return header_of(self.inner[i][0])

    def read(self, i: int, channels: int | None) -> tuple[Tensor, int]:
        """Picture ``i``, uint8 (C, H, W), and its label."""
        with one_line(Path(f"{self.name}[{i}]")):
            picture, label, *_ = self.inner[i]
            return pixels(picture, channels), label if isinstance(label, int) else -1


Source = Files | Named | Shards


class Part(Dataset[Any]):
    """The rows of a source to use, each as (uint8 (C, H, W), label), transformed; or the image alone."""

    def __init__(self, source: Source, rows: list[int]) -> None:
        self.source, self.rows = source, rows
        self.channels: int | None = None
        self.transform: Any = None
        self.labelled = True

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Any:
        image, label = self.source.read(self.rows[i], self.channels)
        image = self.transform(image) if self.transform else image
        return (image, label) if self.labelled else image

    def labels(self) -> list[int]:
        """Of each row."""
        if isinstance(self.source, Named):
            raise ValueError(f"labels of {self.source.name} are not known before its pictures are read")
        return [self.source.labels[i] for i in self.rows]

    def shards(self) -> Tensor | None:
        """The shard that each row is in, (N,); None where there are none."""
        return self.source.shard(self.rows) if isinstance(self.source, Shards) else None


class Told(Dataset[Any]):
    """An item, or the reason why it cannot be read: an exception would bring its worker's traceback along."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, i: int) -> Any:
        try:
            return self.inner[i]
        except (ValueError, OSError) as error:
            return str(error)


def middle_square(images: Tensor, size: int | None) -> Tensor:
    """The square in the middle of images (..., H, W), resized to ``size``; the images themselves for None."""
    if size is None or tuple(images.shape[-2:]) == (size, size):
        return images
    images = v2.functional.center_crop(images, [min(images.shape[-2:])] * 2)  # first: a thin one would become huge
    return v2.functional.resize(images, [size, size], antialias=True)


def shuffled(train: Tensor | Dataset[Tensor], generator: torch.Generator) -> Tensor:
    """The rows of ``train``, (N,), in an order that ``generator`` draws. Of shards all pictures of ``WINDOW`` of them
    come before the next ones, so that a disk is read in large pieces and all processes read the same ones."""
    many = len(train)  # type: ignore[arg-type]
    if not isinstance(train, Part) or (shards := train.shards()) is None:
        return torch.randperm(many, generator=generator)
    windows = torch.randperm(int(shards.max()) + 1, generator=generator)[shards] // WINDOW
    order = torch.randperm(many, generator=generator)
    return order[windows[order].argsort(stable=True)]


def collate(items: list[Any]) -> tuple[Any, list[str]]:
    """A batch of those that could be read, None if none could, and the reasons of the others."""
    good = [item for item in items if not isinstance(item, str)]
    return default_collate(good) if good else None, [item for item in items if isinstance(item, str)]


def survey(parts: Sequence[Part], found: Found, channels: int | None, skip_bad: bool) -> None:
    """Read all headers; then each part has the rows that can be read, and one number of channels.

    That is ``channels``; or 1 where all are greyscale, 3 where some are in colour, and that of stacks.
    """
    require("train", "tqdm")
    from tqdm import tqdm

    kinds = set()
    for part in parts:
        good = []
        for row in tqdm(part.rows, desc="looking at images", leave=False, delay=1):
            try:
                header = part.source.header(row)
            except ValueError as error:
                found.bad.append(str(error))
                continue
            good.append(row)
            kinds.add(header.channels)
            found.sizes[header.size] += 1
            found.modes[header.mode] += 1
        part.rows = good
    if found.bad and not skip_bad:
        more = f"; {len(found.bad) - 1:,} more like it" if len(found.bad) > 1 else ""
        raise ValueError(found.bad[0] + more + CURE)
    found.channels = channels or max(kinds, default=0)
    for part in parts:
        part.channels = found.channels


def read_all(part: Part, workers: int, found: Found, skip_bad: bool) -> tuple[Tensor, Tensor]:
    """Images, uint8 (N, C, H, W), and labels (N,); N is 0 where nothing could be read."""
    from tqdm import tqdm

    images, labels = [torch.empty(0)], [torch.empty(0, dtype=torch.int64)]
    loader = DataLoader(Told(part), batch_size=256, num_workers=workers, collate_fn=collate)
    for batch, reasons in tqdm(loader, desc="reading images", unit="batch", leave=False, delay=1):
        found.bad += reasons
        if reasons and not skip_bad:
            raise ValueError(reasons[0] + CURE)
        if batch:
            images.append(batch[0])
            labels.append(batch[1])
    return torch.cat(images[1:] or images), torch.cat(labels)


def keep_readable(part: Part, workers: int, found: Found) -> None:
    """Read all of a part once, and drop and list what cannot be read."""
    from tqdm import tqdm

    loader = DataLoader(_Tried(part), batch_size=64, num_workers=workers, collate_fn=list)
    good = []
    for batch in tqdm(loader, desc="checking images", unit="batch", leave=False, delay=1):
        good += [i for i in batch if isinstance(i, int)]
        found.bad += [reason for reason in batch if isinstance(reason, str)]
    part.rows = [part.rows[i] for i in good]


class _Tried(Told):
    def __getitem__(self, i: int) -> Any:
        item = super().__getitem__(i)
        return item if isinstance(item, str) else i
