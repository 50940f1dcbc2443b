"""The first 64 test images of CIFAR-10, which come with the package, and a function that shows images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import PIL.Image
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, resize

from ._util.extras import require
from ._util.pictures import Rows, draw_grid

# fmt: off
LABELS = (3, 8, 8, 0, 6, 6, 1, 6, 3, 1, 0, 9, 5, 7, 9, 8, 5, 7, 8, 6, 7, 0, 4, 9, 5, 2, 4, 0, 9, 6, 6, 5,
          4, 5, 9, 2, 4, 1, 9, 5, 4, 6, 5, 6, 0, 9, 3, 9, 7, 6, 9, 8, 0, 3, 8, 8, 7, 7, 4, 6, 7, 3, 6, 3)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# fmt: on


def cifar10_sample(size: Sequence[int] = (32, 32)) -> tuple[Tensor, Tensor]:
    """The first 64 test images of CIFAR-10 (Krizhevsky, 2009), resized to ``size`` (height, width) if need be: float
    (64, 3, 32, 32) in [0, 1], and labels (64,)."""
    mosaic = pil_to_tensor(PIL.Image.open(Path(__file__).parent / "cifar10-test-64.png")) / 255
    images = mosaic.unflatten(1, (8, 32)).unflatten(3, (8, 32)).permute(1, 3, 0, 2, 4).flatten(0, 1)
    images = images if tuple(size) == (32, 32) else resize(images, list(size), antialias=True).clamp(0, 1)
    return images.contiguous(), torch.tensor(LABELS)


def show(rows: Rows, title: str = "", captions: Sequence[Sequence[str]] = (), size: float = 1.0) -> None:
    """Display rows of images in a notebook, or in a window. Needs matplotlib.

    Args:
        rows: label to images (N, C, H, W), or a list of images (C, H, W) of any sizes, float in [0, 1].
        title: above the images.
        captions: for each row, what stands above its images. May be shorter than the rows.
        size: height and width of an image in inches.
    """
    require("plot", "matplotlib")
    import matplotlib.pyplot as plt

    draw_grid(plt.figure, rows, title, captions, size, dpi=plt.rcParams["figure.dpi"])
    plt.show()
