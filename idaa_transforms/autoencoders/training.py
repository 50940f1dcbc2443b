"""Train and measure a :class:`ConvVAE` by the paper's recipe."""

from __future__ import annotations

import csv
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .conv import ConvVAE


@dataclass(frozen=True)
class Recipe:
    """How a VAE is trained. The defaults are the paper's (Yang et al., ICML 2022, authors' settings)."""

    epochs: int = 300
    batch_size: int = 128
    lr: float = 5e-4  # decays linearly to 0 over all steps
    betas: tuple[float, float] = (0.0, 0.9)  # Adam's
    seed: int = 0
    bf16: bool = False  # autocast the networks to bfloat16


def ssl_augmentation(size: tuple[int, int]) -> nn.Module:
    """SimCLR's random augmentation without blur, on batches in [0, 1]: what the paper trains its VAEs on."""
    import kornia.augmentation as K

    return nn.Sequential(
        K.RandomResizedCrop(size, scale=(0.08, 1.0)),
        K.RandomHorizontalFlip(),
        K.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        K.RandomGrayscale(p=0.2),
    )


def normalised(vae: ConvVAE, images: Tensor) -> Tensor:
    """uint8 NHWC or float NCHW images in [0, 1] to the range of ``vae``, NCHW."""
    if images.dtype == torch.uint8:
        images = images.permute(0, 3, 1, 2).float() / 255
    mean, std = (images.new_tensor(v).view(-1, 1, 1) for v in (vae.mean, vae.std))
    return (images - mean) / std


def train_vae(vae: ConvVAE, images: Tensor, recipe: Recipe, folder: Path, stop_after: int | None = None) -> int:
    """Train ``vae`` on uint8 images (N, H, W, C), on the device it lives on.

    ``folder`` receives ``checkpoint.pt`` and a row of ``log.csv`` after every epoch. A run that finds a checkpoint
    there goes on from it and ends with the same weights as one that was never interrupted: every epoch seeds its own
    random numbers. ``stop_after`` ends the run early, at that epoch, without changing the schedule. Returns the number
    of epochs done; ``vae`` is in eval mode then.
    """
    from tqdm import tqdm

    device = next(vae.parameters()).device
    images = images.to(device)
    augment = ssl_augmentation(vae.image_size)
    steps = len(images) // recipe.batch_size
    optimiser = torch.optim.Adam(vae.parameters(), lr=recipe.lr, betas=recipe.betas)
    total = recipe.epochs * steps
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / total)
    state: dict[str, Any] = {"vae": vae, "optimiser": optimiser, "schedule": schedule}

    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    first = _resume(checkpoint, state, recipe, vae, device) if checkpoint.exists() else 0

    vae.train()
    last = max(first, min(recipe.epochs, stop_after or recipe.epochs))
    for epoch in range(first, last):
        torch.manual_seed(recipe.seed * 1_000_003 + epoch)
        order = torch.randperm(len(images))[: steps * recipe.batch_size].to(device)
        sums, started = torch.zeros(3, device=device), time.perf_counter()
        bar = tqdm(order.split(recipe.batch_size), desc=f"epoch {epoch + 1}/{recipe.epochs}", unit="batch", leave=False)
        for rows in bar:
            x = images[rows].permute(0, 3, 1, 2).float() / 255
            x = normalised(vae, augment(x)).contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, torch.bfloat16, enabled=recipe.bf16):
                objective = vae.objective(x)
            optimiser.zero_grad()
            objective.loss.backward()
            optimiser.step()
            schedule.step()
            sums += torch.stack([t.detach() for t in objective])
        loss, distortion, kl = (sums / steps).tolist()
        if not math.isfinite(loss):
            raise RuntimeError(
                f"the loss became {loss} in epoch {epoch + 1}; resume from {checkpoint} with a smaller lr"
            )
        seconds = time.perf_counter() - started
        _log(
            folder / "log.csv",
            {"epoch": epoch + 1, "loss": loss, "distortion": distortion, "kl": kl, "seconds": seconds},
        )
        saved = {name: part.state_dict() for name, part in state.items()}
        partial = checkpoint.with_suffix(".tmp")  # a run killed while it saves leaves the last checkpoint whole
        torch.save(saved | {"epoch": epoch + 1, "recipe": asdict(recipe), "config": vae.config}, partial)
        partial.replace(checkpoint)
        tqdm.write(f"epoch {epoch + 1}: loss {loss:.1f} = {distortion:.1f} + beta * {kl:.1f} nats, {seconds:.0f} s")
    vae.eval()
    return last


def _resume(checkpoint: Path, state: dict[str, Any], recipe: Recipe, vae: ConvVAE, device: torch.device) -> int:
    saved = torch.load(checkpoint, map_location=device, weights_only=True)
    for what, now in (("recipe", asdict(recipe)), ("config", vae.config)):
        if saved[what] != now:
            raise ValueError(f"{checkpoint} was made with {what} {saved[what]}, not {now}; use another folder")
    for name, part in state.items():
        part.load_state_dict(saved[name])
    return int(saved["epoch"])


def _log(file: Path, row: dict[str, float]) -> None:
    """Append ``row``; what an interrupted run had written of the same and later epochs goes."""
    old = list(csv.DictReader(file.open())) if file.exists() else []
    rows = [r for r in old if int(r["epoch"]) < row["epoch"]] + [row]
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, row)
        writer.writeheader()
        writer.writerows(rows)


@torch.no_grad()
def evaluate_vae(vae: ConvVAE, images: Tensor, batch_size: int = 500) -> dict[str, float]:
    """Measure ``vae`` in eval mode (z is the posterior's mean) on uint8 images (N, H, W, C).

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
    n = len(images)
    return {
        "mse": totals["residual"] / images.numel(),
        "psnr": totals["psnr"] / n,
        "kl": totals["kl"] / n,
        "energy_g": totals["reconstruction"] / totals["image"],
        "energy_r": totals["residual"] / totals["image"],
        "active": int((torch.cat(means).var(0) > 0.01).sum()),
    }
