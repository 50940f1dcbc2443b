"""``idaa inspect``: what weights do to one's own images and encoder, as one HTML file that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from pathlib import Path
from string import Template

import torch
from torch import Tensor

from .._util.extras import require
from .._util.files import write_whole
from .._util.provenance import provenance
from ..autoencoders._resample import resample
from ..autoencoders.conv import ConvVAE
from ..functional import Loss
from ..training.augmentation import ssl_augmentation
from ..training.evaluation import theorem_terms
from ..transforms import CLAETransform, IDAATransform
from .calibration import Calibration, calibrate, even
from .confidence import images_needed
from .figures import curves, strips
from .identity import IdentityMeter

CLAE_EPS = (0.001, 0.002, 0.004, 0.008, 0.016)
MEASURES = {
    "loss_after": ("loss", "of the attacked network, its mean over the images"),
    "gain": ("rise", "of that loss over the untouched images: how hard the views are"),
    "prediction_kept": ("same class", "share of the views of which the judge says the same class as of the image"),
    "retrieved": (
        "found",
        "share of the views whose nearest image among all that were measured, by the judge's features, is their own; "
        "the more images, the harder that is",
    ),
    "cosine": ("cosine", "between the judge's features of view and image; 1 where they point the same way"),
    "l2": ("L2", "distance of view and image: the root of the summed squares of all changes, of pixels from 0 to 1"),
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
    """Write ``report.html`` and ``report.json`` to ``out``; return the calibration that is in them.

    Args:
        images: float (N, C, H, W) in [0, 1], of any size that the autoencoder takes or can be resampled to. Of more
            than three channels the page shows the first three.
        make_loss: from x to the closure to raise.
        meter: the judge.
        keep: share of identity that the recommended eps keeps.
        about: a sentence on model, judge and data.

    Raises:
        ModelError: the judge fails.
        ValueError: ``images`` are no images.
    """
    if images.ndim != 4:
        raise ValueError(
            f"inspect shows images (N, C, H, W), not shape {tuple(images.shape)}; calibrate measures others"
        )
    require("train", "kornia", "matplotlib", "tqdm")
    out.mkdir(parents=True, exist_ok=True)  # before minutes of work
    batches = even(images, batch_size)
    found = calibrate(aug, batches, make_loss, meter, keep)
    clae = calibrate(CLAETransform(), batches, make_loss, meter, keep, values=CLAE_EPS, refine=0)
    augment = ssl_augmentation((images.shape[2], images.shape[3]), channels=images.shape[1])
    random, untouched = (_measured(batches, make_loss, meter, change) for change in (augment, lambda x: x))
    best = found.recommended or aug.eps
    name = Path(aug.name).name if aug.name else type(aug.autoencoder).__name__
    body = [
        f"<h1>{html.escape(name)}: how hard its views are, and how much identity they keep</h1>",
        f'<p class="answer">{html.escape(_capital(str(found)))}.</p>',
        *_meaning(found, about),
        "<h2>What the views look like</h2>",
        "<p>The autoencoder splits an image x into what it can reconstruct, G(x), and the rest, the residual "
        "R(x) = x - G(x). A view x' changes G(x) by a step in its latent code, no longer than eps, and keeps R(x). "
        "What is darker than black or brighter than white is cut off here.</p>",
        strips(aug, images[:8], make_loss, (best / 2, best, 2 * best)),
        "<h2>Hardness against identity</h2>",
        "<p>Each point is one eps, written beside it where there is room. The further to the right, the harder the "
        "views are; the higher in the first plot, and the lower in the second, the less they cost.</p>",
        curves(found, clae, random, {key: label for key, (label, _) in MEASURES.items()}),
        "<h2>Every eps in numbers</h2>",
        _table(found, clae, random, untouched),
    ]
    if isinstance(aug.autoencoder, ConvVAE):
        seen = resample(images, aug.autoencoder.image_size).clamp(0, 1)  # as the autoencoder sees them
        body += _theorem(theorem_terms(aug.autoencoder, (255 * seen).round().byte()))
    run = ". ".join(f"{key.capitalize()}: {value}" for key, value in provenance().items())
    body += [f'<p class="small">{html.escape(f"{aug!r}. {run}")}.</p>']
    page = Template((Path(__file__).with_name("report.html")).read_text("utf-8"))
    write_whole(out / "report.html", page.substitute(title=html.escape(f"idaa inspect {name}"), body="\n".join(body)))
    write_whole(out / "report.json", found.to_json() + "\n")
    return found


@torch.no_grad()
def _measured(
    batches: Sequence[Tensor],
    make_loss: Callable[[Tensor], Loss],
    meter: IdentityMeter,
    change: Callable[[Tensor], Tensor],
) -> dict[str, float]:
    meter.reset()
    with torch.random.fork_rng([]):  # kornia draws on the CPU
        torch.manual_seed(0)
        for x in batches:
            loss_fn, views = make_loss(x), change(x)
            meter.update(x, views, losses=(loss_fn(x), loss_fn(views)))
    return meter.compute()


def _meaning(found: Calibration, about: str) -> list[str]:
    """What the answer means, and how far it can be trusted."""
    label, told = MEASURES.get(found.measure, (found.measure, "one of the judge's measures"))
    few = images_needed(found.keep)
    trust = f"Measured on {found.images} images."
    if found.interval:
        low, high = found.interval
        trust += f" Of all images like these, the share lies between {low:.3f} and {high:.3f} (95 % interval)."
    if found.recommended is not None and found.images < few:
        trust += f" That is few: eps is saved as a default only from {few} images on, which tell the share to ±0.03."
    return [
        "<p>A <em>hard view</em> is an image that was changed so that the loss of a network rises: the attacked "
        "network. It keeps its <em>identity</em> where the judge, a frozen network, still takes it for the same image. "
        f"Here identity is <strong>{html.escape(found.measure)}</strong>, in the table “{label}”: {told}.</p>",
        f"<p>{html.escape(about)} {trust} Judges differ: this holds for this one.</p>",
    ]


def _table(found: Calibration, clae: Calibration, random: dict[str, float], untouched: dict[str, float]) -> str:
    """One row for each thing that was tried, in groups, with what the columns mean above them."""
    names = [name for name in MEASURES if name in untouched]
    terms = "".join(f"<dt>{MEASURES[name][0]}</dt><dd>{MEASURES[name][1]}</dd>" for name in names)
    groups = [
        [("untouched images", untouched, False), ("random augmentation, SimCLR's", random, False)],
        [_line("IDAA", row, found, "recommended") for row in found.curve],
        [_line("CLAE (pixels)", row, clae, f"last to keep {clae.keep:g}") for row in clae.curve],
    ]
    bodies = []
    for group in groups:
        lines = []
        for title, row, best in group:
            cells = "".join(f"<td>{_number(row[name])}</td>" for name in names)
            lines.append(f'<tr{" class=best" if best else ""}><th scope="row">{html.escape(title)}</th>{cells}</tr>')
        bodies.append(f'<tbody class="group">{"".join(lines)}</tbody>')
    head = "".join(f'<th scope="col">{MEASURES[name][0]}</th>' for name in names)
    table = f"<thead><tr><th></th>{head}</tr></thead>{''.join(bodies)}"
    clae_is = "<p>CLAE is the same attack on the pixels themselves; its eps is in pixels from 0 to 1.</p>"
    return f"<dl>{terms}</dl>{clae_is}{_scroll(table)}"


def _line(title: str, row: dict[str, float], found: Calibration, said: str) -> tuple[str, dict[str, float], bool]:
    """A row's title, marked where it is the answer: of what every value kept, none is the answer but IDAA's."""
    best = row["eps"] == found.recommended and (said == "recommended" or not found.unlimited)
    return f"{title}, eps {row['eps']:g}{f', {said}' if best else ''}", row, best


def _theorem(terms: dict[str, float]) -> list[str]:
    names = {
        "distortion": "distortion |x - D(z)|² / 2",
        "kl": "KL(q(z|x) || N(0, I)), at least I(z; x)",
        "objective": f"L_VAE = distortion + beta KL, with beta = {terms['beta']:g}",
        "subtracted": "(L_VAE + KL) / beta: what is subtracted",
        "identity": "log N: what tells these images apart",
    }
    rows = "".join(f'<tr><th scope="row">{name}</th><td>{_number(terms[key])}</td></tr>' for key, name in names.items())
    claim = f"At most {_number(terms['identity'])} nats tell these images apart."
    if terms["subtracted"] >= terms["identity"]:
        claim = (
            f"That is more than the {_number(terms['identity'])} nats that tell these images apart: for these weights "
            "the bound says nothing about how much identity is kept. What is said above is measured, not proved."
        )
    return [
        "<h2>What theory promises</h2>",
        "<p>Theorem 3.5 of the paper bounds what a view x' still tells about y, which image it is. For a small enough "
        "eps, I(x'; y) ≥ I(x; y) - (L_VAE + I(z; x)) / beta. I is mutual information, in nats (1.44 bits), L_VAE the "
        "VAE's training objective, z its latent code. KL is no smaller than I(z; x), so what is subtracted here, "
        f"{_number(terms['subtracted'])} nats, is no less than what the theorem subtracts. {claim}</p>",
        _scroll(f'<thead><tr><th></th><th scope="col">nats an image</th></tr></thead><tbody>{rows}</tbody>'),
    ]


def _scroll(rows: str) -> str:
    return f'<div class="scroll" tabindex="0"><table>{rows}</table></div>'


def _capital(text: str) -> str:
    return text[0].upper() + text[1:] if text.startswith("no ") else text


def _number(value: float) -> str:
    """Three digits that count, whatever the size."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")
