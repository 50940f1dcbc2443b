"""Load images from pictures or arrays as tensors."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from .._util.extras import require
from .arrays import Layout, as_images, read_arrays
from .decode import middle_square, one_line, to_channels
from .pictures import BUILDERS, CURE, Pictures, Told, choose, collate, parts_of

IN_MEMORY = 2 << 30
"""Bytes of uint8 images up to which a set is kept on the device; larger ones stream through a DataLoader."""


class Images(NamedTuple):
    """``test`` and, where they fit, ``train`` are uint8 (N, C, H, W); otherwise ``train`` yields such (C, H, W),
    already randomly cropped. Signals are float32 (N, C, L). Labels are int64 (N,), -1 for a picture that has none; None
    where an ``.npz`` has none, and for a ``train`` that does not fit. ``bad`` are pictures that were left out, a line
    each."""

    train: Tensor | Dataset[Tensor]
    test: Tensor
    name: str
    train_labels: Tensor | None = None
    test_labels: Tensor | None = None
    bad: tuple[str, ...] = ()

    def __str__(self) -> str:
        channels, *size = self.test.shape[1:]
        count = f"{len(self.train):,} to train on, {len(self.test):,} to test on"  # type: ignore[arg-type]
        about = f"{self.name}: {count}, {'x'.join(map(str, size))}, {channels} channel{'s' * (channels > 1)}"
        return "\n".join([about, *(f"left out: {line}" for line in self.bad)])


def load_images(
    source: str,
    size: int | None = None,
    workers: int = 0,
    *,
    channels: int | None = None,
    only: Literal["test", "all"] | None = None,
    limit: int | None = None,
    skip_bad: bool = False,
    split: str | None = None,
    column: str | None = None,
    revision: str | None = None,
) -> Images:
    """Training and test images of ``source``, and their labels.

    Args:
        source: see :func:`open_pictures`; or an ``.npz`` with x_train and, if it has a test set, x_test, (N, H, W) or
            (N, H, W, C), and labels y_train and y_test; or an ``.npy``.
        size: height and width. Images are cropped to the square in their middle and resized. Needed unless all have one
            size, and all pictures are square.
        workers: processes that decode.
        channels: 1 or 3. Default: 1 where all pictures are grey, else 3; those of an array.
        only: read no training images (``train`` is then empty): "test" gives the test images; "all" gives all images
            where the source has no test set of its own, for measurements in which nothing is trained.
        limit: of the test images take so many, drawn by a seed of their own, and read no others.
        skip_bad: leave out pictures that cannot be read and list them in ``bad``, instead of stopping at one.
        split, column, revision: see :func:`open_pictures`.

    Raises:
        ValueError: the source is none of these, or what it holds cannot be used; one line with file and reason.
    """
    path = Path(source).expanduser()
    if path.suffix.lower() in (".npz", ".npy") or (path.is_file() and path.suffix.lower() not in BUILDERS):
        if split or column or revision:
            raise ValueError(f"{source!r} is a file of arrays, without splits, columns or revisions")
        return _arrays(path, size, channels, only, limit)
    train, test, apart = parts_of(source, split, column, revision)
    learn, held = choose(len(train), len(test) if apart else None, only, limit)
    train, test = train.only(learn), test.only(held)
    bad: list[str] = []
    tested, labels = _read(test, size, channels, workers, bad, skip_bad, source)
    known: dict[str, Any] = {"test": tested, "test_labels": labels, "name": path.name or source}
    if only:
        return Images(tested[:0], train_labels=labels[:0], bad=tuple(bad), **known)
    if tested[0].shape.numel() * len(train) > IN_MEMORY:
        if skip_bad:
            train = train.only([i for i, _ in _decoded(train, workers, bad, skip_bad)])
        train.channels, train.labelled = len(tested[0]), False
        train.transform = v2.RandomResizedCrop(tested.shape[-1], scale=(0.08, 1.0), antialias=True)
        return Images(train, bad=tuple(bad), **known)
    trained, taught = _read(train, size, channels, workers, bad, skip_bad, source)
    if trained.shape[-1] != tested.shape[-1]:
        sides = f"{trained.shape[-1]} and, to test on, {tested.shape[-1]}"
        raise ValueError(f"pictures of {source!r} have sides of {sides}; say --image-size")
    most = max(trained.shape[1], tested.shape[1])  # all of one of them may be grey
    trained, known["test"] = to_channels(trained, most), to_channels(tested, most)
    return Images(trained, train_labels=taught, bad=tuple(bad), **known)


def load_signals(source: str | Path, layout: Layout = "ncl") -> Images:
    """Training and test signals, float32 (N, C, L), and their labels.

    Args:
        source: an ``.npz`` with x_train and, if it has a test set, x_test; or an ``.npy``. Numbers of any type and
            unit; labels are y_train and y_test, whole numbers (N,). Where there is no test set, every twentieth signal
            becomes one.
        layout: the order of the axes: ``"ncl"``, channels before time, or ``"nlc"``.

    Raises:
        ValueError: the file cannot be read, or holds something else; one line with the file and the reason.
    """
    file = Path(source).expanduser()
    return _of_arrays(file, read_arrays(file, layout), lambda x, rows: x[rows], None, None)


def batches(
    train: Tensor | Dataset[Tensor], size: int, generator: torch.Generator, rank: int, world: int, workers: int
) -> Iterator[Tensor]:
    """One epoch: float batches, of images in [0, 1], the share of ``rank`` of each batch of ``size``, in an order that
    ``generator`` (same on every rank) draws. What does not fill a batch is left out.

    Raises:
        ValueError: a picture cannot be read; one line, whatever ``workers`` is.
    """
    order = torch.randperm(len(train), generator=generator)  # type: ignore[arg-type]
    order = order[: len(order) // size * size].view(-1, size)[:, rank::world]
    if isinstance(train, Tensor):
        scale = 1 if train.is_floating_point() else 255  # signals have their own units
        for rows in order.to(train.device):
            yield train[rows].float() / scale
        return
    options: dict[str, Any] = {"num_workers": workers, "generator": generator, "collate_fn": collate}
    for batch in DataLoader(Told(train), batch_sampler=order.tolist(), **options):
        if isinstance(batch, str):
            raise ValueError(batch + CURE)
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


def _decoded(part: Pictures, workers: int, bad: list[str], skip_bad: bool) -> Iterator[tuple[int, Any]]:
    """Number and item of each picture that can be read; the others go to ``bad``."""
    require("train", "tqdm")
    from tqdm import tqdm

    loader = DataLoader(Told(part), batch_size=64, num_workers=workers, collate_fn=list)
    items = (item for batch in loader for item in batch)
    for i, item in enumerate(tqdm(items, desc="reading pictures", total=len(part), leave=False, delay=1)):
        if not isinstance(item, str):
            yield i, item
        elif skip_bad:
            bad.append(item)
        else:
            raise ValueError(item + CURE)


def _read(
    part: Pictures, size: int | None, channels: int | None, workers: int, bad: list[str], skip_bad: bool, source: str
) -> tuple[Tensor, Tensor]:
    """Images, uint8 (N, C, H, W), and labels (N,)."""
    part.channels, part.transform = channels, partial(middle_square, size=size)
    items = [item for _, item in _decoded(part, workers, bad, skip_bad)]
    if not items:
        raise ValueError(f"{source!r} has too few pictures" + (f"; {len(bad)} cannot be read: {bad[0]}" if bad else ""))
    sizes = sorted({(image.shape[1], image.shape[2]) for image, _ in items})
    if len(sizes) > 1 or sizes[0][0] != sizes[0][1]:
        said = " to ".join(f"{height}x{width}" for height, width in (sizes[0], sizes[-1])[: len(sizes)])
        raise ValueError(f"pictures of {source!r} are {said}, not of one square size; say --image-size")
    most = max(len(image) for image, _ in items)
    return torch.stack([to_channels(image, most) for image, _ in items]), torch.tensor([label for _, label in items])


def _arrays(file: Path, size: int | None, channels: int | None, only: str | None, limit: int | None) -> Images:
    def images(array: Any, rows: list[int]) -> Tensor:
        parts = [rows[i : i + 1000] for i in range(0, max(1, len(rows)), 1000)]
        found = torch.cat([middle_square(as_images(array, part), size) for part in parts])
        if channels not in (None, found.shape[1]):
            raise ValueError(f"has {found.shape[1]} channels, not {channels}")
        return found

    return _of_arrays(file, read_arrays(file), images, only, limit)


def _of_arrays(file: Path, arrays: dict[str, Any], take: Any, only: str | None, limit: int | None) -> Images:
    with one_line(file):
        if not only and "x_train" not in arrays:
            raise ValueError("has no x_train to train on; it needs x_train and, for a test set of its own, x_test")
        apart = "x_test" in arrays
        test = "test" if apart else "train"
        learn, held = choose(len(arrays.get("x_train", ())), len(arrays["x_test"]) if apart else None, only, limit)
        if not held or not (learn or only):
            raise ValueError(f"has too few rows: {len(learn)} to train on, {len(held)} to test on")
        tested = take(arrays[f"x_{test}"], held)
        trained = take(arrays["x_train"], learn) if learn else tested[:0]
        labels = {name: arrays[f"y_{name}"] for name in ("train", test) if f"y_{name}" in arrays}
        taught = labels["train"][learn] if "train" in labels else None
        return Images(trained, tested, file.name, taught, labels[test][held] if test in labels else None)
