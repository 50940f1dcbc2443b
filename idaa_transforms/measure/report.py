"""``idaa inspect``: what weights do to one's own images and encoder, as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..autoencoders.resample import resample
from ..core.functional import Loss
from ..training.augmentation import ssl_augmentation
from ..training.evaluation import bound_terms
from ..transform import CLAETransform, IDAATransform
from ..util.extras import require
from ..util.pictures import save_grid
from ..util.provenance import provenance
from .calibration import Calibration, calibrate
from .identity import IdentityMeter

CLAE_EPS = (0.001, 0.002, 0.004, 0.008, 0.016)
MEASURES = {
    "prediction_kept": "views of which the judge says the same class",
    "retrieved": "views whose nearest image, among all, is their own",
}
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
img {{ max-width: 100% }} table {{ border-collapse: collapse; margin: 1rem 0 }} .answer {{ font-size: 1.3rem }}
td, th {{ padding: .2rem .7rem; border-bottom: 1px solid #ddd; text-align: right }}
td:first-child {{ text-align: left }}
tr.best {{ background: #e8f4e8 }} .small {{ color: #666; font-size: .85rem }}
</style></head><body>
{body}
</body></html>
"""


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
    """Write ``report.html`` and its PNGs to ``out``; return the calibration that is in it.

    Args:
        images: float (N, C, H, W) in [0, 1], of any size that the autoencoder takes or can be resampled to.
        make_loss: from x to the closure to raise.
        meter: the judge.
        keep: share of identity that the recommended eps keeps.
        about: a sentence on model, judge and data.
    """
    require("train", "kornia", "matplotlib", "tqdm")
    out.mkdir(parents=True, exist_ok=True)
    batches = images.split(batch_size)
    found = calibrate(aug, batches, make_loss, meter, keep)
    clae = calibrate(CLAETransform(), batches, make_loss, meter, keep, values=CLAE_EPS, refine=0)
    random = _random(batches, make_loss, meter)
    best = found.recommended or found.curve[0]["eps"]
    _grid(aug, images[:10], make_loss, (best / 2, best, 2 * best, 4 * best), out / "views.png")
    _curves(found, clae, random, out / "curves.png")
    name = Path(aug.name).name if aug.name else type(aug.autoencoder).__name__
    body = [
        f"<h1>{html.escape(name)}: hardness and identity</h1>",
        f'<p class="answer">{html.escape(str(found))}.</p>',
        f"<p>{html.escape(about)} {len(images)} images, by which a share of {keep:g} is known to about "
        f"{(keep * (1 - keep) / len(images)) ** 0.5:.3f} (one standard error). The measure is {found.measure}: "
        f"{MEASURES.get(found.measure, found.measure)}. Judges differ: one number holds for one judge.</p>",
        _image(out / "views.png", "images, reconstructions, residuals, and views at several eps"),
        "<p>G(x) = D(E(x)) is what the bottleneck carries, R(x) = x - G(x) what it does not and IDAA leaves alone.</p>",
        _image(out / "curves.png", "hardness against identity and distance"),
        "<h2>What each eps does</h2>",
        _table(found.curve, found, "IDAA"),
        _table(clae.curve, clae, "CLAE, eps in pixels"),
        _table([random], clae, "random augmentation (SimCLR's)"),
    ]
    if hasattr(aug.autoencoder, "objective"):
        seen = resample(images, aug.autoencoder.image_size).clamp(0, 1)  # as the autoencoder sees them
        terms = bound_terms(aug.autoencoder, (255 * seen).round().byte())
        _bound(terms, out / "bound.png")
        body += ["<h2>Theorem 3.5</h2>", _image(out / "bound.png", "terms of the bound"), f"<p>{_claim(terms)}</p>"]
    run = ", ".join(f"{key}: {value}" for key, value in provenance().items())
    body += [f'<p class="small">{html.escape(f"{aug!r}. {run}")}</p>']
    (out / "report.html").write_text(_PAGE.format(title=html.escape(f"idaa inspect {name}"), body="\n".join(body)))
    (out / "report.json").write_text(found.to_json() + "\n")
    return found


@torch.no_grad()
def _random(batches: Sequence[Tensor], make_loss: Callable[[Tensor], Loss], meter: IdentityMeter) -> dict[str, float]:
    augment = ssl_augmentation((batches[0].shape[2], batches[0].shape[3]))
    meter.reset()
    with torch.random.fork_rng([]):  # kornia draws on the CPU
        torch.manual_seed(0)
        for x in batches:
            loss_fn, views = make_loss(x), augment(x)
            meter.update(x, views, losses=(loss_fn(x), loss_fn(views)))
    return meter.compute()


def _grid(aug: IDAATransform, x: Tensor, make_loss: Callable[[Tensor], Loss], eps: Sequence[float], file: Path) -> None:
    found = [aug.explain(x, loss_fn=make_loss(x), eps=e) for e in eps]
    rows = {"x": x, "G(x)": found[0].reconstruction, "R(x) + 0.5": found[0].residual + 0.5}
    for e, one in zip(eps, found, strict=True):
        rows |= {f"x', eps = {e:.3g}": one.views, f"|x' - x|, times 4, {e:.3g}": 4 * (one.views - x).abs()}
    save_grid(rows, file, "")


def _curves(idaa: Calibration, clae: Calibration, random: dict[str, float], file: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), dpi=120, layout="constrained")
    left, right = figure.subplots(1, 2)
    for axis, key in ((left, idaa.measure), (right, "l2")):
        for label, rows, style in (("CLAE", clae.curve, "s--"), ("IDAA", idaa.curve, "o-")):
            axis.plot([row["gain"] for row in rows], [row[key] for row in rows], style, label=label)
            last = -1.0
            for row in rows:
                if row["gain"] > last + 0.04:  # where there is room
                    last, at = row["gain"], (row["gain"], row[key])
                    axis.annotate(f"{row['eps']:.3g}", at, fontsize=7, xytext=(3, 4), textcoords="offset points")
        axis.plot(random["gain"], random[key], "k*", ms=11, label="SimCLR's random augmentation")
        axis.set_xlabel("rise of the loss, mean over images (numbers: eps)")
        axis.grid(alpha=0.3)
    left.axhline(idaa.keep, color="grey", lw=1, ls=":")
    left.set(title=idaa.measure, ylim=(-0.02, 1.03))
    right.set(title="distance moved, L2", yscale="log")
    left.legend()
    figure.savefig(file)


def _bound(terms: dict[str, float], file: Path) -> None:
    from matplotlib.figure import Figure

    names = {
        "distortion": "distortion |x - D(z)|² / 2",
        "kl": "KL(q(z|x) || N(0, I)) ≥ I(z; x)",
        "objective": "L_VAE = distortion + beta KL",
        "subtracted": "(L_VAE + KL) / beta, subtracted",
        "identity": "log N, all there is to know of which image",
    }
    figure = Figure(figsize=(9, 2.6), dpi=120, layout="constrained")
    axis = figure.subplots()
    colours = ["tab:blue"] * 3 + ["tab:red", "tab:green"]
    bars = axis.barh(list(names.values()), [terms[name] for name in names], color=colours)
    axis.bar_label(bars, fmt="%.4g", padding=3)
    axis.set(xscale="log", xlabel=f"nats an image (beta = {terms['beta']:g})")
    axis.margins(x=0.15)
    axis.invert_yaxis()
    figure.savefig(file)


def _claim(terms: dict[str, float]) -> str:
    text = (
        "For a small enough eps, I(x'; y) &ge; I(x; y) - (L_VAE + I(z; x)) / beta. KL bounds I(z; x) from above, so "
        f"what is subtracted here, {terms['subtracted']:.4g} nats, is no less than what the theorem subtracts. "
    )
    if terms["subtracted"] >= terms["identity"]:
        return text + (
            f"That is more than the {terms['identity']:.3g} nats that tell these images apart: for these weights the "
            "bound says nothing about how much identity is kept. What is said above is measured, not proved."
        )
    return text + f"At most {terms['identity']:.3g} nats tell these images apart."


def _image(file: Path, alt: str) -> str:
    code = base64.b64encode(file.read_bytes()).decode()
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{code}">'


def _table(rows: list[dict[str, float]], found: Calibration, title: str) -> str:
    shown = ["eps", "gain", "prediction_kept", "retrieved", "cosine", "l2", "linf"]
    shown += ["energy_g", "energy_r"] if title == "IDAA" else []
    names = [name for name in shown if name in rows[-1]]
    lines = [f"<tr><th>{title}</th>" + "".join(f"<th>{name}</th>" for name in names) + "</tr>"]
    for row in rows:
        best = "eps" in row and row["eps"] == found.recommended
        cells = "".join(f"<td>{row[name]:.3f}</td>" for name in names)
        lines.append(f"<tr{' class=best' if best else ''}><td>{'recommended' if best else ''}</td>{cells}</tr>")
    return "<table>" + "".join(lines) + "</table>"
