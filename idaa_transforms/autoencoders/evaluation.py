"""What a :class:`ConvVAE` makes of images, in numbers and as a picture."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..pictures import save_grid
from .conv import ConvVAE


def normalised(vae: ConvVAE, images: Tensor) -> Tensor:
    """Images (N, C, H, W), uint8 or float in [0, 1], to the range of ``vae``, channels last."""
    images = images.float() / 255 if images.dtype == torch.uint8 else images
    mean, std = (images.new_tensor(v).view(-1, 1, 1) for v in (vae.mean, vae.std))
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def save_samples(vae: ConvVAE, images: Tensor, file: Path) -> None:
    """A picture of the first ten images (N, C, H, W), uint8 or in [0, 1], their reconstructions and residuals."""
    vae.eval()
    device = next(vae.parameters()).device
    x = normalised(vae, images[:10].to(device))
    g = vae(x)
    mean, std = (x.new_tensor(v).view(-1, 1, 1) for v in (vae.mean, vae.std))
    rows = {"x": x * std + mean, "G(x)": g * std + mean, "R(x) + 0.5": (x - g) * std + 0.5}
    save_grid(rows, file, "images, their reconstructions and residuals")


@torch.no_grad()
def evaluate_vae(vae: ConvVAE, images: Tensor, batch_size: int = 500) -> dict[str, float]:
    """Measure ``vae`` in eval mode (z is the posterior's mean) on uint8 images (N, C, H, W).

    Returns:
        ``mse``: mean squared error of G(x) in normalised units; ``psnr``: in dB, of images in [0, 1], averaged over
        images; ``kl``: nats an image; ``energy_g`` and ``energy_r``: |G(x)|^2 and |R(x)|^2 over |x|^2, both of the
        whole set and in normalised units; ``active``: latent dimensions whose mean varies by more than 0.01 (Burda et
        al., 2016).
    """
    was_training, device = vae.training, next(vae.parameters()).device
    vae.eval()
    std = torch.tensor(vae.std, device=device).view(-1, 1, 1)
    totals = dict.fromkeys(("residual", "reconstruction", "image", "psnr", "kl"), 0.0)
    means = []
    for batch in images.split(batch_size):
        x = normalised(vae, batch.to(device))
        posterior = vae.encode(x)
        g = vae.decode(posterior.mean)
        r = x - g
        totals["residual"] += r.square().sum().item()
        totals["reconstruction"] += g.square().sum().item()
        totals["image"] += x.square().sum().item()
        totals["psnr"] += -10 * (r * std).square().flatten(1).mean(1).log10().sum().item()
        totals["kl"] += posterior.kl().sum().item()
        means.append(posterior.mean)
    vae.train(was_training)
    return {
        "mse": totals["residual"] / images.numel(),
        "psnr": totals["psnr"] / len(images),
        "kl": totals["kl"] / len(images),
        "energy_g": totals["reconstruction"] / totals["image"],
        "energy_r": totals["residual"] / totals["image"],
        "active": int((torch.cat(means).var(0) > 0.01).sum()),
    }
