"""Pictures of what the transforms do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from .extras import require
from .files import write_whole


def save_grid(rows: Mapping[str, Tensor | Sequence[Tensor]], file: Path, title: str, above: Sequence[str] = ()) -> None:
    """Write a PNG with one labelled row of images each.

    Args:
        rows: label to images (N, C, H, W), or a list of images (C, H, W) of any sizes, shown as [0, 1], whatever is
            outside clamped. Three channels are taken for colours; of more the first three are shown, and of two the
            first, in grey.
        file: where to; its folder is made.
        title: above the grid.
        above: what stands above each column.
    """
    require("plot", "matplotlib")
    from matplotlib.figure import Figure

    columns = max(map(len, rows.values()))
    figure = Figure(figsize=(1.5 + columns, 0.5 + 1.03 * len(rows)), dpi=140, layout="constrained")
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for axis, text in zip(axes[0], above, strict=False):
        axis.set_title(text, fontsize=9)
    for line, (label, images) in zip(axes, rows.items(), strict=True):
        for axis in line:
            axis.set(xticks=[], yticks=[], frame_on=False)
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=10)
        for axis, image in zip(line, images, strict=False):
            shown = image.detach().cpu().float().clamp(0, 1)[: 3 if len(image) >= 3 else 1].permute(1, 2, 0).numpy()
            pixels = "nearest" if max(shown.shape) < 100 else "antialiased"  # a larger one is shrunk
            axis.imshow(shown, interpolation=pixels, cmap="gray", vmin=0, vmax=1)
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
