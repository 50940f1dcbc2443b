"""The VAE for small networks beside the large one: what identity a view costs at equal hardness, and what time.

    python -m benchmarks.small_vae data/cifar10.npz --resnet20 FILE --mobilenet FILE

1,000 test images of CIFAR-10; NT-Xent (T = 0.5) against the flipped image, batches of 250. MobileNetV2 is attacked and
a ResNet-20 says the class; then the other way round, and MobileNetV2's features find the image again. Time is a
view by grad= at B = 128, in milliseconds. Writes results/small-vae.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import harness, judges
from idaa_transforms import IDAATransform, objectives
from idaa_transforms.measure.identity import IdentityMeter

EPS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8)
GAINS = (0.1, 0.2, 0.4)


def at_gain(rows: list[dict[str, float]], key: str, gain: float) -> float:
    """``key`` where the attacked loss has risen by ``gain``, between the two nearest eps; 1 where nothing has moved."""
    gains = [0.0, *(row["gain"] for row in rows)]
    if gain > gains[-1]:
        raise ValueError(f"{key}: the views raised the loss by {gains[-1]:g} at most; {gain:g} needs a larger eps")
    return float(np.interp(gain, gains, [1.0, *(row[key] for row in rows)]))


def at_one_eps(
    aug: Any, batches: Iterable[tuple[Tensor, Tensor | None]], embed: Any, judge: nn.Module, key: str
) -> dict[str, float]:
    """How much views of all batches, images and labels if the ``judge`` needs them, raise NT-Xent against the flipped
    image, how far they are from x, and the judge's ``key``."""
    meter = IdentityMeter(judge, logits=key != "retrieval_at_1")
    for images, truth in batches:
        with torch.no_grad():
            loss_fn = objectives.simclr(embed, embed(images.flip(-1)))
        found = aug.explain(images, loss_fn=loss_fn)
        losses = found.loss_before, found.loss_after
        meter.update(images, found.views, labels=truth if meter.logits else None, losses=losses)
    return {name: meter.compute()[name] for name in ("gain", "l2", key)}


def measure(weights: str, x: Tensor, labels: Tensor, embed: Any, judge: nn.Module, key: str) -> dict[str, Any]:
    """The judge's ``key`` for each eps, and at equal hardness."""
    rows = []
    for eps in EPS:
        aug = IDAATransform.from_pretrained(weights, eps)
        batches = zip(x.split(250), labels.split(250), strict=True)
        rows.append({"eps": eps} | at_one_eps(aug, batches, embed, judge, key))
    return {"measure": key, "rows": rows, "at_gain": {str(gain): at_gain(rows, key, gain) for gain in GAINS}}


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--resnet20", type=Path, required=True)
    parser.add_argument("--mobilenet", type=Path, required=True)
    parser.add_argument("--weights", nargs="+", default=["cifar10-vae", "cifar10-vae-small"])
    args = parser.parse_args()
    with np.load(args.data) as data:
        order = np.random.default_rng(0).permutation(len(data["x_test"]))[:1000]
        x, labels = torch.from_numpy(data["x_test"][order]), torch.from_numpy(data["y_test"][order])
    x = x.permute(0, 3, 1, 2).float().div(255).contiguous()
    resnet20, mobilenet = judges.resnet20(args.resnet20), judges.mobilenet(args.mobilenet)
    *normalise, network = resnet20
    features = lambda v: network.features(nn.Sequential(*normalise)(v))  # noqa: E731
    rows = []
    views = {
        weights: IDAATransform.from_pretrained(weights).to(memory_format=torch.channels_last)
        for weights in args.weights
    }
    batch = x[:128].contiguous(memory_format=torch.channels_last)
    gradient = torch.randn_like(batch)
    cases = {weights: lambda aug=aug: aug(batch, grad=gradient) for weights, aug in views.items()}
    times = harness.measure(cases, 9, "cpu")
    for weights in args.weights:
        kept = measure(weights, x, labels, mobilenet, resnet20, "label_agreement")
        found = measure(weights, x, labels, features, mobilenet, "retrieval_at_1")
        rows.append({"weights": weights, "ms": times[weights], "resnet20": kept, "mobilenet": found})
    harness.save("small-vae", {"images": len(x), "batch": 128}, rows)
    for row in rows:
        print(row["weights"], row["ms"]["median"], row["resnet20"]["at_gain"], row["mobilenet"]["at_gain"])


if __name__ == "__main__":
    main()
