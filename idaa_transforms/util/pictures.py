"""Pictures of what the transforms do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from .extras import require
from .files import write_whole


def save_grid(rows: Mapping[str, Tensor], file: Path, title: str) -> None:
    """Write a PNG with one labelled row of images each.

    Args:
        rows: label to images (N, C, H, W), shown as [0, 1], whatever is outside clamped. C is 1 or 3.
        file: where to; its folder is made.
        title: above the grid.
    """
    require("plot", "matplotlib")
    from matplotlib.figure import Figure

    columns = max(map(len, rows.values()))
    figure = Figure(figsize=(1.5 + columns, 0.5 + 1.03 * len(rows)), dpi=140, layout="constrained")
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for line, (label, images) in zip(axes, rows.items(), strict=True):
        for axis in line:
            axis.set(xticks=[], yticks=[], frame_on=False)
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=10)
        for axis, image in zip(line, images.detach().cpu().float().clamp(0, 1), strict=False):
            axis.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest", cmap="gray", vmin=0, vmax=1)
    write_whole(file, lambda stream: figure.savefig(stream, format="png"))
