"""A result as HTML with the pictures in it: nothing is written to a file."""

from __future__ import annotations

import base64
import html
from io import BytesIO
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from .view import Opinion, Result

CSS = (Path(__file__).parent / "page.css").read_text("utf-8")
SCALES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Where the colour scale of |x' - x| may end: a few values, so that pictures of one kind of view can be compared."""
_COLOURS = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))  # dark to bright, even steps


def result_html(result: Result, name: str) -> str:
    """Everything of a view, for a reader and for a screen reader.

    Args:
        name: of the picture.
    """
    top = next((scale for scale in SCALES if float(result.change.max()) <= scale), float(result.change.max()))
    figures = (
        _figure("x", "the picture", result.x, f"The picture: {name}"),
        _figure("G(x)", "what fits through the autoencoder", result.reconstruction, "Its reconstruction, blurred"),
        _figure("R(x)", "the rest, which stays; grey is 0", result.residual + 0.5, "What the reconstruction lacks"),
        _figure("x'", "the view: R(x) and G(x), moved", result.view, "The view"),
        _change(result.change, top),
    )
    notes = "".join(f'<p class="note">{html.escape(note)}</p>' for note in result.notes)
    losses = (
        f'<p class="loss">The network\'s loss: <b id="before">{result.loss_before:.4f}</b> for x, '
        f'<b id="after">{result.loss_after:.4f}</b> for x\'. '
        f'<span class="soft">Made in {1000 * result.seconds:.0f} ms.</span></p>'
    )
    opinions = "".join(_opinion(each, judge=i == 0) for i, each in enumerate(result.opinions))
    body = f'{notes}<div class="pictures">{"".join(figures)}</div>{losses}<div class="opinions">{opinions}</div>'
    return f'<div class="idaa" data-top="{top}">{body}</div>'


def error_html(message: str) -> str:
    """What went wrong, where the result would stand."""
    return f'<div class="idaa"><p class="error" role="alert">{html.escape(message)}</p></div>'


def note_html(message: str) -> str:
    """A word on what was done."""
    return f'<div class="idaa"><p role="status">{html.escape(message)}</p></div>'


def said(error: Exception) -> str:
    """What a visitor is told of an error: what was foreseen as it is, the rest with its kind."""
    text = " ".join(str(error).split())
    foreseen = isinstance(error, ValueError | TypeError | OSError | ImportError) and text
    return text if foreseen else f"{type(error).__name__}: {text}; this was not foreseen, please report it"


def heat(values: Tensor, top: float) -> Tensor:
    """Colours uint8 (3, H, W) for values (H, W) from 0 to ``top``."""
    anchors = torch.tensor(_COLOURS, dtype=torch.float32)
    place = (values / (top or 1)).clamp(0, 1) * (len(anchors) - 1)
    low = place.floor().long().clamp(max=len(anchors) - 2)
    share = (place - low)[..., None]
    return (anchors[low] * (1 - share) + anchors[low + 1] * share).round().byte().permute(2, 0, 1)


def _figure(symbol: str, about: str, image: Tensor, alt: str) -> str:
    pixels = (255 * image.detach().clamp(0, 1)).round().byte()
    caption = f"<b>{html.escape(symbol)}</b> {html.escape(about)}"
    return f"<figure>{_image(pixels, alt)}<figcaption>{caption}</figcaption></figure>"


def _change(change: Tensor, top: float) -> str:
    stops = ", ".join(f"rgb{colour}" for colour in _COLOURS)
    numbers = "".join(f"<span>{value:g}</span>" for value in (0.0, top / 2, top))
    bar = f'<div class="bar" style="background: linear-gradient(to right, {stops})"></div>'
    bar += f'<div class="numbers">{numbers}</div>'
    caption = f"<b>|x' - x|</b> what changed, of 1; {float(change.max()):.3f} at most"
    alt = f"Where the view differs from the picture: {float(change.max()):.3f} at most"
    return f"<figure>{_image(heat(change, top), alt)}{bar}<figcaption>{caption}</figcaption></figure>"


def _image(pixels: Tensor, alt: str) -> str:
    grown = max(1, 256 // pixels.shape[-1])  # in the file too: a browser's own enlargement blurs
    pixels = F.interpolate(pixels[None].float(), scale_factor=grown, mode="nearest")[0].byte()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(stream := BytesIO(), "PNG")
    data = base64.b64encode(stream.getvalue()).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{data}">'


def _opinion(opinion: Opinion, judge: bool) -> str:
    role = "The judge" if judge else "The attacked network"
    rows = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th>{_share(before)}{_share(opinion.after[name])}</tr>'
        for name, before in opinion.before.items()
    )
    caption = f"<caption>{role}, {html.escape(opinion.network)}</caption>"
    head = '<thead><tr><th scope="col">class</th><th scope="col">x</th><th scope="col">x\'</th></tr></thead>'
    return f"<table>{caption}{head}<tbody>{rows}</tbody></table>"


def _share(share: float) -> str:
    return f'<td><span class="share" style="width: {100 * share:.1f}%"></span>{100 * share:.1f} %</td>'
