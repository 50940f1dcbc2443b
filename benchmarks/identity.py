"""Hardness against identity: random augmentation, CLAE and IDAA, by reference models that are not attacked.

    python -m benchmarks.reference_models supervised data/cifar10.npz
    python -m benchmarks.reference_models simclr data/cifar10.npz
    python -m benchmarks.identity data/cifar10.npz --resnet20 FILE --mobilenet FILE [--taef2 FILE] [--images 1000]

The attacked network is a ResNet-20 that others trained, the loss NT-Xent (T = 0.5) of its features against those of the
flipped image, batches of 500. Resumable: rows are kept in runs/identity.jsonl. Writes results/identity.json, .png, .md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kornia.augmentation as K
import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from idaa_transforms import CLAETransform, Guard, IDAATransform, objectives
from idaa_transforms.losses import nt_xent
from idaa_transforms.measure.identity import IdentityMeter
from idaa_transforms.training.augmentation import ssl_augmentation

from . import harness, reference_models
from .identity_report import report
from .taef2 import taef2

Case = dict[str, Any]
BATCH = 500
MILD = (K.RandomHorizontalFlip(), K.ColorJitter(0.4, 0.4, 0.4, 0.4), K.RandomGrayscale(p=0.2))
RANDOM = {
    "SimCLR's": lambda size: ssl_augmentation(size),
    "SimSiam's": lambda size: nn.Sequential(K.RandomResizedCrop(size, scale=(0.2, 1.0)), *MILD),
    "flip and small jitter": lambda _: nn.Sequential(K.RandomHorizontalFlip(), K.ColorJitter(0.1, 0.1, 0.1, 0.02)),
}
TAEF2_SD = 0.905  # standard deviation of its latent over the test images of CIFAR-10
CLAE = (0.001, 0.002, 0.004, 0.006, 0.012)


def cases() -> Iterator[Case]:
    """All that is measured."""

    def sweep(method: str, weights: str, eps: tuple[float, ...], steps: int = 1, **settings: Any) -> Iterator[Case]:
        for each in eps:
            yield {"data": "cifar10", "method": method, "weights": weights, "eps": each, "steps": steps, **settings}

    posterior: dict[str, Any] = {"scale": "posterior", "norm": "l2"}
    yield from sweep("CLAE", "pixels", CLAE)
    yield from sweep("IDAA", "cifar10-vae", (0.05, 0.1, 0.2, 0.3, 0.5))
    yield from sweep("CLAE", "pixels", CLAE[:4:3], steps=5)
    yield from sweep("IDAA", "cifar10-vae", (0.05, 0.1, 0.2, 0.3), steps=5)
    yield from sweep("IDAA", "cifar10-vae", (2.5, 5.0, 10.0, 20.0), **posterior)
    yield from sweep("IDAA", "cifar10-vae", (2.5, 5.0, 10.0), steps=5, **posterior)
    yield from sweep("IDAA", "cifar10-vae-z128", (0.1, 0.2, 0.4))
    yield from sweep("IDAA", "taef2", (0.02, 0.05, 0.1))
    yield from sweep("IDAA", "cifar10-vae", (0.1, 0.2, 0.3), guard=0.95)
    for gain in (0.05, 0.1, 0.2):
        yield from sweep("IDAA", "cifar10-vae", (0.5,), target_gain=gain)
    yield from ({"data": "cifar10", "method": "random", "augmentation": name} for name in RANDOM)


class Bench:
    """Test images, the attacked network, and the reference models."""

    def __init__(self, file: Path, count: int, attacked: nn.Module, others: dict[str, nn.Module]) -> None:
        with np.load(file) as data:
            x, y = data["x_test"], data["y_test"]
        order = np.random.default_rng(0).permutation(len(x))[:count]
        x = torch.from_numpy(x[order]).permute(0, 3, 1, 2).float().div(255).contiguous()
        self.x, self.y = x.split(BATCH), torch.from_numpy(y[order]).split(BATCH)
        self.meters = {n: IdentityMeter(j, logits=n == "supervised") for n, j in others.items()}
        *normalise, network = attacked
        self.embed = lambda v: network.features(nn.Sequential(*normalise)(v))
        with torch.no_grad():
            self.flipped = {name: [model(v.flip(-1)) for v in self.x] for name, model in others.items()}

    def loss(self, x: Tensor) -> Any:
        """The closure that the views of ``x`` raise."""
        with torch.no_grad():
            return objectives.simclr(self.embed, self.embed(x.flip(-1)))

    def measure(self, make: Callable[[Tensor, Any], tuple[Tensor, dict[str, Any]]]) -> dict[str, Any]:
        """``make(x, loss_fn)`` gives views, and losses for the meter."""
        for meter in self.meters.values():
            meter.reset()
        for x, y in zip(self.x, self.y, strict=True):
            loss_fn = self.loss(x)
            views, known = make(x, loss_fn)
            for meter in self.meters.values():
                meter.update(x, views, labels=y if meter.logits else None, **known)
        found = {name: meter.compute() for name, meter in self.meters.items()}
        for name, meter in self.meters.items():  # how hard the views are for a model that was not attacked
            parts = zip(meter._features, self.flipped[name], strict=True)
            gains = [nt_xent(after, flip) - nt_xent(before, flip) for (before, after), flip in parts]
            found[name]["transferred"] = torch.cat(gains).mean().item()
        identity = ("cosine", "retrieval_at_1", "prediction_agreement", "label_agreement", "transferred")
        shared = {key: value for key, value in next(iter(found.values())).items() if key not in identity}
        gain = next(iter(self.meters.values())).samples()["gain"]
        shared |= {"gain_q1": gain.quantile(0.25).item(), "gain_q3": gain.quantile(0.75).item()}
        return shared | {name: {k: v for k, v in row.items() if k in identity} for name, row in found.items()}


def maker(case: Case, taef2_file: Path | None, guard: nn.Module) -> Callable[..., Any]:
    """What :meth:`Bench.measure` asks for, of one case."""
    if case["method"] == "random":

        def augment(x: Tensor, loss_fn: Any) -> tuple[Tensor, dict[str, Any]]:
            torch.manual_seed(0)
            views = RANDOM[case["augmentation"]](x.shape[2:])(x)
            with torch.no_grad():
                return views, {"losses": (loss_fn(x), loss_fn(views))}

        return augment
    settings = {key: case[key] for key in ("eps", "steps", "norm", "scale", "target_gain") if key in case}
    if "guard" in case:
        settings["guard"] = Guard(guard, case["guard"])
    if case["weights"] == "pixels":
        aug: Any = CLAETransform(**settings)
    elif taef2_file and case["weights"] == "taef2":
        aug = IDAATransform(taef2(taef2_file, latent_scale=TAEF2_SD), **settings)
    else:
        aug = IDAATransform.from_pretrained(case["weights"], **settings)

    def make(x: Tensor, loss_fn: Any) -> tuple[Tensor, dict[str, Any]]:
        found = aug.explain(x, loss_fn=loss_fn)
        losses = found.loss_before, found.loss_after
        return found.views, {"losses": losses}

    return make


def main() -> None:
    """Measure what is not measured yet, save, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="CIFAR-10 as an .npz with x_test, y_test")
    parser.add_argument("--resnet20", type=Path, required=True, help="the attacked network")
    parser.add_argument("--mobilenet", type=Path, required=True, help="torchvision's mobilenet_v2-b0353104.pth")
    parser.add_argument("--taef2", type=Path)
    parser.add_argument("--reference", type=Path, default=Path("runs/reference"))
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rows", type=Path, default=Path("runs/identity.jsonl"))
    parser.add_argument("--first", type=int, help="only so many cases")
    args = parser.parse_args()
    attacked = reference_models.resnet20(args.resnet20)
    others = {
        name: reference_models.trained(args.reference / f"{name}.safetensors") for name in ("supervised", "simclr")
    }
    others["mobilenet"] = reference_models.mobilenet(args.mobilenet)
    rows = [json.loads(line) for line in args.rows.read_text().splitlines()] if args.rows.exists() else []
    rows = [row for row in rows if row["images"] == args.images]
    todo = [case for case in cases() if args.taef2 or case.get("weights") != "taef2"][: args.first]
    done = [row["case"] for row in rows]
    bench = Bench(args.data, args.images, attacked, others)
    args.rows.parent.mkdir(parents=True, exist_ok=True)
    for case in tqdm([case for case in todo if case not in done], unit="case"):
        rows.append({"case": case} | case | bench.measure(maker(case, args.taef2, others["supervised"])))
        with args.rows.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
    settings = {"images": args.images, "batch": BATCH, "loss": "NT-Xent, T = 0.5, against the flipped image"}
    file = harness.save("identity", settings, [row for row in rows if row["case"] in todo])
    print(report([row for row in rows if row["case"] in todo], file))


if __name__ == "__main__":
    main()
