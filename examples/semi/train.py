"""Semi-supervised learning: FixMatch with and without adversarial views, the paper's experiment.

    python -m examples.semi.train --view idaa --labels 400                        # the paper's settings; needs a GPU
    python -m examples.semi.train --view third --scale small                      # minutes on a CPU core
    torchrun --nproc-per-node 4 -m examples.semi.train --view idaa --labels 2500

config.py lists every option. A run that was interrupted goes on with the same command and ends as if it had not been.
After each epoch its folder has checkpoint.pt, log.csv and split.json, the labelled images; in the end, result.json.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed
from tqdm import tqdm

from examples.shared.images import labelled_images
from examples.shared.runs import decaying, hours, now, read_log, resume, save, set_up, since, write_result
from idaa_transforms._util.provenance import provenance
from idaa_transforms.training.images import Images
from idaa_transforms.training.run import log_row, own_folder

from . import split
from .config import PLACE, Config, configure
from .fixmatch import Average, learning_rate
from .step import Batch, Model, make_attack, update


def load_data(config: Config) -> Images:
    """Images, uint8, and labels, on the device."""
    counts = {"train": config.train_images, "test": config.test_images}
    return labelled_images(config.data, config.root, config.image_size, config.device, **counts)


def batches(config: Config, data: Images, labelled: Tensor, steps: int, generator: torch.Generator) -> Iterator[Batch]:
    """Labelled images, their labels and all images as unlabelled ones, so many of each for every step; both in random
    order, again and again."""

    def draw(count: int, size: int) -> Tensor:
        needed = steps * size
        orders = [torch.randperm(count, generator=generator) for _ in range(math.ceil(needed / count))]
        return torch.cat(orders)[:needed].view(steps, size)

    some, all_ = draw(len(labelled), config.batch_size), draw(len(data.train), config.batch_size * config.mu)
    for few, many in zip(some, all_, strict=True):
        own, rest = labelled[few].to(config.device), many.to(config.device)
        yield Batch(
            data.train[own].float() / 255,
            data.train_labels[own],
            data.train[rest].float() / 255,
            data.train_labels[rest],
        )


@torch.no_grad()
def accuracy(model: Model, data: Images) -> float:
    """Share of the test images that the clean batch norms in eval mode classify rightly."""
    model.eval()
    right = 0
    for x, y in zip(data.test.split(500), data.test_labels.split(500), strict=True):
        right += (model.head(model.encode(model.normalise(x.float() / 255))).argmax(1) == y).sum().item()
    return right / len(data.test)


def own_split(config: Config, labels: Tensor) -> Tensor:
    """The labelled rows: of ``--split``, or drawn by the seed."""
    rows = split.load(Path(config.split), labels) if config.split else split.draw(labels, config.labels, config.seed)
    if len(rows) != config.labels:
        raise ValueError(f"--split {config.split} has {len(rows)} rows, not {config.labels}: say --labels {len(rows)}")
    return torch.tensor(rows)


def train(config: Config) -> dict[str, Any]:
    """Train, test after the last step, and return what result.json holds; {} if stopped before."""
    origin = provenance()  # now, while the code that runs is the code that is there
    rank, world = set_up(config)
    if config.batch_size % world:
        raise ValueError(f"--batch-size {config.batch_size} is no multiple of the {world} processes")
    data, folder = load_data(config), Path(config.out)
    own_folder(folder)
    labelled = own_split(config, data.train_labels)
    torch.manual_seed(config.seed)
    model = Model(config, int(data.train_labels.max()) + 1, data.train.shape[-1]).to(config.device)
    average = Average(model, config.ema)
    optimiser = torch.optim.SGD(
        decaying(model), config.lr, momentum=0.9, nesterov=True, weight_decay=config.weight_decay
    )
    done = _epochs(config, data, labelled, model, average, optimiser, rank, world)
    if not done or rank:
        return {}
    spent, attacked = done
    metrics = {"accuracy": accuracy(average.model, data), "accuracy_without_average": accuracy(model, data)}
    seen = {"processes": world, **hours(spent), "attack": attacked, "metrics": metrics}
    return write_result(folder, origin, config, PLACE, **seen, log=read_log(folder / "log.csv"))


def _epochs(
    config: Config,
    data: Images,
    labelled: Tensor,
    model: Model,
    average: Average,
    optimiser: torch.optim.Optimizer,
    rank: int,
    world: int,
) -> tuple[dict[str, float], dict[str, Any]] | None:
    """Train to the end, or to ``stop_after``: None."""
    folder, attack = Path(config.out), make_attack(config, model)
    state = {"model": model, "ema": average.model, "optimiser": optimiser}
    first, spent = resume(folder / "checkpoint.pt", config, state, PLACE)
    whole = math.ceil(config.steps / config.every)
    last = max(first, min(whole, config.stop_after or whole))
    bar = tqdm(total=config.steps, initial=min(config.steps, first * config.every), unit="step", disable=rank > 0)
    for epoch in range(first, last):
        # Each epoch seeds its own random numbers, so that resuming needs no others. Every process augments the whole
        # batch, by the same numbers, and takes its share.
        seed = config.seed * 1_000_003 + epoch
        torch.manual_seed(seed)
        model.train()
        todo = min(config.every, config.steps - epoch * config.every)
        sums: Tensor | float = 0.0
        started = now()
        for i, batch in enumerate(batches(config, data, labelled, todo, torch.Generator().manual_seed(seed))):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(config.lr, epoch * config.every + i, config.steps)
            sums = sums + update(model, attack, optimiser, batch, slice(rank, None, world))
            average.follow(model)
            bar.update()
        names = ("labelled_loss", "strong_loss", "view_loss", "sure", "right")
        row = dict(zip(names, (sums / todo).tolist(), strict=True))
        row["right"] = row["right"] / row["sure"] if row["sure"] else 0.0  # of the labels that it was sure of
        if not all(map(math.isfinite, row.values())):
            raise RuntimeError(f"a loss is no number in epoch {epoch + 1} ({row}); lower --lr or --eps")
        took = since(started)
        spent = {name: spent[name] + took[name] for name in spent}
        if rank == 0:
            row = {"epoch": epoch + 1, **row, "accuracy": accuracy(average.model, data), **took}
            log_row(folder / "log.csv", row)
            save(folder / "checkpoint.pt", config, state, epoch + 1, spent)
            split.save(folder / "split.json", labelled.tolist(), config.seed)
            bar.set_description(f"epoch {epoch + 1}: sure {row['sure']:.2f}, accuracy {row['accuracy']:.3f}")
        if world > 1:
            distributed.barrier()
    bar.close()
    return (spent, attack.stats() if attack else {}) if last == whole else None


if __name__ == "__main__":
    try:
        result = train(configure(about=__doc__))
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"train.py: {error}")
    if result:
        print(json.dumps({"hours": result["hours"], **result["metrics"]}, indent=1))
