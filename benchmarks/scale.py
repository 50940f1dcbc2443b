"""What a run on ImageNet costs, before it is run: counted work, over the speeds of data sheets. Estimates.

FLOPs, bytes and memory are counted on the very networks (without computing anything) by :mod:`.model`, operator by
operator, in bfloat16, and a step takes as long as its operators do on a machine without overhead. How wrong that is on
a machine that was measured, a table of its own says. What workers cost is measured, by :mod:`.loading`.
"""

from __future__ import annotations

import json
from functools import cache
from typing import NamedTuple

import timm
import torch
from torch import Tensor, nn

from benchmarks import harness
from benchmarks.estimate import IMAGENET
from benchmarks.harness import table
from benchmarks.loading import SIZE, vaes, worker_seconds, workers
from benchmarks.model import Work
from examples.shared.views import NATURAL
from idaa_transforms import hub

BATCH = 32
NETWORKS = {"ResNet-50": "resnet50", "ViT-B/16": "vit_base_patch16_224"}
# Of one A100 with 80 GB, by its data sheet: bfloat16 operations and bytes a second; and bytes a second that it sends to
# its neighbours in one machine of eight, and to other machines.
FLOPS, MEMORY, INSIDE, OUTSIDE, GIGABYTES = 312e12, 2.0e12, 300e9, 25e9, 80
LATENCY = {1: 0.0, 8: 20e-6, 64: 60e-6}  # of one small message among so many, assumed
GPUS = (1, 8, 64)
HEADS = 2048 * (2048 + 2 * 2048) + 2 * 2048 * 512  # parameters of SimSiam's, which every process runs for all images

# Passes of the network, and of the VAE, for an image and a step: forward; back to the weights; back to the input alone;
# E forward, D forward, D back. Then how many passes forward are kept in memory at once, and how many views are cropped.
VIEWS: dict[str, tuple[dict[str, float], float, int]] = {
    "none": ({"forward": 2, "weights": 2}, 2, 2),
    "third": ({"forward": 3, "weights": 3}, 3, 3),
    "clae": ({"forward": 4, "weights": 3, "input": 1}, 3, 2),
    "idaa": ({"forward": 4, "weights": 3, "input": 1, "encode": 1, "decode": 2, "back": 1}, 3, 2),
    "idaa-grad": ({"forward": 3, "weights": 3, "input": 1, "encode": 1, "decode": 2, "back": 1}, 3, 2),
    # A closure's view in place of view 1, as the paper trains SimSiam on ImageNet.
    "idaa, --pair replace": ({"forward": 4, "weights": 2, "input": 1, "encode": 1, "decode": 2, "back": 1}, 3, 2),
    # Both views hard, from one gradient at half the resolution.
    "idaa-grad, --pair both --coarse": (
        {"forward": 2.5, "weights": 2, "input": 0.5, "encode": 2, "decode": 4, "back": 2},
        2,
        2,
    ),
}


class Part(NamedTuple):
    """Work for one image: operations, bytes that eager operators move, and seconds of the device."""

    flops: float
    moved: float
    seconds: float


class Counted(NamedTuple):
    """A network: its passes by name, bytes that a pass forward keeps for the way back, parameters and batch norms."""

    parts: dict[str, Part]
    kept: float
    parameters: int
    norms: list[int]


def _part(work: Work) -> Part:
    operators = torch.tensor(work.operators, dtype=torch.float64)
    seconds = (operators / torch.tensor([FLOPS, MEMORY])).amax(1).sum()
    return Part(*((value / BATCH).item() for value in (*operators.sum(0), seconds)))


@cache
def network(name: str) -> Counted:
    """Counted on a batch that is not there."""
    with torch.device("meta"):
        model = timm.create_model(NETWORKS[name], num_classes=0).to(torch.bfloat16)
        norms = [module.float() for module in model.modules() if isinstance(module, nn.BatchNorm2d)]  # as in autocast
        x = torch.empty(BATCH, 3, SIZE, SIZE, dtype=torch.bfloat16, requires_grad=True)
    weights = {p.untyped_storage()._cdata for p in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if (storage := tensor.untyped_storage()._cdata) not in weights:
            kept[storage] = tensor
        return tensor

    with Work() as forward, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = model(x)
    with Work() as to_weights:
        torch.autograd.grad(out.sum(), list(model.parameters()), retain_graph=True)
    with Work() as to_input:
        torch.autograd.grad(out.sum(), x)
    parts = {"forward": _part(forward), "weights": _part(to_weights), "input": _part(to_input)}
    memory = sum(tensor.untyped_storage().nbytes() for tensor in kept.values()) / BATCH
    return Counted(parts, memory, sum(p.numel() for p in model.parameters()), [norm.num_features for norm in norms])


@cache
def autoencoder() -> dict[str, Part]:
    """The VAE that --recipe imagenet takes, with the resampling to its size and back."""
    from idaa_transforms import IDAATransform

    stored, _ = hub.load(NATURAL)
    codec = IDAATransform(stored.to(torch.bfloat16), mean=stored.mean, std=stored.std).codec
    x = torch.zeros(BATCH, 3, SIZE, SIZE, dtype=torch.bfloat16)  # it is small enough to compute
    with Work() as encode:
        z = codec.encode(x)
    z = z.detach().requires_grad_()
    with Work() as decode:
        out = codec.decode(z, x.shape)
    with Work() as back:
        torch.autograd.grad(out.sum(), z)
    return {"encode": _part(encode), "decode": _part(decode), "back": _part(back)}


def step(name: str, view: str) -> Part:
    """Of a whole step, for one image."""
    passes, parts = VIEWS[view][0], network(name).parts | autoencoder()
    return Part(*(sum(many * parts[part][i] for part, many in passes.items()) for i in range(3)))


def messages(name: str, view: str, gpus: int, batch: int) -> tuple[int, float]:
    """Of one step on each of ``gpus`` with ``batch`` images each: how many, and bytes sent.

    The mean of gradients in float32, in a ring; features that are gathered, and their gradients summed; and of each
    batch norm the moments, in every pass forward and back."""
    if gpus == 1:
        return 0, 0.0
    counted, passes = network(name), VIEWS[view][0]
    forward, back = passes["forward"], passes["weights"] + passes.get("input", 0)
    width = 2048 if counted.norms else 768
    ring = 2 * (gpus - 1) / gpus * 4 * (counted.parameters + HEADS)
    features = (forward + 2 * back) * (gpus - 1) * batch * width * 4
    moments = sum(2 * 4 * channels * (gpus - 1) for channels in counted.norms) * (forward + 2 * back)
    return 1 + round((1 + len(counted.norms)) * (forward + back)), ring + features + moments


def memory(name: str, view: str, batch: int) -> float:
    """Bytes on each GPU: weights, gradients and momentum in float32, and what passes keep in bfloat16."""
    counted = network(name)
    return 3 * 4 * (counted.parameters + HEADS) + VIEWS[view][1] * batch * counted.kept


def work() -> str:
    """Of one image in a step."""
    lines = []
    for name in NETWORKS:
        plain = step(name, "none")
        for view in VIEWS:
            each, kept = step(name, view), VIEWS[view][1] * network(name).kept
            numbers = f"{each.flops / 1e9:.1f}", f"{each.flops / plain.flops:.2f}", f"{each.moved / 1e6:.0f}"
            lines.append([name, f"`{view}`", *numbers, f"{each.seconds / plain.seconds:.2f}", f"{kept / 1e6:.0f}"])
    header = [
        "network",
        "view",
        "GFLOP",
        "over `none`",
        "MB moved",
        "least time over `none`",
        "MB kept for the way back",
    ]
    return table(header, lines)


class Run(NamedTuple):
    """Of ``gpus`` GPUs, a step: milliseconds of computing and of sending; images a second; GB on each."""

    computing: float
    sending: float
    rate: float
    held: float


@cache
def run(name: str, view: str, many: int) -> Run:
    """Batches of 256 on one GPU and on one machine of eight; 32 images on each of more."""
    batch = 256 // min(many, 8)
    passes = VIEWS[view][0]
    heads = 2 * HEADS * (passes["forward"] + 2 * passes["weights"]) * batch * many
    computing = step(name, view).seconds * batch + heads / FLOPS
    count, sent = messages(name, view, many, batch)
    sending = sent / (INSIDE if many <= 8 else OUTSIDE) + count * LATENCY[many]
    return Run(1e3 * computing, 1e3 * sending, many * batch / (computing + sending), memory(name, view, batch) / 1e9)


def gpus() -> str:
    """How fast 1, 8 and 64 GPUs could be."""
    lines = []
    for name in NETWORKS:
        for view in VIEWS:
            runs = [run(name, view, many) for many in GPUS]
            hours = [f"{IMAGENET.images / each.rate / 3600:.1f}" for each in runs]
            cores = [f"{each.rate * worker_seconds(VIEWS[view][2]):.0f}" for each in runs]
            rates, held = [f"{each.rate:,.0f}" for each in runs], [f"{each.held:.0f}" for each in runs[:2]]
            lines.append([name, f"`{view}`", *(" / ".join(part) for part in (rates, hours, held, cores))])
    counts = " / ".join(map(str, GPUS))
    header = ["network", "view", f"images a second, {counts} GPUs", "hours of 100 epochs"]
    return table([*header, "GB on each of 1 / 8", "cores that decode"], lines)


def sending() -> str:
    """What goes over the network in a step."""
    lines = []
    for name in NETWORKS:
        for view in VIEWS:
            row = [name, f"`{view}`"]
            for many in GPUS[1:]:
                count, sent = messages(name, view, many, 256 // 8)
                each = run(name, view, many)
                row += [f"{sent / 1e6:.0f}", str(count), f"{each.sending:.0f} of {each.sending + each.computing:.0f}"]
            lines.append(row)
    header = [f"{what}, {many} GPUs" for many in GPUS[1:] for what in ("MB each sends", "messages", "ms of a step")]
    return table(["network", "view", *header], lines)


def error() -> str:
    """Measured time over the model's, for each part, on the machines where both are known."""
    lines = []
    for file in sorted((harness.RESULTS / "speed").glob("*-model.json")):
        result = json.loads(file.read_text())
        ratios: dict[str, list[float]] = {}
        for row in result["rows"]:
            if row["case"] != "machine":
                ratios.setdefault(row["case"], []).append(row["ms"]["min"] / row["predicted_ms"])
        for case, found in ratios.items():
            spread = f"{min(found):.2f}" if len(found) == 1 else f"{min(found):.2f} to {max(found):.2f}"
            lines.append([case, spread, result["run"]["machine"], result["run"]["commit"]])
    return table(["part, ResNet-18 at 32x32", "measured over least time", "machine", "commit"], lines)


TABLES = {f"scale-{part.__name__}": part for part in (work, gpus, sending, error, workers, vaes)}
