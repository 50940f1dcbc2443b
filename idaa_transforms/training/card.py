"""Save a trained VAE as a folder for the Hub, with a model card of what was measured."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from .. import hub
from .._util.files import write_whole
from .._util.provenance import provenance
from ..autoencoders import ConvVAE
from ..autoencoders.conv import authors_beta
from ..hub.folder import CONFIG
from .evaluation import evaluate_vae, save_samples
from .images import Images
from .vae import Recipe

STORED = torch.float16
_CARD = """---
license: apache-2.0
library_name: idaa_transforms
tags: [vae, data-augmentation, adversarial-augmentation, self-supervised-learning]
---

# {name}

A VAE for identity-disentangled adversarial augmentation (IDAA; Yang, Zhou, Tian and Tao, ICML 2022). It makes views of
an image that are hard for the model in training and still show the same sample.

```python
from idaa_transforms import IDAATransform

aug = IDAATransform.from_pretrained("{name}")   # or the path of this folder
views = aug(x, loss_fn=loss_fn)                 # x: (B, {shape}) float {units}
```

## The network

`ConvVAE`: {kind}, a latent of {latent_dim} numbers, {parameters:.2f} M parameters. They are
normalised by mean {mean}, std {std}. Stored as float16, computed in float32.
`eps` is in units of {latent_scale:g}, the scale of the prior N(0, I).

## Training

Data: {data}

Objective: |x - D(z)|^2 / 2 + beta KL(q(z|x) || N(0, I)) in nats an image, on normalised pixels, z drawn from q(z|x),
with beta = {beta:g} (the authors' kl = {authors_kl:g}). Adam with betas {betas}, learning rate {lr:g} falling linearly
to 0, {epochs} epochs, batches of {batch_size}, seed {seed}, {precision}; {augmentation}.{started}

## Measured

On {test_images} test images, with z the mean of q(z|x) and the weights as stored here.

| what | value |
|---|---|
| share of the variance of {values_of} that G(x) explains | {explained:.3f} |
| mean squared error, normalised units | {mse:.4f} |
{psnr_row}| KL(q(z given x), N(0, I)), an upper bound of I(z; x) | {kl:.0f} nats an image |
| share of the energy of x in G(x) | {energy_g:.3f} |
| share of the energy of x in R(x) | {energy_r:.3f} |
| latent dimensions in use (variance of the mean above 0.01) | {active} of {latent_dim} |

The shares need not add up to 1: G and R are not orthogonal.

{samples}| run | |
|---|---|
| command | `{command}` |
| commit | {commit} |
| machine | {machine} |
| versions | {versions} |
| date | {date} |

## Limits

The VAE was trained only on the data above; expect worse views of other images. How much identity an eps costs depends
on the model that is attacked: measure it on your images with `idaa inspect`.
"""


_SAMPLES = "![Test images x, reconstructions G(x) and residuals R(x)](samples.png)\n\n"
_PSNR = "| PSNR of G(x), mean over images | {psnr:.2f} dB |\n"
_OF_IMAGES = {
    "of": "{} images",
    "values_of": "the pixels",
    "units": "in [0, 1]",
    "augmentation": "SimCLR's random augmentation without blur",
}
_OF_SIGNALS = {
    "of": "signals of length {}",
    "values_of": "the signals",
    "units": "in the units of the training data",
    "augmentation": "random windows of at least half of the length, gain and noise",
}


def is_published(folder: Path) -> bool:
    """Whether :func:`publish` came to its end in the ``folder`` of a run: the card, which it writes last, is there."""
    return (folder / "README.md").is_file()


def publish(
    vae: ConvVAE,
    images: Images,
    recipe: Recipe,
    folder: Path,
    *,
    name: str,
    about: str = "",
    settings: dict[str, Any] | None = None,
) -> dict[str, float]:
    """Write config, weights in float16 and a filled-in model card to ``folder``; return what was measured.

    The numbers are those of the weights as stored, read back. Weights that are there already stay as they are, with
    what has been calibrated for them; new ones get the ``settings`` of the transform.
    """
    if not (folder / CONFIG).is_file():
        hub.save(vae, folder, settings or {"eps": 0.1}, STORED)
    stored, _ = hub.load(folder)
    measured = evaluate_vae(stored, images.test)
    pictures = len(vae.image_size) == 2
    if pictures:
        save_samples(stored, images.test, folder / "samples.png")
    values = vae.config | asdict(recipe) | provenance() | measured | (_OF_IMAGES if pictures else _OF_SIGNALS)
    card = _CARD.format(
        **values,
        name=name,
        shape=", ".join(map(str, (vae.channels, *vae.image_size))),
        kind=values["of"].format("x".join(map(str, vae.image_size))),
        psnr_row=_PSNR.format(**measured) if pictures else "",
        authors_kl=vae.beta / authors_beta(vae.image_size, vae.latent_dim, kl=1.0),
        parameters=sum(p.numel() for p in vae.parameters()) / 1e6,
        precision="bfloat16 autocast" if recipe.bf16 else "float32",
        data=f"{images.name}, {len(images.train):,} images. {about}".strip(),  # type: ignore[arg-type]
        test_images=f"{len(images.test):,}",
        samples=_SAMPLES if pictures else "",
        started=f" It started from the weights {recipe.start}." if recipe.start else "",
    )
    write_whole(folder / "README.md", card)
    return measured
