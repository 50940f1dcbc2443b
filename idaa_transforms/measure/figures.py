"""Pictures for the report, as HTML with the images in it: strips of views, and curves in a light and a dark scheme."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..functional import Loss
from ..transforms import IDAATransform
from .calibration import Calibration

SHOWN = 128  # pixels of an image's longer side, at most
SCHEMES = ("default", "dark_background")  # of matplotlib


def strips(aug: IDAATransform, x: Tensor, make_loss: Callable[[Tensor], Loss], eps: Sequence[float]) -> str:
    """Images in [0, 1], what the autoencoder makes of them, and their views at each of ``eps``: a strip for each."""
    found = [aug.explain(x, loss_fn=make_loss(x), eps=e) for e in eps]
    residual, times = visible(2 * found[0].residual)
    parts = [
        _strip("Images x", x),
        _strip("Reconstructions G(x)", found[0].reconstruction),
        _strip(f"Residuals R(x), times {times:.2g}; grey is 0", residual / 2 + 0.5),
    ]
    for e, one in zip(eps, found, strict=True):
        difference, times = visible((one.views - x).abs())
        parts += [
            _strip(f"Views x' at eps = {e:.3g}", one.views),
            _strip(f"What changed at eps = {e:.3g}: |x' - x|, times {times:.2g}", difference),
        ]
    return "".join(parts)


def visible(values: Tensor) -> tuple[Tensor, float]:
    """``values`` times a round factor that makes the largest of them about 1, but for a few in 1000, and the factor."""
    sizes = values.detach().abs().flatten().float()
    top = float(sizes.kthvalue(math.ceil(0.998 * len(sizes)))[0]) or float(sizes.max())
    factor = float(f"{1 / top:.2g}") if top > 0 else 1.0
    return values * factor, factor


def _strip(label: str, images: Tensor) -> str:
    from torchvision.utils import make_grid

    images = images.detach().cpu().float()
    images = images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
    if (scale := SHOWN / max(images.shape[2:])) < 1:
        size = [max(1, round(side * scale)) for side in images.shape[2:]]
        images = functional.interpolate(images, size, mode="bilinear", antialias=True)
    opaque = torch.cat([images.clamp(0, 1), torch.ones_like(images[:, :1])], 1)
    grid = make_grid(opaque, nrow=len(images), padding=max(1, images.shape[3] // 24))  # transparent between images
    pixels = (255 * grid).round().byte().permute(1, 2, 0).numpy()
    return f'<figure><figcaption>{html.escape(label)}</figcaption><img class="strip" {_source(pixels, label)}></figure>'


def _source(pixels: Any, label: str) -> str:
    from PIL import Image

    stream = BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return f'alt="{html.escape(label)}" src="{_encoded(stream)}"'


def _encoded(stream: BytesIO) -> str:
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def curves(idaa: Calibration, clae: Calibration, random: dict[str, float], labels: Mapping[str, str]) -> str:
    """Identity and distance against the rise of the loss."""
    lines = {"IDAA": idaa, "CLAE": clae}
    title = f"{labels.get(idaa.measure, idaa.measure)}, by the judge"
    plots = [
        _plot(lambda figure: draw(figure, lines, random, idaa.measure, title, idaa.keep), title),
        _plot(lambda figure: draw(figure, lines, random, "l2", "distance moved, L2", None), "distance moved"),
    ]
    return f'<div class="plots">{"".join(plots)}</div>'


def _plot(paint: Callable[[Any], None], alt: str) -> str:
    from matplotlib import style
    from matplotlib.figure import Figure

    codes = []
    for scheme in SCHEMES:
        with style.context(scheme):
            figure = Figure(figsize=(4.6, 3.9), dpi=160, layout="constrained")
            paint(figure)
            figure.savefig(stream := BytesIO(), format="png", transparent=True)
        codes.append(_encoded(stream))
    light, dark = codes
    source = f'<source media="(prefers-color-scheme: dark)" srcset="{dark}">'
    return f'<picture>{source}<img alt="{html.escape(alt)}" src="{light}"></picture>'


def draw(
    figure: Any, lines: dict[str, Calibration], random: dict[str, float], key: str, title: str, keep: float | None
) -> None:
    """A measure of views against the rise of the loss, with the eps of points; ``keep`` as a line."""
    axis = figure.subplots()
    points = []
    for (label, found), colour, style in zip(lines.items(), ("tab:blue", "tab:orange"), ("o-", "s--"), strict=True):
        rows = found.curve
        axis.plot([row["gain"] for row in rows], [row[key] for row in rows], style, ms=5, color=colour, label=label)
        first = sorted(rows, key=lambda row: row["eps"] != found.recommended)
        points += [(row["gain"], row[key], f"{row['eps']:.3g}") for row in first]
    axis.plot(random["gain"], random[key], "*", color="tab:green", ms=11, label="random augmentation")
    axis.set(title=title, xlabel="rise of the attacked network's loss")
    axis.margins(x=0.1, y=0.1)
    axis.grid(alpha=0.3)
    if keep is None:
        axis.set_yscale("log")
    else:
        axis.axhline(keep, color="grey", lw=1, ls=":", label=f"{keep:g} kept")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    _write_eps(axis, points)


def _write_eps(axis: Any, points: Sequence[tuple[float, float, str]]) -> None:
    """Texts beside points, the first first, but for those that would lie on another or on another's point."""
    from matplotlib.transforms import Bbox

    axis.figure.draw_without_rendering()  # now it is known where things are
    size = axis.figure.dpi / 72
    places = axis.transData.transform([(x, y) for x, y, _ in points])
    taken = [Bbox.from_extents(x - 3 * size, y - 3 * size, x + 3 * size, y + 3 * size) for x, y in places]
    frame = axis.get_window_extent()
    for x, y, text in points:
        for side, up in ((5, 4), (5, -11), (-5, 4), (-5, -11)):
            note = axis.annotate(
                text,
                (x, y),
                xytext=(side, up),
                textcoords="offset points",
                fontsize=8,
                ha="left" if side > 0 else "right",
            )
            note.set_in_layout(False)
            box = note.get_window_extent()
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            note.remove()
