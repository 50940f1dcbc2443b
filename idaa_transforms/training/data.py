"""The one door for images: arrays in an .npz or .npy, a folder of pictures or shards, or a dataset of torchvision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from .arrays import as_images, read_arrays
from .folder import Found
from .pictures import one_line, shown
from .reading import (
    CURE,
    Part,
    Source,
    Told,
    collate,
    keep_readable,
    middle_square,
    read_all,
    shuffled,
    survey,
)
from .sources import open_source

IN_MEMORY = 2 << 30
"""Bytes of uint8 images up to which a set is kept on the device; larger ones stream through a DataLoader."""
HELD_OUT = 20
"""Where there is no test set, every so many-th image becomes one."""


class Images(NamedTuple):
    """``test`` and, where they fit, ``train`` are uint8 (N, C, H, W); otherwise ``train`` yields such (C, H, W),
    already randomly cropped. Signals, of :func:`.signals.load_signals`, are float32 (N, C, L). Labels are int64 (N,),
    -1 for a picture that has none; None where an ``.npz`` has none, and for a ``train`` that does not fit. ``found``
    says what the source holds and what was left out."""

    train: Tensor | Dataset[Tensor]
    test: Tensor
    name: str
    train_labels: Tensor | None = None
    test_labels: Tensor | None = None
    found: Found | None = None


def load_images(
    source: str,
    size: int | None = None,
    root: Path = Path("data"),
    workers: int = 0,
    *,
    channels: int | None = None,
    only: Literal["test", "all"] | None = None,
    limit: int | None = None,
    skip_bad: bool = False,
    exclude: Iterable[Path] = (),
    download: bool = True,
) -> Images:
    """Training and test images of ``source``, and their labels.

    Args:
        source: an ``.npz`` with x_train and, if it has a test set, x_test, (N, H, W) or (N, H, W, C); an ``.npy`` of
            that shape; a folder of pictures, however nested, with ``train`` and ``test`` (or ``val``) apart if it has
            these; a folder of shards (``shards.py``); or the name of a torchvision dataset. Where there is no test
            set, every twentieth image becomes one.
            Labels are y_train and y_test of an ``.npz``, and the subfolders of a folder in alphabetical order.
            ``training/pictures.py`` has the rules by which pictures and values become uint8.
        size: height and width. Images are cropped to the square in their middle and resized. Needed unless all images
            have one size, and all pictures are square.
        root: where torchvision datasets are, or are downloaded to.
        workers: processes that decode.
        channels: of the images. Default: those that they have; a folder in which all pictures are greyscale has one,
            and where some are in colour all are RGB.
        only: read no training images (``train`` is then empty): "test" gives the test images as above; "all" gives all
            images where the source has no test set of its own, for measurements in which nothing is trained.
        limit: of the test images take so many, drawn by a seed of their own, and read no others.
        skip_bad: leave out pictures that cannot be read and list them in ``found.bad``, instead of stopping at one.
        exclude: folders that are left out even if they lie in ``source``, such as the one that a run writes to.
        download: whether a torchvision dataset may be downloaded.

    Raises:
        ValueError: the source is none of these, or what it holds cannot be used; one line with file and reason.
    """
    path = Path(source).expanduser()
    found = Found(shown(path))
    opened = open_source(source, found, root, exclude, download)
    if opened is None:
        return _arrays(path, size, channels, only, limit, found)
    learning, testing = parts(opened, found, channels, only, limit, skip_bad)
    size = size or _common_size(found, source)
    return _read(learning, testing, size, found, path.name, workers, not only, skip_bad)


def parts(
    opened: tuple[Source, Source | None],
    found: Found,
    channels: int | None = None,
    only: Literal["test", "all"] | None = None,
    limit: int | None = None,
    skip_bad: bool = False,
) -> tuple[Part, Part]:
    """What of ``open_source`` to train on and what to test on, looked through but not read; see :func:`load_images`."""
    if found.bad and not skip_bad:
        raise ValueError(found.bad[0] + CURE)
    train, test = opened
    learn, held = choose(len(train), None if test is None else len(test), only, limit)
    learning, testing = Part(train, learn), Part(train if test is None else test, held)
    survey((learning, testing), found, channels, skip_bad)
    return learning, testing


def batches(
    train: Tensor | Dataset[Tensor], size: int, generator: torch.Generator, rank: int, world: int, workers: int
) -> Iterator[Tensor]:
    """One epoch: float batches, of images in [0, 1], the share of ``rank`` of each batch of ``size``, in an order that
    ``generator`` (same on every rank) draws. What does not fill a batch is left out.

    Raises:
        ValueError: a picture cannot be read; one line, whatever ``workers`` is.
    """
    order = shuffled(train, generator)
    order = order[: len(order) // size * size].view(-1, size)[:, rank::world]
    if isinstance(train, Tensor):
        scale = 1 if train.is_floating_point() else 255  # signals have their own units
        for rows in order.to(train.device):
            yield train[rows].float() / scale
        return
    sampler = order.tolist()
    loader = DataLoader(
        Told(train), batch_sampler=sampler, num_workers=workers, generator=generator, collate_fn=collate
    )
    for batch, reasons in loader:
        if reasons:
            raise ValueError(reasons[0] + CURE)
        yield batch.float() / 255


def statistics(images: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel of uint8 (N, C, H, W), in units of [0, 1]; of signals, float
    (N, C, L), in their own."""
    if images.is_floating_point():
        values = images.double().transpose(0, 1).flatten(1)
        return values.mean(1).tolist(), [std or 1.0 for std in values.std(1, correction=0).tolist()]
    counts = torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in images.transpose(0, 1)])
    share, values = counts.double() / counts.sum(1, keepdim=True), torch.arange(256).double() / 255
    mean = share @ values
    std = (share @ values.square() - mean.square()).clamp_min(0).sqrt()
    return mean.tolist(), std.clamp_min(1 / 255).tolist()  # a channel that is constant is not divided by 0


def choose(
    train: int, test: int | None, only: str | None = None, limit: int | None = None
) -> tuple[list[int], list[int]]:
    """Which rows of the training part to train on, and which to test on: of the test part, or of the training part
    where there is none."""
    everything = range(train if test is None else test)
    held = list(everything[::HELD_OUT] if test is None and only != "all" else everything)
    learn = [] if only else [i for i in range(train) if test is not None or i % HELD_OUT]
    if limit is not None and limit < len(held):
        drawn = torch.randperm(len(held), generator=torch.Generator().manual_seed(0))[:limit]
        held = [held[i] for i in drawn.tolist()]
    return learn, held


def _read(
    learning: Part, testing: Part, size: int, found: Found, name: str, workers: int, training: bool, skip_bad: bool
) -> Images:
    learning.transform = testing.transform = partial(middle_square, size=size)
    images, labels = read_all(testing, workers, found, skip_bad)
    found.test = len(images)
    known: dict[str, Any] = {"test": images, "test_labels": labels, "name": name, "found": found}
    if training and found.channels * size * size * len(learning) > IN_MEMORY:
        if skip_bad:
            keep_readable(learning, workers, found)
        learning.transform, learning.labelled = v2.RandomResizedCrop(size, scale=(0.08, 1.0), antialias=True), False
        found.train = len(learning)
        return Images(learning, **_not_empty(known, images))
    if not training:
        return Images(images[:0], train_labels=labels[:0], **_not_empty(known, images))
    trained, taught = read_all(learning, workers, found, skip_bad)
    found.train = len(trained)
    return Images(trained, train_labels=taught, **_not_empty(known, images, trained))


def _not_empty(known: dict[str, Any], *parts: Tensor) -> dict[str, Any]:
    if not all(map(len, parts)):
        raise ValueError(_too_few(known["found"]))
    return known


def _too_few(found: Found) -> str:
    bad = f"; {len(found.bad)} cannot be read, such as {found.bad[0]}" if found.bad else ""
    return f"{found.name}: too few images: {found.train} to train on, {found.test} to test on{bad}"


def _common_size(found: Found, source: str) -> int:
    if not found.sizes:
        raise ValueError(_too_few(found))
    sizes = [f"{height}x{width}" for height, width in sorted(found.sizes)]
    if len(sizes) > 1:
        raise ValueError(f"images of {source!r} are {sizes[0]}, {sizes[-1]} and such; say --image-size")
    height, width = next(iter(found.sizes))
    if height != width:
        raise ValueError(f"images of {source!r} are {sizes[0]}, not square; say --image-size to crop to the middle")
    return height


def _arrays(
    file: Path, size: int | None, channels: int | None, only: str | None, limit: int | None, found: Found
) -> Images:
    arrays = read_arrays(file, training=not only)
    apart = "x_test" in arrays
    lengths = [len(arrays[name]) if name in arrays else 0 for name in ("x_train", "x_test")]
    learn, held = choose(lengths[0], lengths[1] if apart else None, only, limit)
    parts: list[tuple[Tensor, Tensor | None]] = []
    for part, rows in (("test" if apart else "train", held), ("train", learn)):
        x = arrays.get(f"x_{part}")
        if x is None:  # only the test set was read
            parts.append((parts[0][0][:0], None))
            continue
        with one_line(file):
            images = as_images(x, rows, partial(middle_square, size=size))
            if channels not in (None, images.shape[1]):
                raise ValueError(f"has {images.shape[1]} channels, not {channels}")
        found.sizes[x.shape[1], x.shape[2]] += len(rows)
        found.modes[str(x.dtype)] += len(rows)
        labels = arrays.get(f"y_{part}")
        parts.append((images, None if labels is None else torch.from_numpy(labels[rows])))
    (images, labels), (trained, taught) = parts
    found.train, found.test, found.channels = len(trained), len(images), images.shape[1]
    known = {"test": images, "test_labels": labels, "name": file.name, "found": found}
    return Images(trained, train_labels=taught, **_not_empty(known, images, *([] if only else [trained])))
