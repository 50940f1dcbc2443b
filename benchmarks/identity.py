"""Hardness against identity: random augmentation, CLAE and IDAA, by judges that are neither attacked nor trained on it.

    python -m benchmarks.judges supervised data/cifar10.npz
    python -m benchmarks.judges simclr data/cifar10.npz
    python -m benchmarks.identity data --resnet20 FILE --mobilenet FILE [--taef2 FILE] [--images 1000]

The attacked network is a ResNet-20 that others trained, the loss NT-Xent (T = 0.5) of its features against those of the
flipped image, batches of 500. Each set of weights sees test images of the data it was trained on, data/cifar10.npz and
so on. Resumable: rows are kept in runs/identity.jsonl. Writes results/identity.json, .png and .md.
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
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm import tqdm

from idaa_transforms import CLAETransform, Guard, IDAATransform, objectives
from idaa_transforms.autoencoders import Wrapped
from idaa_transforms.functional import input_gradient
from idaa_transforms.losses import nt_xent
from idaa_transforms.measure.identity import IdentityMeter
from idaa_transforms.training.augmentation import ssl_augmentation

from . import harness, judges
from .high_fidelity import TAEF2
from .identity_report import report

Case = dict[str, Any]
BATCH = 500
MILD = (K.RandomHorizontalFlip(), K.ColorJitter(0.4, 0.4, 0.4, 0.4), K.RandomGrayscale(p=0.2))
RANDOM = {
    "SimCLR's": lambda size: ssl_augmentation(size),
    "SimSiam's": lambda size: nn.Sequential(K.RandomResizedCrop(size, scale=(0.2, 1.0)), *MILD),
    "flip and small jitter": lambda _: nn.Sequential(K.RandomHorizontalFlip(), K.ColorJitter(0.1, 0.1, 0.1, 0.02)),
}
TAEF2_SD = 0.905  # of its latent over these images, see results/high-fidelity.json
CLAE = (0.001, 0.002, 0.004, 0.006, 0.012)


def cases() -> Iterator[Case]:
    """All that is measured, what matters most first."""

    def sweep(data: str, weights: str, eps: tuple[float, ...], **parameters: Any) -> Iterator[Case]:
        method = "CLAE" if weights == "pixels" else "IDAA"
        yield from ({"data": data, "method": method, "weights": weights, "eps": e, **parameters} for e in eps)

    one, some, few = (0.05, 0.1, 0.2, 0.3, 0.5), (0.05, 0.1, 0.2, 0.3), (0.1, 0.2, 0.3)
    sd, sd_l2 = (0.2, 0.4, 0.8), (2.5, 5.0, 10.0, 20.0)  # of posterior scale
    posterior: dict[str, Any] = {"scale": "posterior", "norm": "l2"}
    yield from sweep("cifar10", "pixels", CLAE, steps=1)
    yield from sweep("cifar10", "cifar10-vae", one, steps=1)
    yield from sweep("cifar10", "cifar10-vae", sd_l2, steps=1, **posterior)
    yield from sweep("cifar10", "cifar10-vae", some, steps=5)
    yield from sweep("cifar10", "pixels", CLAE[:4:3], steps=5)
    yield from ({"data": "cifar10", "method": "random", "augmentation": name} for name in RANDOM)
    yield from sweep("cifar10", "cifar10-vae", sd_l2[:3], steps=5, **posterior)
    yield from sweep("cifar10", "cifar10-vae", sd, steps=1, eps_unit="posterior")
    yield from sweep("cifar10", "cifar10-vae-z128", (0.1, 0.2, 0.4), steps=1)
    yield from sweep("cifar10", "cifar10-vae-z128", (1.25, 2.5, 5.0), steps=1, **posterior)
    for gain in (0.05, 0.1, 0.2):
        yield from sweep("cifar10", "cifar10-vae", (0.5,), steps=1, target_gain=gain)
    for data, weights in (("cifar100", "cifar100-vae"), ("tiny-imagenet", "tiny-imagenet-vae")):
        yield from sweep(data, "pixels", (0.002, 0.006), steps=1)
        yield from sweep(data, weights, few, steps=1)
        yield from sweep(data, weights, sd_l2[1:3], steps=1, **posterior)
    yield from sweep("cifar10", "cifar10-vae", few, steps=1, guard=0.95)
    yield from sweep("cifar10", "taef2", (0.02, 0.05, 0.1), steps=1)
    yield from sweep("cifar10", "cifar10-vae", (1.0, 2.0), steps=1, norm="l2")
    yield from sweep("cifar10", "cifar10-vae", few[:2], steps=1, random_start=True)
    yield from sweep("cifar10", "cifar10-vae", few[:2], steps=5, grad=True)
    yield from sweep("cifar10", "pixels", (0.1, 0.2), steps=1, norm="l2")
    for steps in (2, 3, 10):
        yield from sweep("cifar10", "cifar10-vae", few[:2], steps=steps)
    yield from sweep("cifar10", "cifar10-vae", sd, steps=5, eps_unit="posterior")
    yield from sweep("cifar10", "cifar10-vae-z128", (0.1, 0.2, 0.4), steps=5)
    yield from sweep("cifar10", "cifar10-vae", few, steps=5, guard=0.95)
    yield from sweep("cifar10", "cifar10-vae", few, steps=5, random_start=True)
    for weights in ("cifar100-vae", "tiny-imagenet-vae"):
        yield from sweep(weights.removesuffix("-vae"), weights, few, steps=5)
    yield from sweep("cifar10", "taef2", (0.02, 0.05, 0.1), steps=5)


class Heard:
    """A judge that is asked about the images themselves only once; they come again with every case."""

    def __init__(self, judge: nn.Module, batches: list[Tensor]) -> None:
        self.judge, self.known = judge, {id(x): judge(x) for x in batches}

    def __call__(self, images: Tensor) -> Tensor:
        """As the judge."""
        return self.known[id(images)] if id(images) in self.known else self.judge(images)


class Bench:
    """Test images of one data set, the attacked network, and the judges."""

    def __init__(self, file: Path, count: int, attacked: nn.Module, others: dict[str, nn.Module]) -> None:
        with np.load(file) as data:
            x, y = data["x_test"], data["y_test"]
        order = np.random.default_rng(0).permutation(len(x))[:count]
        x = torch.from_numpy(x[order]).permute(0, 3, 1, 2).float().div(255).contiguous()
        self.x, self.y = x.split(BATCH), torch.from_numpy(y[order]).split(BATCH)
        self.named = file.stem == "cifar10"  # the classes that one judge knows
        with torch.no_grad():
            heard = {name: Heard(judge, list(self.x)) for name, judge in others.items()}
        self.meters = {n: IdentityMeter(j, logits=self.named and n == "supervised") for n, j in heard.items()}
        *normalise, network = attacked
        self.embed = lambda v: network.features(nn.Sequential(*normalise)(v))
        with torch.no_grad():
            self.flipped = {name: [judge(v.flip(-1)) for v in self.x] for name, judge in others.items()}

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
        for name, meter in self.meters.items():  # how hard the views are for the judge, which was not attacked
            parts = zip(meter._features, self.flipped[name], strict=True)
            gains = [nt_xent(after, flip) - nt_xent(before, flip) for (before, after), flip in parts]
            found[name]["transferred"] = torch.cat(gains).mean().item()
        identity = ("cosine", "retrieval_at_1", "prediction_agreement", "label_agreement", "transferred")
        shared = {key: value for key, value in next(iter(found.values())).items() if key not in identity}
        gain = next(iter(self.meters.values())).samples()["gain"]
        shared |= {"gain_q1": gain.quantile(0.25).item(), "gain_q3": gain.quantile(0.75).item()}
        return shared | {name: {k: v for k, v in row.items() if k in identity} for name, row in found.items()}


def maker(case: Case, taef2: Path | None, guard: nn.Module) -> Callable[..., Any]:
    """What :meth:`Bench.measure` asks for, of one case."""
    if case["method"] == "random":

        def augment(x: Tensor, loss_fn: Any) -> tuple[Tensor, dict[str, Any]]:
            torch.manual_seed(0)
            views = RANDOM[case["augmentation"]](x.shape[2:])(x)
            with torch.no_grad():
                return views, {"losses": (loss_fn(x), loss_fn(views))}

        return augment
    known = ("eps", "steps", "norm", "start", "scale", "target_gain")
    parameters = {key: value for key, value in case.items() if key in known}
    if "guard" in case:
        parameters["guard"] = Guard(guard, case["guard"])
    if case["weights"] == "pixels":
        aug: Any = CLAETransform(**parameters)
    elif case["weights"] == "taef2":
        network = TAEF2().eval()
        network.load_state_dict({key: value.float() for key, value in load_file(taef2).items()})
        aug = IDAATransform(Wrapped(network.encoder, network.decoder, factor=8, latent_scale=TAEF2_SD), **parameters)
    else:
        aug = IDAATransform.from_pretrained(case["weights"], **parameters)

    def make(x: Tensor, loss_fn: Any) -> tuple[Tensor, dict[str, Any]]:
        torch.manual_seed(0)
        if "grad" in case:  # of the loss at x, for all steps: no pass of the model after the first
            found = aug.explain(x, grad=input_gradient(loss_fn, x))
            with torch.no_grad():
                found = found._replace(loss_before=loss_fn(x), loss_after=loss_fn(found.views))
        else:
            found = aug.explain(x, loss_fn=loss_fn)
        losses = found.loss_before, found.loss_after
        return found.views, {"losses": losses}

    return make


def main() -> None:
    """Measure what is not measured yet, save, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of cifar10.npz, cifar100.npz, tiny-imagenet.npz")
    parser.add_argument("--resnet20", type=Path, required=True, help="the attacked network")
    parser.add_argument("--mobilenet", type=Path, required=True, help="torchvision's mobilenet_v2-b0353104.pth")
    parser.add_argument("--taef2", type=Path)
    parser.add_argument("--judges", type=Path, default=Path("runs/judges"))
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rows", type=Path, default=Path("runs/identity.jsonl"))
    parser.add_argument("--first", type=int, help="only so many cases")
    parser.add_argument("--measured", action="store_true", help="measure nothing more; write what was measured")
    args = parser.parse_args()
    attacked = judges.resnet20(args.resnet20)
    others = {name: judges.trained(args.judges / f"{name}.safetensors") for name in ("supervised", "simclr")}
    others["mobilenet"] = judges.mobilenet(args.mobilenet)
    rows = [json.loads(line) for line in args.rows.read_text().splitlines()] if args.rows.exists() else []
    rows = [row for row in rows if row["images"] == args.images]
    todo = [case for case in cases() if args.taef2 or case.get("weights") != "taef2"][: args.first]
    done = [row["case"] for row in rows]
    todo = [case for case in todo if case in done or not args.measured]
    benches: dict[str, Bench] = {}
    args.rows.parent.mkdir(parents=True, exist_ok=True)
    for case in tqdm(todo, unit="case"):
        if case in done:
            continue
        data = case["data"]
        if data not in benches:
            benches[data] = Bench(args.data / f"{data}.npz", args.images, attacked, others)
        rows.append({"case": case} | case | benches[data].measure(maker(case, args.taef2, others["supervised"])))
        with args.rows.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
    settings = {"images": args.images, "batch": BATCH, "loss": "NT-Xent, T = 0.5, against the flipped image"}
    file = harness.save("identity", settings, [row for row in rows if row["case"] in todo])
    print(report([row for row in rows if row["case"] in todo], file))


if __name__ == "__main__":
    main()
