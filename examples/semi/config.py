"""All that can be set, in one flat list. Each value is an option: --eps 0.3, --labels 400, --no-dual-bn."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import torch

from examples.shared.options import command_line, run_name
from examples.shared.views import WEIGHTS
from idaa_transforms._util.precision import use_bfloat16


@dataclass
class Config:
    """What decides a run: these defaults, then the scale, then the command line."""

    scale: Literal["paper", "small", "smoke"] = "paper"
    seed: int = 0
    out: str = ""  # folder of the run; default: runs/semi/ and a name

    # the view beside FixMatch's weak and strong ones
    view: Literal["none", "third", "clae", "idaa", "idaa-grad"] = "idaa"  # see README.md
    alpha: float = 1.0  # weight of its contrastive term
    temperature: float = 0.5
    dual_bn: bool = True  # batch norms of its own, also where it is random: a control differs in the view only
    eps: float = 0.1  # of idaa, in the latent
    clae_eps: float = 0.006  # of clae, in [0, 1]: about .03 of the paper's normalised pixels
    weights: str = "cifar10-vae"  # name or folder of the VAE; for other data the default is what is shipped for them

    # data
    data: str = "cifar100"  # a file <root>/<data>.npz, any .npz, a folder of class folders, or "sample": 64 images
    root: str = "data"
    image_size: int = 0  # 0: as they are
    train_images: int = 0  # the first so many; 0: all
    test_images: int = 0
    labels: int = 400  # in all, the same number for each class, drawn by the seed
    split: str = ""  # a split.json to take the labelled images from instead

    # FixMatch
    tau: float = 0.95  # the confidence that makes a prediction a label
    mu: int = 7  # unlabelled images for each labelled one
    ema: float = 0.999
    backbone: str = "wrn-28-8"
    backbone_options: dict[str, Any] = field(default_factory=lambda: {"momentum": 0.001})  # JSON
    batch_size: int = 64  # labelled images, over all processes
    lr: float = 0.03
    weight_decay: float = 1e-3
    steps: int = 2**20
    every: int = 1024  # steps between two tests and checkpoints; here called an epoch

    # the machine
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    threads: int = 0  # of a CPU; 0: torch's choice
    bf16: bool | None = None  # autocast the network, VAE in bfloat16; not said: where the device has it
    stop_after: int = 0  # epochs; ends early without changing the schedule

    def __post_init__(self) -> None:
        self.bf16 = use_bfloat16(self.bf16, self.device)


VIEWS = get_args(get_type_hints(Config)["view"])
# What decides nothing but where and how fast.
PLACE = ("out", "root", "device", "threads", "stop_after")
AXES = ("view", "data", "labels", "scale", "seed")
SCALES: dict[str, dict[str, Any]] = {
    "paper": {},
    "small": {  # a narrow network on a fifth of CIFAR-10: minutes a run on one core
        "data": "cifar10",
        "weights": "cifar10-vae-small",
        "backbone": "wrn-10-1",
        "backbone_options": {"momentum": 0.05},
        "train_images": 10_000,
        "batch_size": 32,
        "mu": 3,
        "tau": 0.8,  # in so few steps it is hardly ever as sure as .95
        "ema": 0.98,
        "lr": 0.06,
        "weight_decay": 5e-4,
        "steps": 1000,
        "every": 100,
        "threads": 1,
    },
    "smoke": {  # a toy on the images of the package: seconds, and to the bit, so on the CPU
        "data": "sample",
        "weights": "cifar10-vae-small",
        "backbone": "wrn-10-1",
        "backbone_options": {"channels": 8},
        "labels": 20,
        "tau": 0.11,
        "mu": 2,
        "ema": 0.5,
        "batch_size": 8,
        "steps": 6,
        "every": 3,
        "bf16": False,
        "device": "cpu",
        "threads": 1,
    },
}


def configure(arguments: list[str] | None = None, about: str | None = None) -> Config:
    """From the command line: defaults, the scale, then what was said."""
    parser = command_line(Config, about)
    said = vars(parser.parse_args(arguments))
    scale = SCALES[said.get("scale", Config.scale)]
    config = Config(**scale | said)
    if "weights" not in said and config.data != scale.get("data", Config.data):
        config.weights = WEIGHTS.get(config.data, "")
    axes = [config.view, Path(config.data).stem, f"{config.labels}labels", config.scale, f"s{config.seed}"]
    config.out = config.out or f"runs/semi/{run_name(axes, said, (*AXES, *PLACE))}"
    if config.view in ("idaa", "idaa-grad") and not config.weights:
        parser.error(f"no VAE is shipped for {config.data!r}: train one (idaa train-vae) and say --weights FOLDER")
    for name in ("labels", "mu", "batch_size", "steps", "every"):
        if getattr(config, name) < 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(config, name)} is not at least 1")
    return config
