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
from step import augmentations, make_attack, update
from train import load_data, make_model, make_optimiser

from idaa_transforms._util.provenance import provenance

CROPS = ["--crop", ".4", "--jitter", "0", "0", "0", "0", "--gray", "0"]
BARE = ["--crop", "1", "--no-flip", *CROPS[2:]]
OTHER = ["--crop", ".6", "--no-flip", *CROPS[2:]]  # where it is not known that a mirrored one is the same
SMALL = ["--scale", "small", "--weights", "cifar10-vae-small", "--knn-every", "9"]
LARGE = ["--scale", "paper", "--batch-size", "512", "--lr", "1e-3", "--flat-epochs", "3", "--knn-every", "99"]  # a GPU
# A rung: data and random augmentation, and the budget in epochs of plain training.
RUNGS: dict[str, tuple[list[str], float]] = {
    "cifar10-crops": ([*SMALL, *CROPS], 3),
    "cifar10-bare": ([*SMALL, *BARE], 3),
    "cifar10-weak": ([*SMALL, "--crop", ".4", "--jitter", ".4", ".4", ".4", ".1"], 3),
    "cifar10-paper": (SMALL, 3),
    "eurosat-crops": ([*SMALL, *CROPS, "--data", "eurosat", "--image-size", "32"], 6),
    "cifar100-crops": ([*SMALL, *CROPS, "--data", "cifar100"], 3),
    "dtd10-crops": ([*SMALL, *CROPS, "--data", "dtd10", "--image-size", "32"], 30),
    "clothing-crops": ([*SMALL, *CROPS, "--data", "clothing128", "--image-size", "32"], 10),
    "fsdd-crops": ([*SMALL, *OTHER, "--data", "fsdd", "--image-size", "32", "--weights", "runs/vae/fsdd"], 12),
    "watch-crops": ([*SMALL, *OTHER, "--data", "watch", "--signals", "--weights", "runs/vae/watch"], 12),
    "cifar10-crops-long": ([*SMALL, *CROPS], 12),
    "cifar10-crops-resnet18": ([*LARGE, *CROPS], 25),
    "smoke": (["--scale", "smoke", "--weights", "cifar10-vae-small", "--crop", ".4"], 2),
}
LADDER = ("cifar10-bare", "cifar10-crops", "cifar10-weak", "cifar10-paper")  # ever stronger random augmentation
PLACE = ["--view", "idaa-grad", "--pair", "replace"]
BOTH = ["--view", "idaa-grad", "--pair", "both", "--no-dual-bn"]
ARMS: dict[str, list[str]] = {
    "none": ["--view", "none"],
    "third": ["--view", "third"],
    "small": ["--view", "small"],
    "hvp": ["--view", "hvp"],
    "clae": ["--view", "clae"],
    "mixup .6": ["--view", "none", "--mixup", ".6"],
    "mixup .9": ["--view", "none", "--mixup", ".9"],
    "noise .1": ["--view", "none", "--noise", ".1"],
    "quantize 8": ["--view", "none", "--quantize", "8"],
    "latent .1": ["--view", "latent", "--eps", ".1"],
    "latent .2": ["--view", "latent", "--eps", ".2"],
    "latent .5": ["--view", "latent", "--eps", ".5"],
    "idaa-grad .2": ["--view", "idaa-grad", "--eps", ".2"],
    "idaa-grad .5": ["--view", "idaa-grad", "--eps", ".5"],
    "idaa-grad .8": ["--view", "idaa-grad", "--eps", ".8"],
    "idaa-grad .2 quantize 8": ["--view", "idaa-grad", "--eps", ".2", "--quantize", "8"],
    "idaa-grad .5 quantize 8": ["--view", "idaa-grad", "--eps", ".5", "--quantize", "8"],
    "in place .5": [*PLACE, "--eps", ".5"],
    "in place .5 coarse": [*PLACE, "--eps", ".5", "--coarse"],
    "in place 1 coarse": [*PLACE, "--eps", "1", "--coarse"],
    "in place .5 coarse quantize 8": [*PLACE, "--eps", ".5", "--coarse", "--quantize", "8"],
    "both .1 coarse": [*BOTH, "--eps", ".1", "--coarse"],
    "both .2 coarse": [*BOTH, "--eps", ".2", "--coarse"],
    "both .5 coarse": [*BOTH, "--eps", ".5", "--coarse"],
    "both .8 coarse": [*BOTH, "--eps", ".8", "--coarse"],
    "both .2 coarse quantize 8": [*BOTH, "--eps", ".2", "--coarse", "--quantize", "8"],
    "both .5 coarse quantize 8": [*BOTH, "--eps", ".5", "--coarse", "--quantize", "8"],
    "both .5 coarse mixup .6": [*BOTH, "--eps", ".5", "--coarse", "--mixup", ".6"],
    "idaa-grad .5 mixup .6": ["--view", "idaa-grad", "--eps", ".5", "--mixup", ".6"],
}


def stepper(config: Config, x: torch.Tensor) -> Callable[[], Any]:
    """Steps of training of one arm on one batch."""
    torch.manual_seed(config.seed)
    model = make_model(config, x)
    attack, augment = make_attack(config, model), augmentations(config, x.shape[1:], model.std)
    optimiser = make_optimiser(config, model)
    images, eps = x.float() / (1 if config.signals else 255), config.clae_eps if config.view == "clae" else config.eps
    return lambda: update(model, attack, augment, optimiser, images, eps)


def costs(rung: str, arms: list[str], repeats: int = 9) -> dict[str, Any]:
    """Seconds of a step of each arm: medians, all arms in each round, in random order; the processor's time where there
    is no GPU, since other work may share it."""
    configs = {arm: configure([*RUNGS[rung][0], *ARMS[arm]]) for arm in arms}
    first = configs[arms[0]]
    if first.threads:
        torch.set_num_threads(first.threads)
    x = load_data(first).train[: first.batch_size]
    gpu, warm_up = x.device.type == "cuda", 2
    clock, wait = (time.perf_counter, torch.cuda.synchronize) if gpu else (time.process_time, lambda: None)
    steppers = {arm: stepper(config, x) for arm, config in configs.items()}
    times: dict[str, list[float]] = {arm: [] for arm in arms}
    for turn in range(warm_up + repeats):
        for arm in random.Random(turn).sample(arms, len(arms)):
            wait()
            started = clock()
            steppers[arm]()
            wait()
            times[arm].append(clock() - started)
    return {"run": provenance(), "seconds": {arm: statistics.median(took[warm_up:]) for arm, took in times.items()}}


def kind(arm: str) -> tuple[str, ...]:
    """What an arm costs by: its options without their numbers."""
    return tuple(word for word in ARMS[arm] if not word.replace(".", "").isdigit())


def known_costs(rung: str, arms: list[str], folder: Path) -> dict[str, float]:
    """Seconds of a step of ``arms`` and of ``none``, from the file of this rung. A kind that is missing there is
    measured now, by one of its arms, beside ``none``, and counted in its time."""
    file = folder / f"costs-{rung}.json"
    known = json.loads(file.read_text()) if file.exists() else {"seconds": {}}
    wanted = [arm for arm in ARMS if arm in ("none", *arms)]
    of_kind = {kind(arm): seconds for arm, seconds in known["seconds"].items() if arm in ARMS}
    missing = {kind(arm): arm for arm in reversed(wanted) if kind(arm) not in of_kind}
    if missing:
        now = costs(rung, list(dict.fromkeys(["none", *missing.values()])))
        unit = of_kind.get(kind("none"), now["seconds"]["none"]) / now["seconds"]["none"]
        of_kind |= {of: unit * now["seconds"][arm] for of, arm in missing.items()}
        known["run"] = now["run"]
    if new := {arm: of_kind[kind(arm)] for arm in wanted if arm not in known["seconds"]}:
        known["seconds"] |= new
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(known, indent=1) + "\n")
    return known["seconds"]


def cells(rung: str, arms: list[str], seeds: list[int], folder: Path) -> list[list[str]]:
    """Arguments of train.py for each arm of a rung, one whole seed before the next."""
    seconds, (options, budget) = known_costs(rung, arms, folder), RUNGS[rung]
    rows = []
    for seed in seeds:
        for arm in arms:
            epochs = f"{budget * seconds['none'] / seconds[arm]:.2f}"
            out = f"runs/board/{rung}--{arm.replace(' ', '-')}--s{seed}"
            rows.append([*options, *ARMS[arm], "--epochs", epochs, "--seed", str(seed), "--out", out])
    return rows
