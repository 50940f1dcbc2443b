"""``idaa inspect``: a report on weights, your images and your encoder, as one HTML file."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path
from string import Template

import torch
from torch import Tensor

from .._util.extras import require
from .._util.files import write_whole
from .._util.provenance import provenance
from ..functional import Loss
from ..training.augmentation import ssl_augmentation
from ..transforms import CLAETransform, IDAATransform
from .calibration import Calibration, calibrate, even
from .confidence import images_needed
from .figures import curves, strips
from .identity import IdentityMeter

CLAE_EPS = (0.001, 0.002, 0.004, 0.008, 0.016)
MEASURES = {  # what is shown of each: a name, and what it is
    "loss_after": ("loss", "of the attacked network, mean over the views; it is {before} for the images themselves"),
    "gain": ("gain", "how much that loss rises from image to view: how hard the views are"),
    "prediction_agreement": (
        "same class",
        "share of views for which the reference model predicts the class that it predicts for the image",
    ),
    "retrieval_at_1": (
        "retrieved",
        "share of views whose nearest image, by the reference model's features and among all that were measured, is "
        "their own; more images make that harder",
    ),
    "cosine": ("cosine", "of the reference model's features of view and image"),
    "l2": ("L2", "distance of view and image: the root of the summed squared changes of pixels from 0 to 1"),
    "linf": ("largest", "change of any one pixel"),
}


def inspect(
    aug: IDAATransform,
    images: Tensor,
    make_loss: Callable[[Tensor], Loss],
    meter: IdentityMeter,
    out: Path,
    *,
    keep: float = 0.95,
    batch_size: int = 128,
    about: str = "",
) -> Calibration:
    """Write ``report.html`` and ``report.json`` to ``out``; return the calibration they show.

    Args:
        images: float (N, C, H, W) in [0, 1], of any size. With more than three channels the page shows the first three.
        make_loss: from x to the closure to maximise.
        meter: of the reference model.
        keep: share of identity that the recommended eps keeps.
        about: a sentence on attacked network, reference model and data.

    Raises:
        ModelError: the reference model fails.
        ValueError: ``images`` are no images.
    """
    if images.ndim != 4:
        raise ValueError(
            f"inspect shows images (N, C, H, W), not shape {tuple(images.shape)}; calibrate measures others"
        )
    require("train", "kornia", "matplotlib", "tqdm")
    out.mkdir(parents=True, exist_ok=True)  # fails now, not after minutes of work
    batches = even(images, batch_size)
    found = calibrate(aug, batches, make_loss, meter, keep)
    clae = calibrate(CLAETransform(), batches, make_loss, meter, keep, values=CLAE_EPS, refine=0)
    augment = ssl_augmentation((images.shape[2], images.shape[3]), channels=images.shape[1])
    meter.reset()
    with torch.random.fork_rng([]), torch.no_grad():  # kornia draws on the CPU
        torch.manual_seed(0)
        for x in batches:
            loss_fn, views = make_loss(x), augment(x)
            meter.update(x, views, losses=(loss_fn(x), loss_fn(views)))
    random, eps = meter.compute(), found.recommended or aug.eps
    name = Path(aug.name).name if aug.name else type(aug.autoencoder).__name__
    run = ". ".join(f"{key.capitalize()}: {value}" for key, value in provenance().items())
    body = [
        f"<h1>{html.escape(name)}: how hard its views are, and how much identity they keep</h1>",
        f'<p class="answer">{html.escape(re.sub("^no", "No", str(found)))}.</p>',
        *_meaning(found, about),
        "<h2>What the views look like</h2>",
        "<p>The autoencoder splits an image x into what it can reconstruct, G(x), and the residual R(x) = x - G(x). A "
        "view x' changes G(x) by a step of at most eps in the latent code and keeps R(x). Here, values darker than "
        "black or brighter than white are clamped.</p>",
        strips(aug, images[:8], make_loss, (eps / 2, eps, 2 * eps)),
        "<h2>Hardness against identity</h2>",
        "<p>Each point is one eps. Further right means harder views. Higher in the first plot and lower in the second "
        "mean that they cost less.</p>",
        curves(found, clae, random, {key: label for key, (label, _) in MEASURES.items()}),
        "<h2>Every eps in numbers</h2>",
        _table(found, clae, random),
        f'<p class="small">{html.escape(f"{aug!r}. {run}")}.</p>',
    ]
    page = Template((Path(__file__).with_name("report.html")).read_text("utf-8"))
    write_whole(out / "report.html", page.substitute(title=html.escape(f"idaa inspect {name}"), body="\n".join(body)))
    write_whole(out / "report.json", found.to_json() + "\n")
    return found


def _meaning(found: Calibration, about: str) -> list[str]:
    """What the answer means, and how far it can be trusted."""
    label, told = MEASURES[found.measure]
    few = images_needed(found.keep)
    trust = f"Measured on {found.images} images."
    if found.interval:
        low, high = found.interval
        trust += f" For all images like these, the share lies between {low:.3f} and {high:.3f} (95 % interval)."
    if found.recommended is not None and found.images < few:
        trust += f" That is few: saving eps as a default takes {few} images, which tell the share to ±0.03."
    return [
        "<p>A <em>hard view</em> is an image that was changed so that the loss of a network, the attacked one, rises. "
        "It keeps its <em>identity</em> if a reference model, a frozen network, still takes it for the same image. "
        f"Here that is measured by <strong>{found.measure}</strong> (in the table “{label}”): {told}.</p>",
        f"<p>{html.escape(about)} {trust} Another reference model may answer differently.</p>",
    ]


def _table(found: Calibration, clae: Calibration, random: dict[str, float]) -> str:
    """One row per eps, with what the columns mean above them."""
    names = [name for name in MEASURES if name in random]
    before = _number(found.curve[0]["loss_before"])
    terms = "".join(f"<dt>{MEASURES[name][0]}</dt><dd>{MEASURES[name][1].format(before=before)}</dd>" for name in names)
    rows = [("random augmentation, SimCLR's", random)]
    for method, each in (("IDAA", found), ("CLAE", clae)):
        for row in each.curve:
            answer = row["eps"] == each.recommended and not (each is clae and each.unlimited)
            note = ", recommended" if each is found else f", last to keep {clae.keep:g}"
            rows.append((f"{method}, eps {row['eps']:g}{note if answer else ''}", row))
    lines = []
    for title, row in rows:
        cells = "".join(f"<td>{_number(row[name])}</td>" for name in names)
        best = " class=best" if "recommended" in title else ""
        lines.append(f'<tr{best}><th scope="row">{html.escape(title)}</th>{cells}</tr>')
    head = "".join(f'<th scope="col">{MEASURES[name][0]}</th>' for name in names)
    return (
        f"<dl>{terms}</dl><p>CLAE is the same attack on the pixels themselves; its eps is in pixels from 0 to 1.</p>"
        f'<div class="scroll" tabindex="0"><table><thead><tr><th></th>{head}</tr></thead>{"".join(lines)}</table></div>'
    )


def _number(value: float) -> str:
    """Three significant digits."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")
