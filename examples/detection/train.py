"""Detection and instance segmentation from a backbone of examples/ssl: the paper's table on COCO, and smaller ones.

    python -m examples.detection.train --backbone runs/ssl/RUN --data nuclei --scale small      # minutes on a CPU
    torchrun --nproc-per-node 8 -m examples.detection.train --backbone runs/ssl/RUN --neck c4   # the paper's

config.py lists every option. A run that was interrupted goes on with the same command and ends as if it had not been,
on as many processes as there are. Its folder has checkpoint.pt and log.csv and, in the end, result.json.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torchvision.models.detection import FasterRCNN
from tqdm import tqdm

from examples.shared.parallel import average_gradients
from examples.shared.runs import decaying, hours, now, read_log, resume, save, set_up, since, write_result
from idaa_transforms._util.provenance import provenance
from idaa_transforms.training.run import load_checkpoint, log_row

from .coco import Coco, check_same, read
from .config import PLACE, Config, configure
from .evaluate import evaluate
from .network import build, start
from .views import Batch, passes

LOSSES = ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg", "loss_mask")


def load_data(config: Config) -> tuple[Coco, list[int], Coco, list[int]]:
    """What is trained on and what is tested on: a set, and the images of it."""
    train = read(config.folder, "train", config.masks)
    images = train.usable()[: config.train_images or None]
    if config.test == "train":
        return train, images, train, images
    test = read(config.folder, config.test, config.masks)
    check_same(train, test)
    return train, images, test, list(range(len(test.files)))[: config.test_images or None]


def learning_rate(config: Config, step: int) -> float:
    """Of an iteration: up, then down by a tenth twice."""
    up = min(1.0, (step + 1) / max(1, config.warmup))
    return config.lr * up * 0.1 ** ((step >= config.total * 2 / 3) + (step >= config.total * 8 / 9))


def make_optimiser(config: Config, model: nn.Module) -> torch.optim.Optimizer:
    """By the settings; see :func:`decaying`."""
    if config.optimiser == "adamw":
        return torch.optim.AdamW(decaying(model), config.lr, weight_decay=config.weight_decay)
    return torch.optim.SGD(decaying(model), config.lr, momentum=0.9, weight_decay=config.weight_decay)


def update(
    model: FasterRCNN, optimiser: torch.optim.Optimizer, stream: Iterator[Batch], config: Config, step: int, part: slice
) -> Tensor:
    """One iteration: the mean gradient over its forward passes, of which this process makes ``part``. Its losses."""
    count = config.batch_size // config.pass_size
    mine = range(count)[part]
    sums = torch.zeros(len(LOSSES), device=config.device)
    optimiser.zero_grad()
    for index in mine:
        images, targets = zip(*next(stream), strict=True)
        # What is drawn within the pass, proposals above all, is the same on whatever process it runs.
        torch.manual_seed(((config.seed + 1) * 1_000_003 + step) * 1009 + index)
        found = model(
            [image.to(config.device) for image in images],
            [{name: value.to(config.device) for name, value in target.items()} for target in targets],
        )
        losses = torch.stack([found[name] for name in LOSSES if name in found])
        (losses.sum() / len(mine)).backward()
        sums[: len(losses)] += losses.detach() / len(mine)
    average_gradients(model.parameters())
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(config, step)
    optimiser.step()
    return sums


def train(config: Config) -> dict[str, Any]:
    """Train, evaluate in the end, and return what result.json holds; {} if stopped before."""
    origin = provenance()  # now, while the code that runs is the code that is there
    rank, world = set_up(config)
    if (config.batch_size // config.pass_size) % world:
        raise ValueError(
            f"an iteration has {config.batch_size // config.pass_size} forward passes (--batch-size over --pass-size), "
            f"which {world} processes cannot share"
        )
    data, images, test, tested = load_data(config)
    torch.manual_seed(config.seed)
    backbone = start(config)
    model = build(config, backbone, len(data.names) + 1).to(config.device).to(memory_format=torch.channels_last)
    optimiser = make_optimiser(config, model)

    folder, rows = Path(config.out), math.ceil(config.total / config.every)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, state = folder / "checkpoint.pt", {"model": model, "optimiser": optimiser}
    first, spent = resume(checkpoint, config, state, PLACE)
    last = max(first, min(rows, config.stop_after or rows))
    bar = tqdm(total=config.total, initial=min(config.total, first * config.every), unit="step", disable=rank > 0)
    for row in range(first, last):
        begin, end = row * config.every, min(config.total, (row + 1) * config.every)
        sums, started = torch.zeros(len(LOSSES), device=config.device), now()
        model.train()
        part = slice(rank, None, world)
        stream = passes(data, images, config, begin, end, part)
        for step in range(begin, end):
            sums += update(model, optimiser, stream, config, step, part)
            bar.update()
        if world > 1:
            distributed.all_reduce(sums)
        losses = dict(zip(LOSSES, (sums / (end - begin) / world).tolist(), strict=True))
        if not all(map(math.isfinite, losses.values())):
            raise RuntimeError(f"a loss is not finite after {end} iterations ({losses}); lower --lr")
        took = since(started)
        spent = {name: spent[name] + took[name] for name in spent}
        if rank == 0:
            about = {"epoch": row + 1, "iterations": end, "loss": sum(losses.values()), **losses}
            log_row(folder / "log.csv", about | {"lr": learning_rate(config, end - 1), **took})
            save(checkpoint, config, state, row + 1, spent)
            bar.set_description(f"loss {about['loss']:.3f}")
        if world > 1:
            distributed.barrier()
    bar.close()
    if last < rows:
        return {}
    metrics = evaluate(model, test, tested, config.device, config.detections, config.masks)
    if rank:
        return {}
    seen = {"processes": world, **hours(spent), "images": {"train": len(images), "test": len(tested)}}
    seen |= {"backbone": {} if config.scratch else backbone.config, "metrics": metrics}
    return write_result(folder, origin, config, PLACE, **seen, log=read_log(folder / "log.csv"))


def load(folder: Path) -> tuple[Config, FasterRCNN, Coco, list[int]]:
    """A trained detector in the folder of a run, and what it is tested on."""
    saved = load_checkpoint(folder / "checkpoint.pt")
    if not {"config", "model"} <= saved.keys() or "neck" not in saved["config"]:
        raise ValueError(f"{folder}/checkpoint.pt is of another program; say a folder of examples.detection.train")
    config = Config(**saved["config"])
    *_, test, tested = load_data(config)
    model = build(config, start(config, weights=False), len(test.names) + 1).to(config.device)
    model.load_state_dict(saved["model"])
    return config, model, test, tested


if __name__ == "__main__":
    try:
        result = train(configure(about=__doc__))
    except (ValueError, OSError) as error:
        sys.exit(f"train: {error}")
    if result:
        print(json.dumps({"hours": result["hours"], **result["metrics"]}, indent=1))
