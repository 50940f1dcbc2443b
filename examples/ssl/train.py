"""Self-supervised learning with and without adversarial views: the paper's experiments.

    python examples/ssl/train.py --method simclr --view idaa                       # the paper's settings; needs a GPU
    python examples/ssl/train.py --method simclr --view third --scale small        # minutes on a CPU
    torchrun --nproc-per-node 4 examples/ssl/train.py --method simsiam --view idaa-grad --data cifar100

config.py lists every option. A run that was interrupted goes on with the same command and ends as if it had not been.
Its folder has checkpoint.pt and log.csv after each epoch and, in the end, result.json.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any

import evaluate
import torch
from config import PLACE, Config, configure
from lightly.utils.lars import LARS
from network import Model
from step import augmentations, make_attack, update
from torch import Tensor, distributed
from tqdm import tqdm

from examples.shared.images import labelled_images
from examples.shared.runs import hours, now, read_log, resume, save, set_up, since, write_result
from idaa_transforms._util.provenance import provenance
from idaa_transforms.training.images import Images, batches, statistics
from idaa_transforms.training.run import TrainingError, log_row


def load_data(config: Config) -> Images:
    """Images, uint8, or signals, float32, and labels, on the device."""
    options = {"train": config.train_images, "test": config.test_images, "channels": None, "signals": config.signals}
    return labelled_images(config.data, config.root, config.image_size, config.device, **options)


def make_model(config: Config, images: Tensor | None) -> Model:
    """For training images (N, C, H, W) or signals (N, C, L); of other than three channels with statistics of theirs.
    None for RGB pictures that stream."""
    rgb = images is None or (images.shape[1] == 3 and images.ndim == 4)
    size = config.image_size if images is None else images.shape[-1]
    return (
        Model(config, size, None if rgb else statistics(images)).to(config.device).to(memory_format=torch.channels_last)
    )


def learning_rate(config: Config, epoch: float) -> float:
    """At a point of the run, in epochs: up, flat, then down."""
    if epoch < config.warmup_epochs:
        return config.lr * epoch / config.warmup_epochs
    if config.schedule == "steps":
        done = 301 * epoch / config.epochs
        return config.lr * (0.01 if done >= 200 else 0.05 if done >= 160 else 0.1 if done >= 120 else 1)
    start = max(config.warmup_epochs, config.flat_epochs)
    return config.lr * (1 + math.cos(math.pi * max(0, epoch - start) / max(1e-9, config.epochs - start))) / 2


def make_optimiser(config: Config, model: Model) -> torch.optim.Optimizer:
    """Parameters that follow the schedule, those that do not, and maybe more that do: see :func:`set_rate`."""
    constant = list(model.method.constant_lr())
    scheduled = [p for p in model.parameters() if p.requires_grad and not any(p is q for q in constant)]
    groups = [{"params": scheduled}, {"params": constant}]
    if config.optimiser == "lars":  # biases and norms do not decay, and what does not decay is not scaled
        groups[0]["params"] = [p for p in scheduled if p.ndim > 1]
        groups.append({"params": [p for p in scheduled if p.ndim <= 1], "weight_decay": 0.0})
        return LARS(groups, config.lr, momentum=0.9, weight_decay=config.weight_decay)
    if config.optimiser == "sgd":
        return torch.optim.SGD(groups, config.lr, momentum=0.9, weight_decay=config.weight_decay)
    fused = config.device.startswith("cuda") or None  # elsewhere torch chooses
    return torch.optim.Adam(groups, config.lr, weight_decay=config.weight_decay, fused=fused)


def set_rate(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """For all parameters but the second group."""
    for i, group in enumerate(optimiser.param_groups):
        group["lr"] = group["lr"] if i == 1 else lr


def finite(losses: Tensor, when: str) -> dict[str, float]:
    """The mean losses of a step, (2,), as a row of the log has them.

    Raises:
        TrainingError: they are not finite; ``when`` says when.
    """
    loss, extra_loss = losses.tolist()
    if not math.isfinite(loss + extra_loss):
        raise TrainingError(f"the loss became {loss} and {extra_loss} {when}; lower --lr or --eps")
    return {"loss": loss, "extra_loss": extra_loss}


def train(config: Config) -> dict[str, Any]:
    """Train, evaluate after the last epoch, and return what result.json holds; {} if stopped before."""
    if config.stream:
        from large import train_stream

        return train_stream(config)
    origin = provenance()  # now, while the code that runs is the code that is there
    rank, world = set_up(config)
    data, folder = load_data(config), Path(config.out)
    steps = len(data.train) // config.batch_size
    total = round(config.epochs * steps)
    whole = math.ceil(total / max(1, steps))  # epochs, of which the last may be a part of one
    if not steps or config.batch_size % world:
        raise ValueError(
            f"{len(data.train)} images in batches of {config.batch_size} for {world} processes leave some empty"
        )
    torch.manual_seed(config.seed)
    model = make_model(config, data.train)
    attack, augment = make_attack(config, model), augmentations(config, data.train.shape[1:], model.std)
    optimiser = make_optimiser(config, model)
    if config.compile:
        model.backbone.compile()

    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, state = folder / "checkpoint.pt", {"model": model, "optimiser": optimiser}
    first, spent = resume(checkpoint, config, state, PLACE)
    last = max(first, min(whole, config.stop_after or whole))
    bar = tqdm(total=total, initial=first * steps, unit="step", disable=rank > 0)
    for epoch in range(first, last):
        # Each epoch seeds its own random numbers, so that resuming needs no others. Every process augments the whole
        # batch, by the same numbers, and takes its share.
        seed = config.seed * 1_000_003 + epoch
        torch.manual_seed(seed)
        model.train()
        todo = min(steps, total - epoch * steps)
        sums, started = torch.zeros(2, device=config.device), now()
        shuffled = batches(data.train, config.batch_size, torch.Generator().manual_seed(seed), 0, 1, 0)
        for i, x in enumerate(itertools.islice(shuffled, todo)):
            set_rate(optimiser, learning_rate(config, epoch + i / steps))
            sums += update(model, attack, augment, optimiser, x, slice(rank, None, world))
            bar.update()
        losses = finite(sums / todo, f"in epoch {epoch + 1}")
        took = since(started)
        spent = {name: spent[name] + took[name] for name in spent}
        if rank == 0:
            row = {"epoch": epoch + 1, **losses}
            row |= {"lr": optimiser.param_groups[0]["lr"], **took}
            row |= {"images_per_second": todo * config.batch_size / took["seconds"]}
            log_row(folder / "log.csv", row)
            save(checkpoint, config, state, epoch + 1, spent)
            bar.set_description("epoch {}: loss {:.3f}, {:.3f}".format(epoch + 1, *losses.values()))
        if world > 1:
            distributed.barrier()
    bar.close()
    if last < whole:
        return {}
    # By every process: batch norms that take the moments of all need them all.
    metrics = evaluate.evaluate(model, data, config.sigma)
    if rank:
        return {}
    seen = {"processes": world, "images": data.name, **hours(spent), "attack": attack.stats() if attack else {}}
    log = read_log(folder / "log.csv") if whole else []
    return write_result(folder, origin, config, PLACE, **seen, metrics=metrics, log=log)


def main(arguments: list[str] | None = None) -> None:
    """Train by the command line; what can be foreseen to go wrong is one line."""
    try:
        result = train(configure(arguments, about=__doc__))
    except (ValueError, OSError, TrainingError) as error:
        sys.exit(f"train.py: {error}")
    if result:
        print(json.dumps({"hours": result["hours"], **result["metrics"]}, indent=1))


if __name__ == "__main__":
    main()
