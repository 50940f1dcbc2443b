"""All that can be set, in one flat list. Each value is an option: --lr 0.01, --no-bf16, --sizes 640 800."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from examples.shared.options import command_line, run_name
from idaa_transforms._util.precision import use_bfloat16


@dataclass
class Config:
    """What decides a run. The defaults are COCO's usual recipe; the recipe of C4 goes before them, then the scale, then
    the command line."""

    data: str = "coco"  # a COCO folder <root>/<data>, or any folder
    backbone: str = "resnet50"  # a run of examples/ssl or examples/semi, its checkpoint, or a ResNet of timm
    scratch: bool = False  # of the backbone only the shape: its weights are drawn anew
    scale: Literal["paper", "small", "smoke"] = "paper"
    seed: int = 0
    out: str = ""  # folder of the run; default: runs/detection/ and a name
    root: str = "data"

    # network
    model: Literal["mask", "faster"] = "mask"  # Mask R-CNN: boxes and masks; Faster R-CNN: boxes alone
    neck: Literal["fpn", "c4"] = "fpn"
    norm: Literal["batch", "frozen"] = "batch"  # batch: trained, over all processes, and in new layers too
    freeze: int = 0  # so many of the stem and the four stages are not trained
    width: int = 256  # channels of the FPN and of the mask head
    head: int = 1024  # width of the box head on an FPN
    anchor: float = 8  # side of the middle anchor of a level, in strides
    proposals: int = 2000  # of each level in training, half as many in a test
    rois: int = 512  # of them that the box head learns from, for each image
    detections: int = 100  # for each image, at most; COCO's maxDets

    # images
    sizes: tuple[int, ...] = (640, 672, 704, 736, 768, 800)  # of the short side in training; one is drawn
    test_size: int = 800
    longest: int = 1333  # of the long side
    crop: int = 0  # then a random square of so many pixels; 0: none
    train_images: int = 0  # the first so many that have something to find; 0: all
    test_images: int = 0
    test: Literal["val", "train"] = "val"  # what is evaluated; train: the very images that are trained on

    # schedule and optimiser
    schedule: Literal["1x", "2x"] = "1x"  # 2x: twice the iterations
    iterations: int = 90_000  # of 1x; the learning rate falls to a tenth after 2/3 and again after 8/9
    batch_size: int = 16  # images of a step, over all processes
    pass_size: int = 2  # images of one forward pass, which share batch norms and the means of losses
    optimiser: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.02
    weight_decay: float = 1e-4
    warmup: int = 1000  # iterations, linear
    every: int = 5000  # iterations between checkpoints, each a row of log.csv

    # the machine
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    threads: int = 0  # of a CPU; 0: torch's choice
    workers: int = 0  # processes that read images
    bf16: bool | None = None  # autocast the convolutions; not said: where the device has it
    stop_after: int = 0  # rows of log.csv; ends early without changing the schedule

    def __post_init__(self) -> None:
        self.sizes = tuple(self.sizes)
        self.bf16 = use_bfloat16(self.bf16, self.device)

    @property
    def masks(self) -> bool:
        """Whether there are masks to find, beside boxes."""
        return self.model == "mask"

    @property
    def total(self) -> int:
        """Iterations of the whole run."""
        return self.iterations * int(self.schedule[0])

    @property
    def folder(self) -> Path:
        """Of the data."""
        inside = Path(self.root) / self.data
        return inside if inside.is_dir() else Path(self.data)


# What decides nothing but where and how fast.
PLACE = ("out", "root", "device", "threads", "workers", "stop_after")
C4 = {"sizes": tuple(range(480, 801, 32)), "proposals": 12_000}  # as MoCo and SimSiam have it
SMALL: dict[str, Any] = {  # a narrow network on crops of small pictures: minutes on one core
    "data": "nuclei",
    "width": 64,
    "head": 256,
    "anchor": 4,
    "proposals": 300,
    "rois": 64,
    "detections": 300,
    "sizes": (256,),
    "test_size": 256,
    "longest": 600,
    "crop": 128,
    "iterations": 270,
    "batch_size": 8,
    "pass_size": 8,
    "optimiser": "adamw",
    "lr": 1e-3,
    "weight_decay": 1e-2,
    "warmup": 45,
    "every": 45,
    "threads": 1,
}
SMOKE = SMALL | {"width": 16, "head": 32, "crop": 0, "sizes": (64,), "test_size": 64, "iterations": 4, "batch_size": 2}
SMOKE |= {"pass_size": 1, "every": 2, "warmup": 1, "proposals": 100, "rois": 32, "detections": 20}
SMOKE |= {"bf16": False, "device": "cpu"}
SCALES: dict[str, dict[str, Any]] = {"paper": {}, "small": SMALL, "smoke": SMOKE}


def configure(arguments: list[str] | None = None, about: str | None = None) -> Config:
    """From the command line: defaults, the recipe of C4, the scale, then what was said."""
    parser = command_line(Config, about)
    said = vars(parser.parse_args(arguments))
    recipe = C4 if said.get("neck") == "c4" else {}
    config = Config(**recipe | SCALES[said.get("scale", Config.scale)] | said)
    config.out = config.out or f"runs/detection/{name_of(config, said)}"
    if config.batch_size % config.pass_size:
        parser.error(f"--batch-size {config.batch_size} is no multiple of --pass-size {config.pass_size}")
    if config.scratch and config.norm == "frozen":
        parser.error("--norm frozen keeps statistics that --scratch does not have; leave one of them out")
    if config.test == "train" and config.test_images:
        parser.error("--test train evaluates the images that --train-images chooses; leave --test-images out")
    return config


def name_of(config: Config, said: dict[str, Any]) -> str:
    """A name for the folder: the axes of the grid, then what else was said on the command line."""
    start = "scratch" if config.scratch else Path(config.backbone).name
    axes = [config.model, config.neck, start, Path(config.data).name, config.scale, f"s{config.seed}"]
    grid = ("model", "neck", "backbone", "scratch", "data", "scale", "seed", *PLACE)
    return run_name(axes, said, grid)
