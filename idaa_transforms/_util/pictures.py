"""Draw rows of images or signals with matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from .extras import require
from .files import write_whole

Rows = Mapping[str, Tensor | Sequence[Tensor]]


def draw_grid(
    make: Any, rows: Rows, title: str = "", captions: Sequence[Sequence[str]] = (), size: float = 1.0, dpi: float = 140
) -> Any:
    """Draw one labelled row of images each on a new figure, and return it.

    Args:
        make: a class or function that makes the figure: ``Figure``, or ``plt.figure`` where it is to be displayed.
        rows: label to images (N, C, H, W), or a list of images (C, H, W) of any sizes. Values outside [0, 1] are
            clamped. Of more than three channels the first three are shown, of two the first, in grey.
        title: above the grid.
        captions: for each row, what stands above its images. May be shorter than the rows.
        size: height and width of an image in inches.
        dpi: resolution of the figure.
    """
    columns = max(map(len, rows.values()))
    height = 0.5 * bool(title) + 1.03 * size * len(rows) + 0.2 * len(captions)
    figure = make(figsize=(1.5 + size * columns, height), dpi=dpi, layout="constrained")
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for number, (line, (label, images)) in enumerate(zip(axes, rows.items(), strict=True)):
        for axis in line:
            axis.set(xticks=[], yticks=[], frame_on=False)
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=10)
        for axis, image in zip(line, images, strict=False):
            shown = image.detach().cpu().float().clamp(0, 1)[: 3 if len(image) >= 3 else 1].permute(1, 2, 0).numpy()
            pixels = "nearest" if max(shown.shape) < 100 else "antialiased"  # a larger one is shrunk
            axis.imshow(shown, interpolation=pixels, cmap="gray", vmin=0, vmax=1)
        for axis, caption in zip(line, captions[number] if number < len(captions) else (), strict=False):
            axis.set_title(caption, fontsize=9, pad=3)
    return figure


def save_grid(rows: Rows, file: Path, title: str, captions: Sequence[Sequence[str]] = ()) -> None:
    """Write a PNG with one labelled row of images each; see :func:`draw_grid`. The folder of ``file`` is made."""
    require("plot", "matplotlib")
    from matplotlib.figure import Figure

    figure = draw_grid(Figure, rows, title, captions)
    write_whole(file, lambda stream: figure.savefig(stream, format="png"))


def save_lines(rows: Mapping[str, Tensor], file: Path, title: str) -> None:
    """Write a PNG with one labelled row of signals each, as :func:`save_grid` does of images.

    Args:
        rows: label to signals (N, C, L), a line for each channel. All signals of a column share one scale.
        file: where to; its folder is made.
        title: above the grid.
    """
    require("plot", "matplotlib")
    from matplotlib.figure import Figure

    columns = max(map(len, rows.values()))
    figure = Figure(figsize=(1.5 + 1.6 * columns, 0.5 + 1.2 * len(rows)), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(len(rows), columns, squeeze=False, sharey="col")
    for line, (label, signals) in zip(axes, rows.items(), strict=True):
        for axis in line:
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=10)
        for axis, signal in zip(line, signals.detach().cpu().float(), strict=False):
            axis.plot(signal.T.numpy(), linewidth=0.8)
    write_whole(file, lambda stream: figure.savefig(stream, format="png"))
