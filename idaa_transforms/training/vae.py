"""Train a :class:`.ConvVAE` by the paper's recipe, on one process or, under ``torchrun``, on many."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

from .._util.extras import require
from .._util.precision import use_bfloat16
from ..autoencoders.conv import ConvVAE
from .augmentation import random_augmentation
from .evaluation import evaluate_vae, normalised, save_samples
from .images import Images, batches
from .run import (
    CHECKPOINT,
    TrainingError,
    fingerprint,
    load_checkpoint,
    log_row,
    own_folder,
    processes,
    same_settings,
    save_whole,
)

LOOKED_AT = 64
"""Test images that are reconstructed after every epoch."""


@dataclass(frozen=True)
class Recipe:
    """What decides the weights. The defaults are the paper's (Yang et al., ICML 2022, authors' settings)."""

    epochs: int = 300
    batch_size: int = 128  # over all processes
    lr: float = 5e-4  # decays linearly to 0 over all steps
    betas: tuple[float, float] = (0.0, 0.9)  # Adam's
    seed: int = 0
    bf16: bool | None = None  # autocast the networks to bfloat16; None: where the device has it
    start: str = ""  # the weights that it starts from

    def on(self, device: torch.device) -> Recipe:
        """The same, with ``bf16`` as it will be on ``device``."""
        return replace(self, bf16=use_bfloat16(self.bf16, device))


class _Objective(nn.Module):
    """The objective as a forward pass, which is what DDP wraps."""

    def __init__(self, vae: ConvVAE) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return tuple(self.vae.objective(x))  # type: ignore[return-value]


def train_vae(
    vae: ConvVAE,
    images: Images,
    recipe: Recipe,
    folder: Path,
    *,
    stop_after: int | None = None,
    workers: int = 0,
) -> int:
    """Train ``vae`` on the device it lives on.

    ``folder`` receives, after every epoch, ``checkpoint.pt``, a row of ``log.csv`` and ``progress.png`` (x, G, R). A
    run that finds a checkpoint there goes on from it and ends with the same weights as one that was never interrupted:
    every epoch seeds its own random numbers.

    Under ``torchrun`` each process takes its share of every batch, and the first one writes. Batch norm sees the share
    only, but for CUDA, where it is synchronised.

    Args:
        stop_after: end the run early, at that epoch, without changing the schedule.
        workers: processes that decode images which do not fit into memory.

    Returns:
        The number of epochs done. ``vae`` is in eval mode then.
    """
    require("train", "kornia", "matplotlib", "tqdm")
    device = next(vae.parameters()).device
    recipe = recipe.on(device)
    rank, world = processes(device)
    steps = _steps(len(images.train), recipe.batch_size, world)  # type: ignore[arg-type]
    own_folder(folder)
    if world > 1 and device.type == "cuda":
        vae = nn.SyncBatchNorm.convert_sync_batchnorm(vae)
    optimiser = torch.optim.Adam(vae.parameters(), lr=recipe.lr, betas=recipe.betas)
    total = recipe.epochs * steps
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / total)
    run = _Run(vae, images, recipe, folder, {"vae": vae, "optimiser": optimiser, "schedule": schedule})
    first = run.resume(device) if (folder / CHECKPOINT).exists() else 0
    last = max(first, min(recipe.epochs, stop_after or recipe.epochs))
    if first < last:
        _train(run, range(first, last), steps, device, rank, world, workers)
    vae.eval()
    return last


def _steps(images: int, batch_size: int, world: int) -> int:
    """Batches an epoch."""
    if batch_size % world:
        raise ValueError(f"a batch of {batch_size} cannot be shared by {world} processes; use a multiple of {world}")
    if images < max(2, world):
        raise ValueError(f"{images} training images are too few to train on")
    if images < batch_size:
        most = images - images % world
        raise ValueError(f"{images} training images do not fill a batch of {batch_size}; use --batch-size {most}")
    return images // batch_size


@dataclass
class _Run:
    """A run as it is saved."""

    vae: ConvVAE
    images: Images
    recipe: Recipe
    folder: Path
    state: dict[str, Any]

    def __post_init__(self) -> None:
        self.data = fingerprint(self.images.train, self.images.test)

    def resume(self, device: torch.device) -> int:
        """Take up the state in the checkpoint; returns the number of epochs done."""
        checkpoint = self.folder / CHECKPOINT
        saved = load_checkpoint(checkpoint, device)
        for what, now in (("recipe", asdict(self.recipe)), ("config", self.vae.config)):
            same_settings(checkpoint, saved.get(what, {}), now)
        if saved["data"] != self.data:
            raise ValueError(f"{checkpoint} was made with other images than these; use another --out")
        for name, part in self.state.items():
            part.load_state_dict(saved[name])
        return int(saved["epoch"])

    def save(self, epoch: int) -> None:
        """Write the state after ``epoch`` epochs."""
        saved = {name: part.state_dict() for name, part in self.state.items()}
        about = {"epoch": epoch, "recipe": asdict(self.recipe), "config": self.vae.config, "data": self.data}
        save_whole(saved | about, self.folder / CHECKPOINT)


def _train(
    run: _Run,
    epochs: range,
    steps: int,
    device: torch.device,
    rank: int,
    world: int,
    workers: int,
) -> None:
    from tqdm import tqdm

    vae, images, recipe, folder = run.vae, run.images, run.recipe, run.folder
    train = images.train.to(device) if isinstance(images.train, Tensor) else images.train
    augment = random_augmentation(vae, crop=isinstance(train, Tensor)).to(device)
    objective: Any = _Objective(vae)
    objective = nn.parallel.DistributedDataParallel(objective) if world > 1 else objective
    optimiser, schedule, size = run.state["optimiser"], run.state["schedule"], recipe.batch_size
    total, done = recipe.epochs * steps * size, epochs.start * steps * size
    with tqdm(total=total, initial=done, unit="img", unit_scale=True, disable=rank > 0, leave=False) as bar:
        for epoch in epochs:
            vae.train()
            if recipe.start:  # batch norm keeps the statistics of the weights: those of augmented batches spoil them
                for norm in (m for m in vae.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)):
                    norm.eval()
            seed = recipe.seed * 1_000_003 + epoch
            order = torch.Generator().manual_seed(seed)
            torch.manual_seed(seed * world + rank)
            sums, started = torch.zeros(3, device=device), time.perf_counter()
            bar.set_description(f"epoch {epoch + 1}/{recipe.epochs}")
            for x in batches(train, size, order, rank, world, workers):
                with torch.autocast(device.type, torch.bfloat16, enabled=bool(recipe.bf16)):
                    terms = objective(normalised(vae, augment(x.to(device))))
                optimiser.zero_grad()
                terms[0].backward()
                optimiser.step()
                schedule.step()
                sums += torch.stack([term.detach() for term in terms])
                bar.update(size)
            if world > 1:
                distributed.all_reduce(sums)
            loss, distortion, kl = (sums / steps / world).tolist()
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss became {loss} in epoch {epoch + 1}; train in another folder, with a smaller --lr or, if "
                    "it was in bfloat16, in float32"
                )
            if rank == 0:
                row = {"epoch": epoch + 1, "loss": loss, "reconstruction_error": distortion, "kl": kl}
                row |= {"seconds": time.perf_counter() - started}
                measured = evaluate_vae(vae, images.test[:LOOKED_AT])
                row |= {name: measured[name] for name in ("explained", "psnr") if name in measured}
                log_row(folder / "log.csv", row)
                save_samples(vae, images.test, folder / "progress.png")
                run.save(epoch + 1)
                tqdm.write(_said(row, recipe.epochs, vae.beta, steps * size))
            if world > 1:
                distributed.barrier()


def _said(row: dict[str, float], epochs: int, beta: float, seen: int) -> str:
    """An epoch in one line."""
    terms = f"{row['reconstruction_error']:,.1f} reconstruction error + {beta:g} (beta) x {row['kl']:,.1f} KL"
    psnr = f", PSNR {row['psnr']:.1f} dB" if "psnr" in row else ""
    left, speed = (epochs - row["epoch"]) * row["seconds"], seen / row["seconds"]
    time_left = f"{left / 60:.0f} min" if left >= 100 else f"{left:.0f} s"
    start = f"epoch {row['epoch']} of {epochs}: loss {row['loss']:,.1f} nats = {terms}"
    return f"{start}; {row['explained']:.0%} explained{psnr}; {speed:,.0f} images/s, {time_left} left"
