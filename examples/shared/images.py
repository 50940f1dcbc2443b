"""Labelled images, all in memory."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from idaa_transforms.sample import cifar10_sample
from idaa_transforms.training.images import Images, load_images, load_signals

from .packed import is_packed
from .packed import read as read_packed

HUB = {"cifar10": "uoft-cs/cifar10", "cifar100": "uoft-cs/cifar100"}
"""Short names of data sets of the Hub."""


def labelled_images(
    data: str,
    root: str = "data",
    size: int = 0,
    device: str = "cpu",
    train: int = 0,
    test: int = 0,
    channels: int | None = 3,
    signals: bool = False,
) -> Images:
    """Images, uint8 (N, C, H, W), or signals, float32 (N, C, L), and labels (N,), on ``device``.

    Args:
        data: NAME of a file <root>/NAME.npz, any .npz, also a packed one (:mod:`.packed`), a folder with a folder for
            each class, a data set of the Hub, or "sample": 64 images of the package.
        root: see above.
        size: height and width; 0 for what they are.
        device: where they go.
        train: keep so many of the training images, evenly spaced, since files may be sorted by class; 0 for all.
            ``test`` likewise.
        channels: of the images; None for those that they have.
        signals: the data are an .npz of x_train (N, C, L), in units of their own.

    Raises:
        ValueError: there is no such data, it has no labels, or it does not fit into memory.
    """
    if data == "sample":
        x, y = cifar10_sample()
        x = (x * 255).round().byte()
        images = Images(x[:48], x[48:], "sample", y[:48], y[48:])
    else:
        file = Path(root) / f"{data}.npz"
        source = str(file) if file.exists() else HUB.get(data, data)
        if is_packed(Path(source)):
            images = read_packed(Path(source))
        else:
            images = load_signals(source) if signals else load_images(source, size or None, channels=channels)
    parts = images.train, images.train_labels, images.test, images.test_labels
    if not all(isinstance(part, Tensor) for part in parts) or (images.train_labels < 0).any():
        raise ValueError(
            f"{data!r} does not fit into memory, which a smaller --image-size may cure, or has no labels, which are "
            "needed: y_train and y_test in an .npz, or a folder for each class"
        )
    x_train, y_train = (_some(part, train).to(device) for part in parts[:2])
    x_test, y_test = (_some(part, test).to(device) for part in parts[2:])
    return Images(x_train, x_test, images.name, y_train, y_test)


def _some(rows: Tensor, count: int) -> Tensor:
    many = len(rows)
    return rows[torch.arange(count) * many // count] if 0 < count < many else rows
