"""Train a :class:`ConvVAE` by the paper's recipe, on one process or, under ``torchrun``, on many."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn

from ..autoencoders.conv import ConvVAE
from ..util.extras import require
from ..util.precision import use_bfloat16
from .augmentation import ssl_augmentation
from .data import Images, batches
from .evaluation import normalised, save_samples
from .run import log_row, processes, save_whole


@dataclass(frozen=True)
class Recipe:
    """What decides the weights. The defaults are the paper's (Yang et al., ICML 2022, authors' settings)."""

    epochs: int = 300
    batch_size: int = 128  # over all processes
    lr: float = 5e-4  # decays linearly to 0 over all steps
    betas: tuple[float, float] = (0.0, 0.9)  # Adam's
    seed: int = 0
    bf16: bool | None = None  # autocast the networks to bfloat16; None: where the device has it

    def on(self, device: torch.device) -> Recipe:
        """The same, with ``bf16`` as it will be on ``device``."""
        return replace(self, bf16=use_bfloat16(self.bf16, device))


class _Objective(nn.Module):
    """The objective as a forward pass, which is what DDP and torch.compile wrap."""

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
    compile: bool = False,
    workers: int = 0,
    tensorboard: bool = False,
) -> int:
    """Train ``vae`` on the device it lives on.

    ``folder`` receives, after every epoch, ``checkpoint.pt``, a row of ``log.csv`` and ``progress.png`` (x, G, R). A
    run that finds a checkpoint there goes on from it and ends with the same weights as one that was never interrupted:
    every epoch seeds its own random numbers.

    Under ``torchrun`` each process takes its share of every batch, and the first one writes. Batch norm sees the share
    only, but for CUDA, where it is synchronised.

    Args:
        stop_after: end the run early, at that epoch, without changing the schedule.
        compile: use ``torch.compile``.
        workers: processes that decode images which do not fit into memory.
        tensorboard: log there too, below ``folder``.

    Returns:
        The number of epochs done. ``vae`` is in eval mode then.
    """
    require("train", "kornia", "matplotlib", "tqdm")
    from tqdm import tqdm

    device = next(vae.parameters()).device
    recipe = recipe.on(device)
    rank, world = processes(device)
    train = images.train.to(device) if isinstance(images.train, Tensor) else images.train
    augment = ssl_augmentation(vae.image_size, crop=isinstance(train, Tensor))
    size: int = len(train)  # type: ignore[arg-type]
    steps = size // recipe.batch_size
    if not steps or recipe.batch_size % world:
        raise ValueError(f"{size} images in batches of {recipe.batch_size} over {world} processes leave some empty")
    if world > 1 and device.type == "cuda":
        vae = nn.SyncBatchNorm.convert_sync_batchnorm(vae)
    optimiser = torch.optim.Adam(vae.parameters(), lr=recipe.lr, betas=recipe.betas)
    total = recipe.epochs * steps
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / total)
    state: dict[str, Any] = {"vae": vae, "optimiser": optimiser, "schedule": schedule}

    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    first = _resume(checkpoint, state, recipe, vae, device) if checkpoint.exists() else 0
    last = max(first, min(recipe.epochs, stop_after or recipe.epochs))
    objective: Any = _Objective(vae)
    objective = nn.parallel.DistributedDataParallel(objective) if world > 1 else objective
    objective = torch.compile(objective) if compile else objective

    bar = tqdm(
        total=total * recipe.batch_size,
        initial=first * steps * recipe.batch_size,
        unit="img",
        unit_scale=True,
        disable=rank > 0,
    )
    for epoch in range(first, last):
        vae.train()
        seed = recipe.seed * 1_000_003 + epoch
        order = torch.Generator().manual_seed(seed)
        torch.manual_seed(seed * world + rank)
        sums, started = torch.zeros(3, device=device), time.perf_counter()
        bar.set_description(f"epoch {epoch + 1}/{recipe.epochs}")
        for x in batches(train, recipe.batch_size, order, rank, world, workers):
            with torch.autocast(device.type, torch.bfloat16, enabled=bool(recipe.bf16)):
                terms = objective(normalised(vae, augment(x.to(device))))
            optimiser.zero_grad()
            terms[0].backward()
            optimiser.step()
            schedule.step()
            sums += torch.stack([term.detach() for term in terms])
            bar.update(recipe.batch_size)
        if world > 1:
            distributed.all_reduce(sums)
        loss, distortion, kl = (sums / steps / world).tolist()
        if not math.isfinite(loss):
            raise RuntimeError(
                f"the loss became {loss} in epoch {epoch + 1}; resume from {checkpoint} with a smaller lr"
            )
        row = {
            "epoch": epoch + 1,
            "loss": loss,
            "distortion": distortion,
            "kl": kl,
            "seconds": time.perf_counter() - started,
        }
        if rank == 0:
            log_row(folder / "log.csv", row)
            if tensorboard:
                _board(folder, row)
            save_samples(vae, images.test, folder / "progress.png")
            saved = {name: part.state_dict() for name, part in state.items()}
            save_whole(saved | {"epoch": epoch + 1, "recipe": asdict(recipe), "config": vae.config}, checkpoint)
            tqdm.write(
                f"epoch {epoch + 1}: loss {loss:.1f} = {distortion:.1f} + beta * {kl:.1f} nats, {row['seconds']:.0f} s"
            )
        if world > 1:
            distributed.barrier()
    bar.close()
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


def _board(folder: Path, row: dict[str, Any]) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard")) as board:
        for name in ("loss", "distortion", "kl"):
            board.add_scalar(name, row[name], int(row["epoch"]))
