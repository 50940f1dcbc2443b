"""Autoencoders for natural images of 224 pixels: what identity their views keep at equal hardness, and what they cost.

    python -m benchmarks.natural data/imagenet1k-one-each.npz --mobilenet FILE --efficientnet FILE --taef2 FILE
    python -m benchmarks.natural ... --weights runs/vae-a runs/vae-b --images 250      # of a study

One photograph of each ImageNet class; NT-Xent (T = 0.5) against the flipped image, batches of 25. MobileNetV2 is
attacked and EfficientNet-Lite0 says the class, then the other way round; CLAE's step in the pixels stands beside. eps
doubles until the loss has risen by 0.2. Time is a view by grad= of 32 images, all side by side. Writes
results/natural.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import harness, reference_models
from benchmarks.identity_report import at_gain
from benchmarks.taef2 import taef2
from idaa_transforms import CLAETransform, IDAATransform, hub, objectives
from idaa_transforms.measure.identity import IdentityMeter
from idaa_transforms.training.images import load_images

GAINS = (0.1, 0.2)


def at_one_eps(aug: Any, batches: Iterable[Tensor], embed: Any, reference: nn.Module) -> dict[str, float]:
    """How much views of all batches raise NT-Xent against the flipped image, and what identity they keep."""
    meter = IdentityMeter(reference, logits=True)
    for images in batches:
        with torch.no_grad():
            loss_fn = objectives.simclr(embed, embed(images.flip(-1)))
        found = aug.explain(images, loss_fn=loss_fn)
        meter.update(images, found.views, losses=(found.loss_before, found.loss_after))
    return {name: meter.compute()[name] for name in ("gain", "l2", "prediction_agreement")}


def measure(make: Any, first: float, x: Tensor, embed: Any, reference: nn.Module) -> dict[str, Any]:
    """A row for each eps, from ``first`` on, and the share of classes kept at equal hardness."""
    rows: list[dict[str, float]] = []
    for eps in (first * 2**i for i in range(10)):
        rows.append({"eps": eps} | at_one_eps(make(eps), x.split(25), embed, reference))
        if rows[-1]["gain"] >= max(GAINS):
            break
    kept = lambda row: row["prediction_agreement"]  # noqa: E731
    return {"rows": rows, "at_gain": {str(gain): at_gain(rows, gain, kept, 1.0) for gain in GAINS}}


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--mobilenet", type=Path, required=True)
    parser.add_argument("--efficientnet", type=Path, required=True)
    parser.add_argument("--taef2", type=Path)
    parser.add_argument("--weights", nargs="*", default=["natural-vae", "cifar10-vae"])
    parser.add_argument("--no-clae", action="store_true")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--out", default="natural", help="name of the result")
    args = parser.parse_args()
    x = load_images(args.data, only="test", limit=args.images).test.float() / 255
    sources = {name: hub.load(name)[0] for name in args.weights}
    firsts = dict.fromkeys(args.weights, 0.1)
    if args.taef2:
        sources["TAEF2"], firsts["TAEF2"] = taef2(args.taef2), 0.01
    makers: dict[str, Any] = {
        name: lambda eps, one=one: IDAATransform(one, eps).to(memory_format=torch.channels_last)
        for name, one in sources.items()
    }
    batch = x[:32].contiguous(memory_format=torch.channels_last)
    gradient = torch.randn_like(batch)
    views = {name: make(0.1) for name, make in makers.items()}
    cases = {name: lambda aug=aug: aug(batch, grad=gradient) for name, aug in views.items()}
    times = harness.measure(cases, 5, "cpu", warmup=1) if cases else {}
    if not args.no_clae:
        makers["CLAE"], firsts["CLAE"] = CLAETransform, 0.0005
    pairs = {
        "efficientnet": (
            reference_models.mobilenet(args.mobilenet, None),
            reference_models.efficientnet(args.efficientnet, logits=True),
        ),
        "mobilenet": (
            reference_models.efficientnet(args.efficientnet),
            reference_models.mobilenet(args.mobilenet, None, logits=True),
        ),
    }
    rows = []
    for name, make in makers.items():
        row: dict[str, Any] = {"autoencoder": name}
        if name in sources:
            numbers = sum(p.numel() for p in sources[name].parameters())
            row |= {"ms": times[name], "parameters": numbers, "config": getattr(sources[name], "config", None)}
        row |= {model: measure(make, firsts[name], x, *pair) for model, pair in pairs.items()}
        rows.append(row)
        print(name, row.get("ms", {}).get("median"), [row[model]["at_gain"] for model in pairs], flush=True)
    harness.save(args.out, {"data": Path(args.data).name, "images": len(x), "batch": 32}, rows)


if __name__ == "__main__":
    main()
