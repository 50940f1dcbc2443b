"""The board: what a view brings for the time that it takes. docs/board.md says what is asked and how it is decided.

    python examples/ssl/run_table.py --board cifar10-crops --seeds 10 11 12        # arms of one rung, each seed in turn

A budget is the time of so many epochs of plain two-view training. Each arm's step is timed first, all arms in one
process, interleaved; then each gets as many epochs, the last one in part, as its budget pays for.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from config import Config, configure
from network import Model
from step import augmentations, make_attack, update
from train import load_data, make_optimiser

from idaa_transforms.util.provenance import provenance

CROPS = ["--crop", ".4", "--jitter", "0", "0", "0", "0", "--gray", "0"]
SMALL = ["--scale", "small", "--weights", "cifar10-vae-small", "--knn-every", "2"]
# A rung: data and random augmentation, and the budget in epochs of plain training.
RUNGS: dict[str, tuple[list[str], float]] = {
    "cifar10-crops": ([*SMALL, *CROPS], 6),
    "cifar10-paper": (SMALL, 6),
    "eurosat-crops": ([*SMALL, *CROPS, "--data", "eurosat", "--image-size", "32"], 12),
    "cifar100-crops": ([*SMALL, *CROPS, "--data", "cifar100"], 6),
    "smoke": (["--scale", "smoke", "--weights", "cifar10-vae-small", "--crop", ".4"], 2),
}
ARMS: dict[str, list[str]] = {
    "none": ["--view", "none"],
    "third": ["--view", "third"],
    "small": ["--view", "small"],
    "hvp": ["--view", "hvp"],
    "clae": ["--view", "clae"],
    "mixup .3": ["--view", "none", "--mixup", ".3"],
    "noise .1": ["--view", "none", "--noise", ".1"],
    "quantize 8": ["--view", "none", "--quantize", "8"],
    "latent .5": ["--view", "latent", "--eps", ".5"],
    "idaa-grad .3": ["--view", "idaa-grad", "--eps", ".3"],
    "idaa-grad .5": ["--view", "idaa-grad", "--eps", ".5"],
}


def stepper(config: Config, x: torch.Tensor) -> Callable[[], Any]:
    """Steps of training of one arm on one batch, uint8."""
    torch.manual_seed(config.seed)
    model = Model(config, x.shape[2]).to(config.device).to(memory_format=torch.channels_last)
    attack, augment, optimiser = (
        make_attack(config, model),
        augmentations(config, x.shape[2:]),
        make_optimiser(config, model),
    )
    images, eps = x.float() / 255, config.clae_eps if config.view == "clae" else config.eps
    return lambda: update(model, attack, augment, optimiser, images, eps)


def costs(rung: str, repeats: int = 15) -> dict[str, Any]:
    """Seconds of a step of every arm: medians, all arms in each round, in random order; the processor's time where
    there is no GPU, since other work may share it."""
    configs = {arm: configure([*RUNGS[rung][0], *options]) for arm, options in ARMS.items()}
    first = next(iter(configs.values()))
    if first.threads:
        torch.set_num_threads(first.threads)
    x = load_data(first).train[: first.batch_size]
    arms = {arm: stepper(config, x) for arm, config in configs.items()}
    times: dict[str, list[float]] = {arm: [] for arm in arms}
    gpu = x.device.type == "cuda"
    for turn in range(repeats + 3):  # three to warm up
        for arm in random.Random(turn).sample(list(arms), len(arms)):
            if gpu:
                torch.cuda.synchronize()
            started = time.perf_counter() if gpu else time.process_time()
            arms[arm]()
            if gpu:
                torch.cuda.synchronize()
            took = (time.perf_counter() if gpu else time.process_time()) - started
            if turn >= 3:
                times[arm].append(took)
    return {"run": provenance(), "seconds": {arm: statistics.median(values) for arm, values in times.items()}}


def known_costs(rung: str, folder: Path) -> dict[str, float]:
    """Seconds of a step of every arm, from the file of this rung or measured now."""
    file = folder / f"costs-{rung}.json"
    if not file.exists() or json.loads(file.read_text())["seconds"].keys() != ARMS.keys():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(costs(rung), indent=1) + "\n")
    return json.loads(file.read_text())["seconds"]


def cells(rung: str, arms: list[str], seeds: list[int], folder: Path) -> list[list[str]]:
    """Arguments of train.py for each arm of a rung, one whole seed before the next."""
    seconds, (options, budget) = known_costs(rung, folder), RUNGS[rung]
    rows = []
    for seed in seeds:
        for arm in arms:
            epochs = f"{budget * seconds['none'] / seconds[arm]:.2f}"
            out = f"runs/board/{rung}--{arm.replace(' ', '-')}--s{seed}"
            rows.append([*options, *ARMS[arm], "--epochs", epochs, "--seed", str(seed), "--out", out])
    return rows
