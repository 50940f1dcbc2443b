"""Self-supervised learning with and without adversarial views: the paper's experiments.

    python examples/ssl/train.py --method simclr --view idaa                       # the paper's settings; needs a GPU
    python examples/ssl/train.py --method simclr --view third --scale small        # a CPU will do
    torchrun --nproc-per-node 4 examples/ssl/train.py --method simsiam --view idaa-grad --data cifar100

Every value of Config below is an option: --eps 0.3, --no-dual-bn, --jitter .4 .4 .4 .1. A run that was interrupted goes
on with the same command and ends as if it had not been. Its folder has checkpoint.pt, log.csv and, in the end,
result.json. Needs lightly, timm and the extra [train].
"""

from __future__ import annotations

import argparse
import copy
import csv
import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import evaluate
import kornia.augmentation as K
import timm
import torch
from lightly.models.utils import update_momentum
from methods import METHODS, View
from parallel import average_gradients, gather, synchronise
from torch import Tensor, distributed, nn
from tqdm import tqdm

from idaa_transforms import CLAETransform, IDAATransform, untouched
from idaa_transforms.autoencoders.conv import CIFAR_STATISTICS, IMAGENET_STATISTICS
from idaa_transforms.autoencoders.data import Images, batches, load_images
from idaa_transforms.autoencoders.training import log_row, processes, save_whole
from idaa_transforms.batchnorm import branch, convert_dual_batchnorm
from idaa_transforms.provenance import provenance
from idaa_transforms.sample import cifar10_sample


@dataclass
class Config:
    """What decides a run. The method's recipe (methods/*.py) goes before these defaults, then the scale, then the
    command line."""

    method: Literal["plain", "uel", "simclr", "simsiam", "moco", "byol", "swav"] = "simclr"
    scale: Literal["paper", "small", "smoke"] = "paper"
    seed: int = 0
    out: str = ""  # folder of the run; default: runs/ssl/ and a name

    # the view beside the two random ones
    view: Literal["none", "third", "clae", "idaa", "idaa-grad"] = "idaa"  # third: one more random view, as a control
    pair: Literal["add", "replace"] = "add"  # loss(x1, x2) + alpha * loss(x1, x'), or loss(x', x2)
    alpha: float = 1.0
    dual_bn: bool = True  # statistics of their own for x', also where it is random: a control differs in the view only
    eps: float = 0.1  # of idaa, in the latent
    clae_eps: float = 0.03  # of clae, in normalised pixels
    eps_schedule: Literal["constant", "ramp"] = "constant"  # ramp: from 0 to eps over the run
    steps: int = 1
    step_size: float = 0.0  # 0: min(1, 2.5 / steps) * eps
    anchor: Literal["same", "other"] = "same"  # what an attack compares with: x1 itself, as in the paper, or x2
    start: Literal["zero", "uniform"] = "zero"
    weights: str = ""  # name or folder of the VAE; default: what is shipped for the data

    # data and augmentation
    data: str = "cifar10"  # a file <root>/<data>.npz, any .npz, a folder of class folders, or "sample": 64 images
    root: str = "data"
    image_size: int = 0  # 0: as they are
    train_images: int = 0  # the first so many; 0: all
    test_images: int = 0
    crop: float = 0.08  # smallest share of the area
    jitter: tuple[float, ...] = (0.8, 0.8, 0.8, 0.2)  # brightness, contrast, saturation, hue
    jitter_p: float = 0.8
    gray: float = 0.2

    # network and optimiser
    backbone: str = "resnet18"  # of timm, with a 3x3 stem for images of up to 64 pixels
    backbone_options: dict[str, Any] = field(default_factory=dict)  # JSON; of timm.create_model
    maxpool: bool = False
    optimiser: Literal["adam", "sgd"] = "adam"
    lr: float = 3e-4
    weight_decay: float = 0.0
    batch_size: int = 256  # over all processes
    epochs: int = 300
    schedule: Literal["cosine", "steps"] = "cosine"  # steps: times .1, .05, .01 after 120, 160, 200 epochs of 301
    warmup_epochs: int = 0  # linear, then
    flat_epochs: int = 0  # constant until this epoch, then the schedule

    # measuring
    sigma: float = 0.5  # of the weighted kNN
    knn_every: int = 5  # epochs

    # the machine
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    threads: int = 0  # of a CPU; 0: torch's choice
    bf16: bool = True  # autocast the backbone, VAE in bfloat16
    compile: bool = False
    stop_after: int = 0  # epochs; ends early without changing the schedule


_SMALL = {"optimiser": "adam", "lr": 1e-3, "weight_decay": 0.0, "schedule": "cosine", "warmup_epochs": 0}
_NARROW = {"channels": [32, 64, 128, 256], "stem_width": 16}
SCALES: dict[str, dict[str, Any]] = {
    "paper": {},
    # a small network on a fifth of CIFAR-10: minutes a run on one core
    "small": _SMALL
    | {"backbone": "resnet10t", "backbone_options": _NARROW, "maxpool": True, "train_images": 10_000, "threads": 1}
    | {"batch_size": 128, "epochs": 6, "flat_epochs": 1, "knn_every": 1},
    # a toy on the images of the package: seconds
    "smoke": _SMALL
    | {"backbone": "resnet10t", "backbone_options": {"channels": [8] * 4, "stem_width": 4}, "maxpool": True}
    | {"data": "sample", "batch_size": 16, "epochs": 1, "flat_epochs": 0, "knn_every": 1, "bf16": False, "threads": 1},
}
VIEWS = get_args(get_type_hints(Config)["view"])
WEIGHTS = {"cifar10": "cifar10-vae", "sample": "cifar10-vae", "cifar100": "cifar100-vae"}
WEIGHTS["tiny-imagenet"] = "tiny-imagenet-vae"
PLACE = ("out", "root", "device", "threads", "compile", "stop_after")  # do not decide the result


class Model(nn.Module):
    """Backbone, method, and a target network for methods that have one."""

    def __init__(self, config: Config, size: int) -> None:
        super().__init__()
        self.config = config
        self.backbone = timm.create_model(config.backbone, num_classes=0, **config.backbone_options)
        if size <= 64:
            self.backbone.conv1 = nn.Conv2d(3, self.backbone.bn1.num_features, 3, padding=1, bias=False)
        if not config.maxpool:
            self.backbone.maxpool = nn.Identity()
        self.method = METHODS[config.method](self.backbone.num_features)
        if distributed.is_initialized():
            synchronise(self.backbone)
        self.dual = config.dual_bn and config.view != "none"
        if self.dual:
            convert_dual_batchnorm(self.backbone)
        self.target = None
        if self.method.momentum:
            self.target = copy.deepcopy(nn.ModuleList([self.backbone, self.method.projector])).requires_grad_(False)
        self.mean_std = CIFAR_STATISTICS if "cifar" in config.data or config.data == "sample" else IMAGENET_STATISTICS

    def normalise(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to what the network takes."""
        mean, std = (x.new_tensor(v).view(-1, 1, 1) for v in self.mean_std)
        return ((x - mean) / std).contiguous(memory_format=torch.channels_last)

    def features(self, x: Tensor) -> Tensor:
        """Normalised images to features (B, width), float32, of all processes."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.config.bf16):
            h = self.backbone(x)
        return gather(h.float())

    def forward(self, x: Tensor, hard: bool = False) -> View:
        """A batch of views; ``hard`` ones go through the batch norms for them."""
        with branch(self, "adversarial") if hard and self.dual else nullcontext():
            h = self.features(x)
            if self.target is None:
                return View(h)
            with torch.no_grad(), torch.autocast(x.device.type, torch.bfloat16, enabled=self.config.bf16):
                target = self.target[0](x)
            return View(h, gather(self.target[1](target.float())))

    def closure(self, anchor: View) -> Callable[[Tensor], Tensor]:
        """What an attack raises, with the batch norms of hard views."""

        def features(x: Tensor) -> Tensor:
            with branch(self.backbone, "adversarial") if self.dual else nullcontext():
                return self.features(x)

        with torch.no_grad(), untouched(self.method):
            loss = self.method.attack(features, View(*(None if part is None else part.detach() for part in anchor)))
        return lambda views: loss(views).sum()

    def describe(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images to features and embeddings, on this process alone."""
        x = self.normalise(images.float() / 255)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.config.bf16):
            h = self.backbone(x)
        return h.float(), self.method.embed(h.float())


def make_attack(config: Config, model: Model) -> Any:
    """The transform that makes adversarial views, on normalised images; None for random ones."""
    mean, std = model.mean_std
    shared: dict[str, Any] = {"mean": mean, "std": std, "steps": config.steps, "start": config.start}
    shared["step_size"] = config.step_size or None
    if config.view == "clae":
        return CLAETransform(config.clae_eps, **shared).to(config.device)
    if config.view in ("idaa", "idaa-grad"):
        if not config.weights:
            raise ValueError(f"no VAE is shipped for {config.data!r}; train one (idaa train-vae) and say --weights")
        idaa = IDAATransform.from_pretrained(config.weights, config.eps, **shared)
        idaa = idaa.to(config.device, torch.bfloat16 if config.bf16 else torch.float32)
        return idaa.to(memory_format=torch.channels_last)
    return None


def backward(
    model: Model, attack: Any, x1: Tensor, x2: Tensor, x3: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, list[View]]:
    """One step's gradients. x1, x2 and, for ``third``, x3 are random views; returns the loss of the two, the loss with
    the view beside them (the same where there is none), and the two as the network saw them."""
    config, loss = model.config, model.method.loss
    a, b = model(x1.requires_grad_(config.view == "idaa-grad")), model(x2)
    clean = extra = loss(a, b)
    if config.view == "idaa-grad":  # the gradient of this very step, and the graph of x1 stays for the loss with x'
        clean.backward(retain_graph=True)
        hard = attack(x1.detach(), grad=x1.grad, eps=eps)
    elif config.view == "third":
        hard = x3
    elif config.view in ("idaa", "clae"):
        hard = attack(x1, loss_fn=model.closure(a if config.anchor == "same" else b), eps=eps)
    if config.view == "none":
        clean.backward()
    elif config.pair == "replace":
        extra = loss(model(hard, hard=True), b)
        extra.backward()
    else:
        extra = loss(a, model(hard, hard=True))
        (config.alpha * extra if config.view == "idaa-grad" else clean + config.alpha * extra).backward()
    return clean.detach(), extra.detach(), [View(*(p if p is None else p.detach() for p in v)) for v in (a, b)]


def learning_rate(config: Config, epoch: float) -> float:
    """At a point of the run, in epochs."""
    if epoch < config.warmup_epochs:
        return config.lr * epoch / config.warmup_epochs
    if config.schedule == "steps":
        fall = [
            factor for start, factor in ((120, 0.1), (160, 0.05), (200, 0.01)) if epoch / config.epochs >= start / 301
        ]
        return config.lr * (fall[-1] if fall else 1)
    start = max(config.warmup_epochs, config.flat_epochs)
    return config.lr * (1 + math.cos(math.pi * max(0, epoch - start) / (config.epochs - start))) / 2


def augmentation(config: Config, size: tuple[int, int]) -> nn.Module:
    """The random views of a batch (B, 3, H, W) in [0, 1], on its device."""
    return nn.Sequential(
        K.RandomResizedCrop(size, scale=(config.crop, 1.0), cropping_mode="resample"),
        K.RandomHorizontalFlip(),
        K.ColorJitter(*config.jitter, p=config.jitter_p),
        K.RandomGrayscale(p=config.gray),
    )


def load_data(config: Config) -> Images:
    """Images and labels on the device, uint8."""
    if config.data == "sample":
        x, y = cifar10_sample()
        x = (x * 255).round().byte()
        images = Images(x[:48], x[48:], "sample", y[:48], y[48:])
    else:
        file = Path(config.root) / f"{config.data}.npz"
        images = load_images(str(file) if file.exists() else config.data, config.image_size or None, Path(config.root))
    if not isinstance(images.train, Tensor) or images.train_labels is None or images.test_labels is None:
        raise ValueError(
            f"{config.data!r} has no labels, or is too large for memory: kNN needs them; --image-size helps"
        )
    first, last = config.train_images or None, config.test_images or None
    parts = images.train[:first], images.test[:last], images.train_labels[:first], images.test_labels[:last]
    train, test, train_labels, test_labels = (part.to(config.device) for part in parts)
    return Images(train, test, images.name, train_labels, test_labels)


def train(config: Config) -> dict[str, Any]:
    """Train, evaluate after the last epoch, return what result.json holds."""
    where = provenance()  # now, while the code that runs is the code that is there
    if config.threads:
        torch.set_num_threads(config.threads)
    rank, world = processes(torch.device(config.device))
    data, folder = load_data(config), Path(config.out)
    size, steps = data.train.shape[2:], len(data.train) // config.batch_size
    if not steps or config.batch_size % world:
        raise ValueError(
            f"{len(data.train)} images in batches of {config.batch_size} over {world} processes leave some empty"
        )
    torch.manual_seed(config.seed)
    model = Model(config, size[0]).to(config.device).to(memory_format=torch.channels_last).train()
    if config.compile:
        model.backbone.compile()
    learned = [p for p in model.parameters() if p.requires_grad]
    constant = list(model.method.constant_lr())
    groups = [{"params": [p for p in learned if not any(p is q for q in constant)]}, {"params": constant}]
    options = {"lr": config.lr, "weight_decay": config.weight_decay}
    optimiser = (
        torch.optim.SGD(groups, momentum=0.9, **options)
        if config.optimiser == "sgd"
        else torch.optim.Adam(groups, **options)
    )
    attack, augment = make_attack(config, model), augmentation(config, size)

    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, first, spent = folder / "checkpoint.pt", 0, {"seconds": 0.0, "cpu_seconds": 0.0}
    if checkpoint.exists():
        first, spent = resume(checkpoint, config, model, optimiser)
    last = max(first, min(config.epochs, config.stop_after or config.epochs))
    images = steps * config.batch_size
    bar = tqdm(total=config.epochs * images, initial=first * images, unit="img", unit_scale=True, disable=rank > 0)
    for epoch in range(first, last):
        # Each epoch seeds its own random numbers, which is all that resuming needs. Every process augments the whole
        # batch, by the same numbers, and takes its share.
        seed = config.seed * 1_000_003 + epoch
        torch.manual_seed(seed)
        sums, started, cpu = torch.zeros(2, device=config.device), time.perf_counter(), time.process_time()
        for i, x in enumerate(batches(data.train, config.batch_size, torch.Generator().manual_seed(seed), 0, 1, 0)):
            for group, rate in zip(
                optimiser.param_groups, (learning_rate(config, epoch + i / steps), config.lr), strict=True
            ):
                group["lr"] = rate
            eps = config.clae_eps if config.view == "clae" else config.eps
            eps *= (epoch + (i + 1) / steps) / config.epochs if config.eps_schedule == "ramp" else 1
            views = [model.normalise(augment(x)[rank::world]) for _ in range(3 if config.view == "third" else 2)]
            optimiser.zero_grad()
            clean, extra, seen = backward(model, attack, views[0], views[1], views[-1], eps)
            average_gradients(learned)
            optimiser.step()
            with torch.no_grad():
                model.method.update(seen)
                if model.target is not None:
                    update_momentum(
                        nn.ModuleList([model.backbone, model.method.projector]), model.target, model.method.momentum
                    )
            sums += torch.stack([clean, extra])
            bar.update(config.batch_size)
        loss, extra_loss = (sums / steps).tolist()
        if not math.isfinite(loss + extra_loss):
            raise RuntimeError(f"the loss became {loss} and {extra_loss} in epoch {epoch + 1}; lower --lr or --eps")
        row = {
            "epoch": epoch + 1,
            "loss": loss,
            "extra_loss": extra_loss,
            "lr": optimiser.param_groups[0]["lr"],
            "eps": eps,
        }
        row |= {"knn": "", "seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
        row["images_per_second"] = images / row["seconds"]
        spent = {key: value + row[key] for key, value in spent.items()}
        if rank == 0:
            if (epoch + 1) % config.knn_every == 0 or epoch + 1 == last:
                memory, queries = (evaluate.features(model, part)[0] for part in (data.train, data.test))
                row["knn"] = evaluate.knn(memory, data.train_labels, queries, data.test_labels, sigma=config.sigma)
            log_row(folder / "log.csv", row)
            state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "config": asdict(config)}
            save_whole(state | {"epoch": epoch + 1, "spent": spent}, checkpoint)
            bar.set_description(f"epoch {epoch + 1}: loss {loss:.3f}, {extra_loss:.3f}, kNN {row['knn'] or 0:.3f}")
        if world > 1:
            distributed.barrier()
    bar.close()
    if last < config.epochs or rank:
        return {}
    result = {"run": where, "config": {k: v for k, v in asdict(config).items() if k not in PLACE}}
    result |= {
        "epochs": last,
        "processes": world,
        "hours": spent["seconds"] / 3600,
        "cpu_hours": spent["cpu_seconds"] / 3600,
    }
    result |= {"attack": attack.stats() if attack else {}, "metrics": evaluate.evaluate(model, data, config.sigma)}
    result["log"] = [
        {k: float(v) if v else None for k, v in r.items()} for r in csv.DictReader((folder / "log.csv").open())
    ]
    (folder / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    return result


def resume(checkpoint: Path, config: Config, model: Model, optimiser: Any) -> tuple[int, dict[str, float]]:
    """Epochs done and time spent."""
    saved = torch.load(checkpoint, map_location=config.device, weights_only=True)
    now = asdict(config)
    if differ := [name for name in now if name not in PLACE and saved["config"].get(name) != now[name]]:
        was = {name: saved["config"].get(name) for name in differ}
        raise ValueError(f"{checkpoint} was made with {was}; use another --out, or these")
    model.load_state_dict(saved["model"])
    optimiser.load_state_dict(saved["optimiser"])
    return saved["epoch"], saved["spent"]


def configure(arguments: list[str] | None = None) -> Config:
    """From the command line: defaults, the method's recipe, the scale, then what was said."""
    types, parser = (
        get_type_hints(Config),
        argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter),
    )
    for one in fields(Config):
        name, kind = f"--{one.name.replace('_', '-')}", types[one.name]
        options: dict[str, Any] = {"default": argparse.SUPPRESS}
        if kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        elif kind == tuple[float, ...]:
            options |= {"type": float, "nargs": "+"}
        elif get_args(kind) and all(isinstance(a, str) for a in get_args(kind)):
            options["choices"] = get_args(kind)
        else:
            options["type"] = json.loads if one.name == "backbone_options" else kind
        parser.add_argument(name, **options)
    said = vars(parser.parse_args(arguments))
    method, scale = said.get("method", Config.method), said.get("scale", Config.scale)
    settings = METHODS[method].recipe | SCALES[scale] | said
    config = Config(**settings)
    config.jitter = tuple(config.jitter)
    config.weights = config.weights or WEIGHTS.get(config.data, "")
    if config.pair == "replace" and config.view not in ("idaa", "clae"):
        parser.error(
            f"--pair replace puts an adversarial view in place of x1, which --view {config.view} does not make alone"
        )
    config.out = config.out or "runs/ssl/" + run_name(said)
    return config


def run_name(said: dict[str, Any]) -> str:
    """The folder's name: what was said, defaults of the grid's axes included."""
    axes = {name: said.get(name, getattr(Config, name)) for name in ("method", "view", "data", "scale", "seed")}
    other = {k: v for k, v in said.items() if k not in axes and k not in PLACE}
    return "-".join(
        [*(f"{v}" for k, v in axes.items() if k != "seed"), f"s{axes['seed']}", *(f"{k}={v}" for k, v in other.items())]
    )


if __name__ == "__main__":
    found = train(configure())
    if found:
        print(json.dumps({"hours": found["hours"]} | found["metrics"], indent=1))
