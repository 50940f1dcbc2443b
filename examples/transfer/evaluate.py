"""Transfer: frozen features of a backbone, and what a linear classifier makes of them on other data.

    python -m examples.transfer.evaluate --backbone runs/ssl/simclr-idaa-cifar10-small-s0 --sets cifar100 eurosat
    python -m examples.transfer.evaluate --backbone resnet50 --sets cifar10 dtd pets     # timm's, with its weights

A backbone is the folder or the checkpoint.pt of a run of examples/ssl or examples/semi, or a name that timm knows.
README.md says which sets there are. The folder of the run has result.json in the end.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from examples.shared.backbones import Backbone, load_backbone
from examples.shared.options import command_line
from examples.shared.runs import write_result
from idaa_transforms._util.files import write_json
from idaa_transforms._util.provenance import provenance

from . import sets
from .probe import transfer


@dataclass
class Config:
    """Everything that can be set: these defaults, then the scale, then the command line."""

    scale: Literal["paper", "small", "smoke"] = "paper"
    backbone: str = ""
    sets: tuple[str, ...] = sets.PAPERS
    root: str = "data"
    download: bool = True
    image_size: int = 0  # 0: what the backbone was trained on: its run's, 32 for CIFAR, 224 for networks of timm
    train_images: int = 0  # of each set, drawn at random; 0: all
    test_images: int = 0
    values: int = 45  # of C, from 1e-6 to 1e5
    steps: int = 1000  # of L-BFGS, at most
    pretrained: bool = True  # weights of networks of timm
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    threads: int = 0  # of a CPU; 0: torch's choice
    out: str = ""  # default: runs/transfer/ and the backbone's name


PLACE = ("backbone", "root", "download", "device", "threads", "out", "sets")
OF_RUNS = ("out", "root", "download", "device", "threads", "compile", "stop_after")  # in a backbone's config, the same
SCALES: dict[str, dict[str, Any]] = {
    "paper": {},
    "small": {"train_images": 4000, "test_images": 2000, "values": 12, "steps": 300, "threads": 1},
    "smoke": {"values": 3, "steps": 20, "device": "cpu", "threads": 1},
}


def configure(arguments: list[str] | None = None, about: str | None = None) -> Config:
    """From the command line."""
    parser = command_line(Config, about)
    said = vars(parser.parse_args(arguments))
    config = Config(**SCALES[said.get("scale", Config.scale)] | said)
    if not config.backbone:
        parser.error("say --backbone: the folder of a run, a checkpoint or a network of timm")
    config.sets = tuple(config.sets)
    path = Path(config.backbone)
    name = path.absolute().parent.name if path.is_file() else path.absolute().name
    config.out = config.out or f"runs/transfer/{name}-{config.scale}"
    return config


def own_size(backbone: Backbone) -> int:
    """Height and width of the images that a backbone was trained on."""
    if not backbone.config:
        return 224
    if size := backbone.config.get("image_size"):
        return size
    if "cifar" in backbone.config["data"] or backbone.config["data"] == "sample":
        return 32
    raise ValueError(f"{backbone.name} does not say the size of its images: say --image-size")


@torch.no_grad()
def features(backbone: Backbone, part: sets.Part, device: str) -> Tensor:
    """Features (N, width) of all images of a part, in float32."""
    mean, std = (torch.tensor(value, device=device).view(-1, 1, 1) for value in (backbone.mean, backbone.std))
    return torch.cat([backbone.network((x.to(device) - mean) / std).float().cpu() for x in part.batches()])


def on_one_set(backbone: Backbone, name: str, config: Config) -> dict[str, Any]:
    """Score, the C chosen, and the sizes of the parts."""
    size, started = config.image_size or own_size(backbone), time.perf_counter()
    parts = sets.load(name, Path(config.root), size, config.download, config.train_images, config.test_images)
    x, test = (features(backbone, part, config.device) for part in (parts.train, parts.test))
    y = parts.train.labels
    if parts.val is None:
        learn, validate = ((x[rows].numpy(), y[rows].numpy()) for rows in sets.held_out(len(y)))
    else:
        learn = x.numpy(), y.numpy()
        validate = features(backbone, parts.val, config.device).numpy(), parts.val.labels.numpy()
    per_class = name in sets.MEAN_PER_CLASS
    outcome = transfer(
        learn, validate, (test.numpy(), parts.test.labels.numpy()), per_class, config.values, config.steps
    )
    metric = "mean per class" if per_class else "top-1"
    counts = {"train": len(learn[1]), "validation": len(validate[1]), "test": len(test)}
    return {**outcome._asdict(), "metric": metric, **counts, "seconds": time.perf_counter() - started}


def evaluate(config: Config) -> dict[str, Any]:
    """All sets in turn; what is done in the same folder is not done again."""
    origin, folder = provenance(), Path(config.out)
    if config.threads:
        torch.set_num_threads(config.threads)
    backbone = load_backbone(config.backbone, config.pretrained)
    backbone.network.to(config.device)
    kept = folder / "sets.json"
    settings = {name: value for name, value in vars(config).items() if name not in PLACE}
    known = json.loads(kept.read_text()) if kept.exists() else {"settings": settings, "sets": {}}
    if known["settings"] != settings:
        raise ValueError(f"{folder} has results of other settings; use another --out")
    for name in config.sets:
        if name not in known["sets"]:
            known["sets"][name] = on_one_set(backbone, name, config)
            write_json(kept, known)
            print(f"{name}: {100 * known['sets'][name]['score']:.2f} ({known['sets'][name]['metric']})", flush=True)
    scores = {name: known["sets"][name] for name in config.sets}
    trained = {key: value for key, value in backbone.config.items() if key not in OF_RUNS}
    return write_result(folder, origin, config, PLACE, backbone={"name": backbone.name, **trained}, sets=scores)


if __name__ == "__main__":
    try:
        evaluate(configure(about=__doc__))
    except (ValueError, OSError) as error:
        sys.exit(f"evaluate.py: {error}")
