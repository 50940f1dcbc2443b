"""Figures of the report as HTML: strips of images, and curves as SVG."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO, StringIO
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..functional import Loss
from ..transforms import IDAATransform
from .calibration import Calibration

SHOWN = 128  # pixels of an image's longer side, at most


def strips(aug: IDAATransform, x: Tensor, make_loss: Callable[[Tensor], Loss], eps: Sequence[float]) -> str:
    """One strip each for images in [0, 1], their reconstructions and residuals, and their views at each ``eps``."""
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
            _strip(f"Change at eps = {e:.3g}: |x' - x|, times {times:.2g}", difference),
        ]
    return "".join(parts)


def visible(values: Tensor) -> tuple[Tensor, float]:
    """``values`` times a round factor that brings the largest 0.2 % of them to about 1 or above, and the factor."""
    sizes = values.detach().abs().flatten().float()
    top = float(sizes.kthvalue(math.ceil(0.998 * len(sizes)))[0]) or float(sizes.max())
    factor = float(f"{1 / top:.2g}") if top > 0 else 1.0
    return values * factor, factor


def _strip(label: str, images: Tensor) -> str:
    from PIL import Image
    from torchvision.utils import make_grid

    images = images.detach().cpu().float()
    images = images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
    if (scale := SHOWN / max(images.shape[2:])) < 1:
        size = [max(1, round(side * scale)) for side in images.shape[2:]]
        images = functional.interpolate(images, size, mode="bilinear", antialias=True)
    opaque = torch.cat([images.clamp(0, 1), torch.ones_like(images[:, :1])], 1)
    grid = make_grid(opaque, nrow=len(images), padding=max(1, images.shape[3] // 24))  # transparent between images
    pixels = (255 * grid).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(stream := BytesIO(), "PNG")
    data, text = base64.b64encode(stream.getvalue()).decode(), html.escape(label)
    image = f'<img class="strip" alt="{text}" src="data:image/png;base64,{data}">'
    return f"<figure><figcaption>{text}</figcaption>{image}</figure>"


def curves(idaa: Calibration, clae: Calibration, random: dict[str, float], labels: Mapping[str, str]) -> str:
    """Identity and distance against the gain in loss."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    lines = {"IDAA": idaa, "CLAE": clae}
    plots = []
    for key, keep in ((idaa.measure, idaa.keep), ("l2", None)):
        with rc_context({"svg.fonttype": "none"}):
            draw(figure := Figure(figsize=(4.6, 3.9), layout="constrained"), lines, random, key, labels[key], keep)
            figure.savefig(stream := StringIO(), format="svg", transparent=True)
        svg = stream.getvalue()
        svg = svg[svg.index("<svg") :].replace("<svg", f'<svg role="img" aria-label="{html.escape(labels[key])}"', 1)
        plots.append(svg.replace("#000000", "currentColor"))  # legible on a dark page too
    return f'<div class="plots">{"".join(plots)}</div>'


def draw(
    figure: Any, lines: dict[str, Calibration], random: dict[str, float], key: str, label: str, keep: float | None
) -> None:
    """One measure of views against the gain in loss, with the recommended eps, and ``keep`` as a line."""
    axis = figure.subplots()
    for (name, found), colour, style in zip(lines.items(), ("tab:blue", "tab:orange"), ("o-", "s--"), strict=True):
        rows = found.curve
        axis.plot([row["gain"] for row in rows], [row[key] for row in rows], style, ms=4, color=colour, label=name)
        for row in rows:
            if row["eps"] == found.recommended:
                text = f"eps {row['eps']:.3g}"
                axis.annotate(text, (row["gain"], row[key]), (6, 4), textcoords="offset points", fontsize=8)
    axis.plot(random["gain"], random[key], "*", color="tab:green", ms=11, label="random augmentation")
    if keep is None:
        axis.set_yscale("log")
    else:
        axis.axhline(keep, color="grey", lw=1, ls=":", label=f"{keep:g}, to keep")
    axis.set(xlabel="gain: how much the attacked network's loss rises", ylabel=label)
    axis.margins(x=0.1, y=0.1)
    axis.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
