"""All that can be set, in one flat list. Each value is an option: --eps 0.3, --no-dual-bn, --jitter .4 .4 .4 .1."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from methods import IMAGENET, methods_of

from idaa_transforms._util.precision import use_bfloat16

sys.path.insert(0, str(Path(__file__).parents[2]))  # where examples.shared is found, wherever this is run
from examples.shared.options import command_line, run_name
from examples.shared.views import NATURAL, WEIGHTS, View


@dataclass
class Config:
    """What decides a run. The method's recipe (methods/*.py) goes before these defaults, then the scale, then the
    command line."""

    method: Literal["plain", "uel", "simclr", "simsiam", "moco"] = "simclr"
    scale: Literal["paper", "small", "smoke", "imagenet"] = "paper"
    seed: int = 0
    out: str = ""  # folder of the run; default: runs/ssl/ and a name

    # the view beside the two random ones
    view: View = "idaa"  # see README.md
    pair: Literal["add", "replace", "both"] = "add"  # loss(x1, x2) + alpha * loss(x1, x'), loss(x', x2), loss(x1', x2')
    coarse: bool = False  # with --pair both: the gradient for the step at half the resolution
    alpha: float = 1.0
    matched: bool = True  # latent: as long in the pixels as the adversarial step; its cost is measured without
    temperature: float = 0.0  # of the loss, for methods that have one; 0: their own
    dual_bn: bool = True  # statistics of their own for x', also where it is random: a control differs in the view only
    eps: float = 0.1  # of idaa, in the latent
    clae_eps: float = 0.006  # of clae and clae-grad, in [0, 1]: about .03 of the paper's normalised pixels
    weights: str = "cifar10-vae"  # name or folder of the VAE; for other data the default is what is shipped for them

    # data and augmentation
    data: str = "cifar10"  # <root>/<data>.npz, any .npz, a folder of class folders, org/name of the Hub, or "sample"
    root: str = "data"
    stream: bool = False  # pictures are read as they are needed: see large.py
    signals: bool = False  # data are an .npz of x_train (N, C, L), in units of their own
    image_size: int = 0  # 0: as they are
    train_images: int = 0  # so many, evenly spaced; 0: all
    test_images: int = 0
    crop: float = 0.08  # smallest share of the area, or of the length of a signal; 1: no crops
    flip: bool = True
    jitter: tuple[float, ...] = (0.8, 0.8, 0.8, 0.2)  # brightness, contrast, saturation, hue
    jitter_p: float = 0.8
    gray: float = 0.2
    blur: float = 0.0  # share of images that get a Gaussian blur
    mixup: float = 0.0  # after all that, on every random view: largest share of another image
    quantize: int = 0  # random bins of each channel

    # network and optimiser
    backbone: str = "resnet18"  # of timm, with a 3x3 stem for images of up to 64 pixels
    backbone_options: dict[str, Any] = field(default_factory=dict)  # JSON; of timm.create_model
    maxpool: bool = False
    optimiser: Literal["adam", "sgd", "lars"] = "adam"
    lr: float = 3e-4  # of --recipe imagenet: for a batch of 256; its default grows with the batch
    weight_decay: float = 0.0
    batch_size: int = 256  # over all processes
    epochs: float = 300
    schedule: Literal["cosine", "steps"] = "cosine"  # steps: times .1, .05, .01 after 120, 160, 200 epochs of 301
    warmup_epochs: int = 0  # linear, then
    flat_epochs: int = 0  # constant until this epoch, then the schedule

    # measuring
    sigma: float = 0.5  # of the weighted kNN
    probe_epochs: int = 90  # of the linear classifier, with --stream
    probe_batch: int = 4096
    probe_lr: float = 0.1  # for a batch of 256

    # the machine
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    threads: int = 0  # of a CPU; 0: torch's choice
    bf16: bool | None = None  # autocast the backbone, VAE in bfloat16; not said: where the device has it
    compile: bool = False
    stop_after: int = 0  # epochs; ends early without changing the schedule
    workers: int = 4  # with --stream, and so are these: processes that decode, for each process that trains
    every: int = 500  # steps between checkpoints, which are rows of the log too
    patience: float = 600  # seconds that a batch, or another process, may keep this one waiting

    def __post_init__(self) -> None:
        self.bf16 = use_bfloat16(self.bf16, self.device)

    @property
    def crops(self) -> int:
        """How many random crops of each image a step draws."""
        return 3 if self.view == "third" else 2


OF_VAE = ("latent", "idaa", "idaa-grad")  # views that need one
BY_GRADIENT = ("clae-grad", "idaa-grad")  # by the step's own gradient
# What decides nothing but where and how fast.
PLACE = ("out", "root", "device", "threads", "compile", "stop_after", "workers", "every", "patience")
ADAM = {"optimiser": "adam", "lr": 1e-3, "weight_decay": 0.0, "schedule": "cosine", "warmup_epochs": 0}
SCALES: dict[str, dict[str, Any]] = {
    "paper": {},
    "small": {  # a small network on a fifth of CIFAR-10: minutes a run on one core
        **ADAM,
        "backbone": "resnet10t",
        "backbone_options": {"channels": [32, 64, 128, 256], "stem_width": 16},
        "maxpool": True,
        "train_images": 10_000,
        "batch_size": 128,
        "epochs": 6,
        "flat_epochs": 1,
        "threads": 1,
    },
    "imagenet": {  # ResNet-50 at 224; the rest is in methods/imagenet.py
        "stream": True,
        "backbone": "resnet50",
        "maxpool": True,
        "image_size": 224,
        "batch_size": 256,
        "blur": 0.5,
        "weights": NATURAL,
    },
    "smoke": {  # a toy on the images of the package: seconds, and to the bit, so on the CPU
        **ADAM,
        "backbone": "resnet10t",
        "backbone_options": {"channels": [8, 8, 8, 8], "stem_width": 4},
        "maxpool": True,
        "data": "sample",
        "batch_size": 16,
        "epochs": 1,
        "flat_epochs": 0,
        "bf16": False,
        "device": "cpu",
        "threads": 1,
    },
}


def configure(arguments: list[str] | None = None, about: str | None = None) -> Config:
    """From the command line: defaults, the method's recipe, the scale, then what was said."""
    parser = command_line(Config, about)
    parser.add_argument("--recipe", dest="scale", choices=SCALES, default=argparse.SUPPRESS, help="the same as --scale")
    said = vars(parser.parse_args(arguments))
    method, scale = said.get("method", Config.method), said.get("scale", Config.scale)
    if scale == "imagenet" and method not in IMAGENET:
        parser.error(f"--recipe imagenet is for --method {' and '.join(IMAGENET)}, not {method}")
    config = Config(**methods_of(scale)[method].recipe | SCALES[scale] | said)
    if scale == "imagenet" and "lr" not in said:
        config.lr *= config.batch_size / 256
    config.jitter = tuple(config.jitter)
    if "weights" not in said and not config.stream and config.data not in ("cifar10", "sample"):
        config.weights = WEIGHTS.get(config.data, "")
    axes = (config.method, config.view, Path(config.data).stem, config.scale, f"s{config.seed}")
    config.out = config.out or f"runs/ssl/{run_name(axes, said, ('method', 'view', 'data', 'scale', 'seed', *PLACE))}"
    for option, views in (
        (config.pair == "replace" and "--pair replace", ("idaa", "clae")),
        (config.pair == "both" and "--pair both", ("idaa-grad",)),
    ):
        if option and config.view not in views:
            parser.error(f"{option} is for --view {' and '.join(views)}, not {config.view}")
    if config.pair == "both" and config.dual_bn:
        parser.error("with --pair both no view is left for the clean batch norms; add --no-dual-bn")
    if config.stream and not config.image_size:
        parser.error("with --stream pictures have any size; add --image-size")
    if config.stream and config.view == "same-crop":
        parser.error("--view same-crop is not for --stream")
    if config.view in OF_VAE and not config.weights:
        parser.error(f"no VAE is shipped for {config.data!r}: train one (idaa train-vae) and say --weights FOLDER")
    return config
