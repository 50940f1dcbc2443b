"""Labelled images, all in memory."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from idaa_transforms.sample import cifar10_sample
from idaa_transforms.training.data import Images, load_images
from idaa_transforms.training.signals import load_signals

TORCHVISION = {"cifar10": "CIFAR10", "cifar100": "CIFAR100"}


def labelled_images(
    data: str,
    root: str = "data",
    size: int = 0,
    download: bool = True,
    device: str = "cpu",
    train: int = 0,
    test: int = 0,
    channels: int | None = 3,
    signals: bool = False,
) -> Images:
    """Images, uint8 (N, C, H, W), or signals, float32 (N, C, L), and labels (N,), on ``device``.

    Args:
        data: NAME of a file <root>/NAME.npz, any .npz, a folder with a folder for each class, cifar10 or cifar100 of
            torchvision, or "sample": 64 images of the package.
        root: see above.
        size: height and width; 0 for what they are.
        download: whether torchvision may.
        device: where they go.
        train: keep so many of the training images, the first; 0 for all. ``test`` likewise.
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
        source = str(file) if file.exists() else TORCHVISION.get(data, data)
        if signals:
            images = load_signals(source)
        else:
            images = load_images(source, size or None, Path(root), channels=channels, download=download)
    parts = images.train, images.train_labels, images.test, images.test_labels
    if not all(isinstance(part, Tensor) for part in parts) or (images.train_labels < 0).any():
        raise ValueError(
            f"{data!r} does not fit into memory, which a smaller --image-size may cure, or has no labels, which are "
            "needed: y_train and y_test in an .npz, or a folder for each class"
        )
    x_train, y_train, x_test, y_test = (part.to(device) for part in parts)
    return Images(
        x_train[: train or None], x_test[: test or None], images.name, y_train[: train or None], y_test[: test or None]
    )
