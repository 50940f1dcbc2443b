"""A view as HTML with its pictures inline, so that nothing is written to a file."""

from __future__ import annotations

import base64
import html
from io import BytesIO
from pathlib import Path

from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from .view import CONFIDENT, Prediction, View

CSS = (Path(__file__).parent / "page.css").read_text("utf-8")
SCALES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""What white may stand for in the picture of the change: a few values, so that views can be compared."""
TOP = 3
"""Classes that are shown of the picture, and of its view."""


def pictures_html(view: View, name: str) -> str:
    """The picture ``name``, its view, the change, and the two parts that the autoencoder splits it into."""
    change = (view.view - view.x).abs().mean(0, keepdim=True)
    most = float(change.max())
    top = next((scale for scale in SCALES if most <= scale), most)
    figures = (
        _figure("picture", "", view.x, f"The picture: {name}"),
        _figure("hard view", "", view.view, "The hard view"),
        _figure("change", f"white: {top:g}", (change / top).expand(3, -1, -1), f"The change, {most:.3f} at most"),
        _figure("reconstruction", "this moves", view.reconstruction, "The reconstruction by the autoencoder"),
        _figure("detail", "this stays", view.residual + 0.5, "What the reconstruction lacks; grey is 0"),
    )
    return f'<div class="idaa"><div class="pictures">{"".join(figures)}</div></div>'


def predictions_html(view: View, is_sample: bool) -> str:
    """The network's loss, and what the reference model and the network see.

    Args:
        is_sample: the picture is known to be of one of their classes; else they abstain unless both are sure.
    """
    losses = (
        f'<p class="loss">Loss of the network: <b id="before">{view.loss_before:.4f}</b> for the picture, '
        f'<b id="after">{view.loss_after:.4f}</b> for the hard view. '
        f'<span class="soft">Made in {1000 * view.seconds:.0f} ms.</span></p>'
    )
    both = {"The reference model": view.reference, "The network": view.network}
    sure = is_sample or all(max(one.before.values()) >= CONFIDENT for one in both.values())
    tables = "".join(_prediction(role, one, sure) for role, one in both.items())
    return f'<div class="idaa">{losses}<div class="predictions">{tables}</div></div>'


def message_html(message: str, role: str = "alert") -> str:
    """What went wrong or, with ``role="status"``, what was done."""
    return f'<div class="idaa"><p class="{role}" role="{role}">{html.escape(message)}</p></div>'


def describe(error: Exception) -> str:
    """One line for a visitor; an error that is no mistake of theirs comes with its kind."""
    text = " ".join(str(error).split())
    expected = isinstance(error, ValueError | TypeError | OSError | ImportError) and text
    return text if expected else f"{type(error).__name__}: {text}; please report this"


def _figure(symbol: str, about: str, image: Tensor, alt: str) -> str:
    pixels = (255 * image.clamp(0, 1)).round()[None]
    enlarge = max(1, 256 // pixels.shape[-1])  # in the file too: a browser's own enlargement blurs
    pixels = F.interpolate(pixels, scale_factor=enlarge, mode="nearest")[0].byte()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(stream := BytesIO(), "PNG")
    source = f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"
    caption = f"<figcaption><b>{html.escape(symbol)}</b> {html.escape(about)}</figcaption>"
    return f'<figure><img alt="{html.escape(alt)}" src="{source}">{caption}</figure>'


def _prediction(role: str, one: Prediction, sure: bool) -> str:
    names = sorted(one.before, key=one.before.__getitem__, reverse=True)
    known = ", ".join(one.before) if len(names) <= 20 else f"{len(names):,} classes"
    about = f'<p class="soft">It knows {html.escape(known)}, and nothing else.</p>'
    title = f"{role}, {html.escape(one.network)}"
    if not sure:
        return f'<div><p class="title">{title}</p><p>abstains: it is not sure enough.</p>{about}</div>'
    top = dict.fromkeys([*names[:TOP], *sorted(one.after, key=one.after.__getitem__, reverse=True)[:TOP]])
    rows = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th>{_share(one.before[name])}{_share(one.after[name])}</tr>'
        for name in top
    )
    head = '<thead><tr><th scope="col">class</th><th scope="col">picture</th><th scope="col">view</th></tr></thead>'
    return f"<div><table><caption>{title}</caption>{head}<tbody>{rows}</tbody></table>{about}</div>"


def _share(share: float) -> str:
    return f'<td><span class="share" style="width: {100 * share:.1f}%"></span>{100 * share:.1f} %</td>'
