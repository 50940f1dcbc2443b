"""What makes the autoencoder faster, with the error it brings, and what the Hub's large ones cost.

``encoder``: the mean and log variance of the posterior, or the mean alone, which is all that most attacks ask for.
``tuned``: views of cifar10-vae as it is; with its batch norms folded into the convolutions before them; channels_last;
bfloat16; compiled. Not all of these are kept in the package: this is where it was found what pays. ``hub``: networks of
the shape of TAESD and of Stable Diffusion's KL autoencoder, with random weights, which cost the same.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from idaa_transforms import IDAATransform
from idaa_transforms.autoencoders.diffusers import DiffusersAutoencoder
from idaa_transforms.util.precision import has_bfloat16

from .. import harness
from ..workload import batch_of
from . import Options

TITLE = "Autoencoders"
KL = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}


def folded(model: nn.Module) -> nn.Module:
    """A copy in which every batch norm right behind a convolution is part of it. Exact but for rounding."""
    model = copy.deepcopy(model)
    for block in [m for m in model.modules() if isinstance(m, nn.Sequential)]:
        parts = list(block.named_children())
        for (name, conv), (after, norm) in itertools.pairwise(parts):
            if isinstance(conv, nn.Conv2d | nn.ConvTranspose2d) and isinstance(norm, nn.BatchNorm2d):
                block.add_module(name, fuse_conv_bn_eval(conv, norm, isinstance(conv, nn.ConvTranspose2d)))
                block.add_module(after, nn.Identity())
    return model


def tuned(device: str) -> dict[str, IDAATransform]:
    """The same transform, made faster in different ways. The first is the plain one."""
    plain = IDAATransform.from_pretrained("cifar10-vae").autoencoder
    last = torch.channels_last
    made = {
        "plain": copy.deepcopy(plain),
        "batch norm folded": folded(plain),
        "channels_last": copy.deepcopy(plain).to(memory_format=last),
        "folded, channels_last": folded(plain).to(memory_format=last),
    }
    if has_bfloat16(device):
        made |= {
            "bfloat16": copy.deepcopy(plain).bfloat16(),
            "bfloat16, folded": folded(plain).bfloat16(),
            "bfloat16, folded, channels_last": folded(plain).bfloat16().to(memory_format=last),
        }
    transforms = {name: IDAATransform(autoencoder) for name, autoencoder in made.items()}
    for name in [name for name in ("plain", "bfloat16", "bfloat16, folded, channels_last") if name in made]:
        compiled = IDAATransform(copy.deepcopy(made[name]))
        compiled.compile()
        transforms[f"compiled: {name}"] = compiled
    return transforms


def hub(device: str) -> Iterator[tuple[str, IDAATransform, torch.Tensor]]:
    """Name, transform and images."""
    import diffusers

    size, batch = (64, 4) if device == "cpu" else (256, 16)
    for name, model in (
        ("AutoencoderTiny, as TAESD", diffusers.AutoencoderTiny()),
        ("AutoencoderKL, as Stable Diffusion's", diffusers.AutoencoderKL(**KL)),
    ):
        autoencoder = DiffusersAutoencoder(model)
        for chunk_size in (None, 1):
            chunks = "" if chunk_size is None else f", chunk_size={chunk_size}"
            yield f"{name}{chunks}", IDAATransform(autoencoder, chunk_size=chunk_size), batch_of(batch, size)


def run(options: Options) -> Iterator[dict[str, Any]]:
    """Rows of the encoder alone, then of views from a gradient at hand, so that the autoencoder is all there is."""
    for batch in (8, 128):
        vae = IDAATransform.from_pretrained("cifar10-vae").to(options.device).autoencoder
        normalised = batch_of(batch, 32).to(options.device)
        both = {"E, mean and log variance": vae.encode, "E, the mean alone": vae.encode_mean}
        with torch.no_grad():
            cases = {name: partial(encode, normalised) for name, encode in both.items()}
            yield from harness.rows(cases, options.repeats, options.device, group="encoder", batch=batch, size=32)
    device, x = options.device, batch_of(options.batch, 32).to(options.device)
    gradient = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(device)
    transforms = {name: aug.to(device) for name, aug in tuned(options.device).items()}
    exact = transforms["plain"].explain(x, grad=gradient)
    errors = {}
    for name, aug in transforms.items():
        found = aug.explain(x, grad=gradient)
        with torch.no_grad():  # the change by one and the same delta, so that no sign of a small gradient decides
            z, decode = aug.codec.encode(x), partial(aug.codec.decode, shape=x.shape)
            apart = decode(z + exact.delta) - decode(z) - (exact.views - x)
        errors[name] = {
            "error_mean": float((found.views - exact.views).abs().mean()),
            "error_max": float((found.views - exact.views).abs().max()),
            "error_same_delta_max": float(apart.abs().max()),
        }
    cases = {name: partial(aug, x, grad=gradient) for name, aug in transforms.items()}
    for row in harness.rows(cases, options.repeats, device, group="tuned", batch=len(x), size=32):
        yield row | errors[row["case"]]
    for name, aug, images in hub(device):
        aug, images = aug.to(device), images.to(device)
        case = {name: partial(aug, images, grad=torch.randn_like(images))}
        axes = {"group": "hub", "batch": len(images), "size": images.shape[-1]}
        yield from harness.rows(case, max(2, options.repeats // 5), device, **axes)
