"""Measure and draw how well an autoencoder reconstructs images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from .._util.pictures import save_grid, save_lines
from ..autoencoders.conv import ConvVAE
from ..autoencoders.protocol import latent_of


def normalised(autoencoder: Any, images: Tensor) -> Tensor:
    """Images (N, C, H, W), uint8 or float in [0, 1], or signals (N, C, L), to the range of ``autoencoder``; images
    channels last."""
    images = images.float() / 255 if images.dtype == torch.uint8 else images
    mean, std = _per_channel(autoencoder, images)
    x = (images - mean) / std
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def _per_channel(autoencoder: Any, like: Tensor) -> list[Tensor]:
    """Its mean and std, in a shape that broadcasts to ``like`` (N, C, ...)."""
    shape = (-1, *[1] * (like.ndim - 2))
    return [torch.tensor(values, device=like.device).view(shape) for values in (autoencoder.mean, autoencoder.std)]


@torch.no_grad()
def save_samples(vae: ConvVAE, images: Tensor, file: Path) -> None:
    """A picture of the first ten images (N, C, H, W), uint8 or in [0, 1], or signals (N, C, L), their reconstructions
    and residuals."""
    vae.eval()
    device = next(vae.parameters()).device
    x = normalised(vae, images[:10].to(device))
    g = vae(x)
    mean, std = _per_channel(vae, x)
    rows = {"x": x * std + mean, "G(x)": g * std + mean}
    if x.ndim == 3:
        save_lines(rows | {"R(x)": (x - g) * std}, file, "signals, their reconstructions and residuals")
    else:
        save_grid(rows | {"R(x) + 0.5": (x - g) * std + 0.5}, file, "images, their reconstructions and residuals")


@torch.no_grad()
def evaluate_vae(autoencoder: Any, images: Tensor, batch_size: int = 500) -> dict[str, float]:
    """Measure ``autoencoder`` in eval mode (z is the posterior's mean) on uint8 images (N, C, H, W), or on
    signals (N, C, L).

    Returns:
        ``mse``: mean squared error of G(x) in normalised units; ``psnr``: in dB, of images in [0, 1], averaged over
        images (none of signals); ``energy_g`` and ``energy_r``: ``|G(x)|^2`` and ``|R(x)|^2`` over ``|x|^2``, both of
        the whole set and in normalised units; ``explained``: the share of the variance of the values, around the mean
        of each channel, that G(x) explains. Of a VAE, whose ``encode`` gives a posterior, also ``kl``: nats an image;
        ``active``: latent dimensions whose mean varies by more than 0.01 (Burda et al., 2016).
    """
    was_training, device = autoencoder.training, next(autoencoder.parameters()).device
    autoencoder.eval()
    std = _per_channel(autoencoder, images)[1].to(device)
    totals = dict.fromkeys(("residual", "reconstruction", "image", "psnr"), 0.0)
    kl, means = 0.0, []
    sums = torch.zeros(images.shape[1], dtype=torch.float64, device=device)
    for batch in images.split(batch_size):
        x = normalised(autoencoder, batch.to(device))
        if factor := getattr(autoencoder, "factor", None):
            height, width = (-n % factor for n in x.shape[-2:])
            encoded = autoencoder.encode(functional.pad(x, (0, width, 0, height), mode="replicate"))
            g = autoencoder.decode(latent_of(encoded))[..., : x.shape[-2], : x.shape[-1]]
        else:
            encoded = autoencoder.encode(x)
            g = autoencoder.decode(latent_of(encoded))
        r = x - g
        totals["residual"] += r.square().sum().item()
        totals["reconstruction"] += g.square().sum().item()
        totals["image"] += x.square().sum().item()
        sums += x.transpose(0, 1).flatten(1).double().sum(1)
        totals["psnr"] += -10 * (r * std).square().flatten(1).mean(1).log10().sum().item()
        if hasattr(encoded, "kl"):
            kl += encoded.kl().sum().item()
            means.append(encoded.mean)
    autoencoder.train(was_training)
    variance = totals["image"] - (sums.square().sum() / images[:, 0].numel()).item()
    found = {"explained": 1 - totals["residual"] / max(variance, 1e-12), "mse": totals["residual"] / images.numel()}
    found |= {"psnr": totals["psnr"] / len(images)} if images.ndim == 4 else {}
    found |= {"energy_g": totals["reconstruction"] / totals["image"], "energy_r": totals["residual"] / totals["image"]}
    if means:
        spread = torch.cat(means).var(0, correction=min(1, len(images) - 1))
        found |= {"kl": kl / len(images), "active": int((spread > 0.01).sum())}
    return found
