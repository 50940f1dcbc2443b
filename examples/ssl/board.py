"""The board: what a view brings for the time that it takes. docs/board.md has the protocol.

    python examples/ssl/run_table.py --board cifar10-weak --seeds 30 --cells none third "idaa-grad .2"

A budget is the time of so many epochs of plain two-view training. Each method's step is timed first, all in one
process, interleaved; then each gets as many epochs, the last one in part, as its budget pays for.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from config import Config, configure
from step import augmentations, make_attack, update
from train import load_data, make_model, make_optimiser

from benchmarks import estimate
from examples.shared.table import markdown, seconds
from idaa_transforms._util.files import write_whole
from idaa_transforms._util.provenance import provenance

SMALL = ["--scale", "small", "--weights", "cifar10-vae-small", "--no-bf16"]
WEAK = ["--crop", ".4", "--jitter", ".4", ".4", ".4", ".1"]  # half the paper's jitter


class Setting(NamedTuple):
    """Data and random augmentation, as options of train.py, and the budget in epochs of plain training."""

    title: str
    options: list[str]
    budget: float
    epochs: dict[str, float] | None = None  # of the methods that it has, where they do not follow from measured costs
    costs: str = "32"  # which file has them: a step at 32 pixels costs the same in all settings of the small network


SETTINGS = {
    "cifar10-paper-resnet18": Setting(  # on a GPU; 88 epochs of `none` compute a little more than 48 of IDAA
        "CIFAR-10, the paper's SimCLR",
        ["--scale", "paper", "--weights", "cifar10-vae"],
        48,
        {"none": 48, "third": 48, "latent .1": 48, "third view .1": 48, "none as long": 88},
    ),
    "cifar10-weak": Setting("CIFAR-10, weak augmentation", [*SMALL, *WEAK], 6),
    "cifar10-paper": Setting("CIFAR-10, the paper's augmentation", SMALL, 6),
    "cifar100-weak": Setting("CIFAR-100, weak augmentation", [*SMALL, *WEAK, "--data", "cifar100"], 6),
    "cifar100-paper": Setting("CIFAR-100, the paper's augmentation", [*SMALL, "--data", "cifar100"], 6),
    "tiny-imagenet-weak": Setting(
        "Tiny ImageNet (50 classes), weak augmentation", [*SMALL, *WEAK, "--data", "tiny-imagenet"], 3, costs="64"
    ),
    "cifar10-weak-long": Setting("CIFAR-10, weak augmentation, four times as long", [*SMALL, *WEAK], 24),
    "smoke": Setting(
        "smoke test", ["--scale", "smoke", "--weights", "cifar10-vae-small", "--crop", ".4"], 2, costs="smoke"
    ),
}
GRAD = ["--view", "idaa-grad"]
BOTH = [*GRAD, "--pair", "both", "--no-dual-bn", "--coarse"]
NONE = ["--view", "none"]
FREE = ("--temperature", "--alpha")
METHODS: dict[str, list[str]] = {
    "untrained": NONE,
    "none": NONE,
    "none as long": NONE,
    **{f"none T {t}": [*NONE, "--temperature", t] for t in (".1", ".2", ".5")},
    "third": ["--view", "third"],
    "same-crop": ["--view", "same-crop"],
    **{f"latent {eps}": ["--view", "latent", "--eps", eps] for eps in (".1", ".2", ".3")},
    **{f"mixup {most}": [*NONE, "--mixup", most] for most in (".2", ".4", ".6")},
    **{f"quantize {bins}": [*NONE, "--quantize", bins] for bins in ("8", "16")},
    # As many epochs as two random views get, so for a longer time.
    "third for 6 epochs": ["--view", "third"],
    "third view .2 for 6 epochs": [*GRAD, "--eps", ".2"],
    **{f"clae {eps}": ["--view", "clae-grad", "--clae-eps", eps] for eps in (".003", ".006", ".012")},
    **{f"third view {eps}": [*GRAD, "--eps", eps] for eps in (".1", ".2", ".3")},
    **{f"both views {eps}": [*BOTH, "--eps", eps] for eps in (".1", ".2")},
    **{f"third view {eps} on quantize 16": [*GRAD, "--eps", eps, "--quantize", "16"] for eps in (".1", ".2")},
    **{f"third view {eps} on mixup .2": [*GRAD, "--eps", eps, "--mixup", ".2"] for eps in (".1", ".2")},
    **{f"both views {eps} on quantize 16": [*BOTH, "--eps", eps, "--quantize", "16"] for eps in (".1", ".2")},
    # The choice of weights.
    **{
        f"third view {eps} {weights}": [*GRAD, "--eps", eps, "--weights", weights]
        for weights in ("cifar10-vae", "natural-vae")
        for eps in (".05", ".1", ".2")
    },
    # Other forms of the third view.
    "third view .2 alpha .5": [*GRAD, "--eps", ".2", "--alpha", ".5"],
    **{f"both views {eps} on mixup .2": [*BOTH, "--eps", eps, "--mixup", ".2"] for eps in (".1", ".2")},
}
# The start of a name in words; the rest is a number.
WORDS = {
    "none": "two random views, longer",
    "third view": "IDAA as a third view, eps",
    "third": "third random view",
    "same-crop": "same crop, other colours",
    "latent": "random latent step, eps",
    "mixup": "mixup noise",
    "quantize": "random quantization",
    "clae": "CLAE, eps",
    "both views": "IDAA on both views, eps",
}
# The columns and rows of README's table.
BRIEFLY = {"cifar10-weak": "short", "cifar10-weak-long": "four times as long", "cifar10-paper": "paper's augmentation"}
SHORT = {
    "untrained": "an untrained network",
    "none": "two random views, trained longer",
    "third": "a third random view",
    "mixup .2": "two random views with mixup noise, the best free augmentation",
    "third view .2": "IDAA as a third view",
    "both views .2": "IDAA on both views",
    "third for 6 epochs": "a third random view, for as many epochs as two",
    "third view .2 for 6 epochs": "IDAA as a third view, for as many epochs as two",
}


def in_words(method: str) -> str:
    """The name of a method for a figure."""
    parts = []
    for part in method.split(" on "):
        start = next(start for start in WORDS if part.startswith(start))
        parts.append(f"{WORDS[start]}{part.removeprefix(start)}")
    return ", on ".join(parts)


def stepper(config: Config, x: torch.Tensor) -> Callable[[], Any]:
    """Steps of training of one method on one batch."""
    torch.manual_seed(config.seed)
    model = make_model(config, x)
    attack, augment = make_attack(config, model), augmentations(config, x.shape[1:], model.std)
    optimiser = make_optimiser(config, model)
    images = x.float() / (1 if config.signals else 255)
    return lambda: update(model, attack, augment, optimiser, images)


def costs(setting: str, methods: list[str], repeats: int = 9) -> dict[str, float]:
    """Seconds of a step of each method: medians, all methods in each round, in random order; the processor's time where
    there is no GPU, since other work may share it."""
    configs = {name: configure([*SETTINGS[setting].options, *METHODS[name], "--no-matched"]) for name in methods}
    first = configs[methods[0]]
    if first.threads:
        torch.set_num_threads(first.threads)
    x = load_data(first).train[: first.batch_size]
    gpu, warm_up = x.device.type == "cuda", 2
    clock, wait = (time.perf_counter, torch.cuda.synchronize) if gpu else (time.process_time, lambda: None)
    steppers = {name: stepper(config, x) for name, config in configs.items()}
    times: dict[str, list[float]] = {name: [] for name in methods}
    for turn in range(warm_up + repeats):
        for name in random.Random(turn).sample(methods, len(methods)):
            wait()
            started = clock()
            steppers[name]()
            wait()
            times[name].append(clock() - started)
    return {name: statistics.median(took[warm_up:]) for name, took in times.items()}


def kind(method: str) -> str:
    """What a method costs by: its options without their numbers, and without those that cost nothing."""
    return " ".join(w for w in METHODS[method] if w not in FREE and not w.strip("-").replace(".", "").isdigit())


def known_costs(setting: str, methods: list[str], folder: Path) -> dict[str, float]:
    """What a step of each of ``methods`` costs, of `none` 1, from the setting's file of costs. Kinds that are missing
    there are measured now, in one process with `none`."""
    file = folder / f"costs-{SETTINGS[setting].costs}.json"
    known = json.loads(file.read_text()) if file.exists() else {"measured": [], "costs": {}}
    missing = {kind(name): name for name in methods if kind(name) not in known["costs"]}
    if missing:
        names = list(({kind("none"): "none"} | missing).values())
        took = costs(setting, names)
        plain = took[names[0]]
        known["measured"].append(provenance() | {"load": os.getloadavg()[0], "seconds of none": plain})
        known["costs"] |= {kind(name): round(took[name] / plain, 3) for name in names}
        write_whole(file, json.dumps(known, indent=1) + "\n")
    return {name: known["costs"][kind(name)] for name in methods}


def epochs_of(setting: str, methods: list[str], rest: list[str], folder: Path) -> dict[str, float]:
    """For how many epochs each of ``methods`` is trained."""
    budget, epochs = SETTINGS[setting].budget, SETTINGS[setting].epochs
    if epochs:
        return {name: epochs.get(name, budget) / (24 if "smoke" in rest else 1) for name in methods}
    costs = known_costs(setting, methods, folder)
    return {name: budget if " for " in name else budget / cost for name, cost in costs.items()}


def cells(setting: str, epochs: dict[str, float], seeds: list[int], rest: list[str]) -> list[list[str]]:
    """Arguments of train.py for each method in a setting, and the ``rest`` of all, one whole seed before the next."""
    rows = []
    for seed in seeds:
        for name, many in epochs.items():
            said = "0" if name == "untrained" else f"{many:.2f}"
            out = f"runs/board/{setting}--{name.replace(' ', '-')}--s{seed}"
            options = [*SETTINGS[setting].options, *METHODS[name], *rest]
            rows.append([*options, "--epochs", said, "--seed", str(seed), "--out", out])
    return rows


def counted(setting: str, methods: list[str], rest: list[str]) -> tuple[dict[str, float], int]:
    """Operations of a step of each method, in 1e12, counted in a step on four images, and how many images there are."""
    configs = {name: configure([*SETTINGS[setting].options, *METHODS[name], *rest]) for name in methods}
    images = load_data(configs[methods[0]]).train
    work: dict[str, float] = {}
    for name, config in configs.items():
        if kind(name) not in work:
            with estimate.Counted() as done:
                stepper(config, images[:4])()
            work[kind(name)] = done.flops * config.batch_size / 4 / 1e12
    return {name: work[kind(name)] for name in methods}, len(images)


def planned(setting: str, methods: list[str], seeds: list[int], rest: list[str], rate: float, parallel: int) -> str:
    """What each cell computes, and how long that takes where ``parallel`` cells share ``rate`` TFLOP/s. Epochs that
    follow from costs follow here from what is counted."""
    work, many = counted(setting, ["none", *methods], rest)
    budget = SETTINGS[setting].budget
    epochs = SETTINGS[setting].epochs or {name: budget * work["none"] / work[name] for name in methods}
    lines, total = [], 0.0
    grid = cells(setting, {name: epochs.get(name, budget) for name in methods}, seeds, rest)
    for name, config in zip(methods * len(seeds), map(configure, grid), strict=True):
        each = work[name]
        steps = round(config.epochs * (many // config.batch_size))
        minutes, total = steps * each / (rate / parallel) / 60, total + steps * each
        lines.append([Path(config.out).name, str(steps), f"{each:.3g}", f"{steps * each:.3g}", f"{minutes:.3g}"])
    header = ["cell", "steps", "TFLOP a step", "TFLOP", f"minutes at {rate:g} / {parallel} TFLOP/s"]
    return f"{markdown(header, lines)}\n\nAll of it: {total / rate / 60:.3g} minutes at {rate:g} TFLOP/s."


def kept(result: dict[str, Any]) -> dict[str, Any]:
    """What a result of the board keeps; its command says all settings, and ``images`` whether they were compressed."""
    last = result["log"][-1] if result["log"] else {}
    losses = {name: round(last[name], 3) for name in ("loss", "extra_loss") if name in last}
    metrics = {name: round(value, 4) for name, value in result["metrics"].items()}
    return {
        "run": result["run"],
        "images": result["images"],
        "epochs": result["config"]["epochs"],
        "seconds": round(seconds(result)),
        **losses,
        "metrics": metrics,
    }
