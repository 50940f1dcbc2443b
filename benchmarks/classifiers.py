"""Train the two classifiers that come with the package, and write their folders and cards.

    python -m benchmarks.classifiers cifar10-classifier data/cifar10.npz
    python -m benchmarks.classifiers cifar10-reference data/cifar10.npz

They differ in shape and seed. The recipe is that of benchmarks/reference_models.py: one-cycle SGD, bfloat16 autocast
where the machine has it; crops, flips, colours, erased patches. Writes weights/NAME.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn.functional import cross_entropy

from benchmarks.reference_models import nesterov, optimise, supervised_augmentation
from idaa_transforms._util.files import write_json, write_whole
from idaa_transforms._util.precision import has_bfloat16
from idaa_transforms._util.provenance import provenance
from idaa_transforms.hub.folder import CONFIG, FORMAT_VERSION, WEIGHTS
from idaa_transforms.measure.classifiers import Classifier
from idaa_transforms.sample import CLASSES

KINDS: dict[str, dict[str, Any]] = {
    "cifar10-classifier": {"widths": (32, 64, 128), "stride": 2, "seed": 0},
    "cifar10-reference": {"widths": (24, 64, 160), "stride": 2, "seed": 1},
}
ABOUT = {
    "cifar10-classifier": "The network that `idaa app` attacks by default.",
    "cifar10-reference": "The reference model of `idaa app`: it classifies images and views, and is not attacked.",
}


def train(name: str, images: Tensor, labels: Tensor, epochs: int) -> Classifier:
    """The classifier ``name``, trained on images uint8 (N, 3, 32, 32)."""
    kind = KINDS[name]
    torch.manual_seed(kind["seed"])
    network = Classifier(kind["widths"], kind["stride"], CLASSES).to(memory_format=torch.channels_last)
    augment = supervised_augmentation()

    def loss_of(rows: Tensor) -> Tensor:
        x = augment(images[rows].float() / 255).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16("cpu")):
            scores = network(x)
        return cross_entropy(scores.float(), labels[rows], label_smoothing=0.1)

    optimise(nesterov(network.parameters()), loss_of, len(images), epochs, batch_size=256)
    return network.eval()


@torch.no_grad()
def accuracy(network: Classifier, images: Tensor, labels: Tensor) -> float:
    """The share of images uint8 (N, 3, H, W) whose class it says."""
    right = [network(x.float() / 255).argmax(1) == y for x, y in zip(images.split(500), labels.split(500), strict=True)]
    return torch.cat(right).float().mean().item()


def publish(name: str, network: Classifier, about: dict[str, Any], out: Path) -> None:
    """Write config, weights in float16 and card to ``out / name``."""
    content = save({k: v.contiguous() for k, v in stored(network).items()}, metadata={"format": "pt"})
    digest = hashlib.sha256(content).hexdigest()
    config = {"format_version": FORMAT_VERSION, "library_name": "idaa_transforms", "classifier": network.config}
    write_whole(out / name / WEIGHTS, content)
    write_json(out / name / CONFIG, config | {"weights_sha256": digest} | about)
    write_whole(out / name / "README.md", card(name, network, about))
    print(f"{name}: {about['accuracy']:.4f} of {about['test_images']} test images right, sha256 {digest}")


def stored(network: Classifier) -> dict[str, Tensor]:
    """Its weights, floats as float16."""
    return {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}


def card(name: str, network: Classifier, about: dict[str, Any]) -> str:
    """The model card."""
    parameters = sum(p.numel() for p in network.parameters())
    run = "".join(f"| {key} | {f'`{value}`' if key == 'command' else value} |\n" for key, value in about["run"].items())
    return f"""---
license: apache-2.0
library_name: idaa_transforms
tags: [image-classification, data-augmentation]
---

# {name}

{ABOUT[name]}

```python
from idaa_transforms.measure import load_model

network = load_model("{name}", logits=True)  # (B, 3, H, W) in [0, 1] to scores of ten classes
```

A residual network of one block a stage, {network.config["widths"]} channels, {parameters:,} parameters, stored as
float16. It resizes every image to 32x32. Trained on the 50,000 training images of CIFAR-10 (Krizhevsky, 2009; no
terms are stated with the images) for {about["epochs"]} epochs: one-cycle SGD, batches of 256, crops, flips, colours,
erased patches, label smoothing 0.1, seed {KINDS[name]["seed"]}.

**Right on {100 * about["accuracy"]:.1f} % of the {about["test_images"]:,} test images**, with the weights as stored.
There are far better networks; this one is small enough to come with the package. It knows ten classes, and gives one
of them for any picture.

| run | |
|---|---|
{run}"""


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=KINDS)
    parser.add_argument("data", help="CIFAR-10 as an .npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("weights"))
    args = parser.parse_args()
    run = provenance()  # of the commit that it starts at
    with np.load(args.data) as data:
        x, y, x_test, y_test = (torch.from_numpy(data[k]) for k in ("x_train", "y_train", "x_test", "y_test"))
    network = train(args.name, x.permute(0, 3, 1, 2).contiguous(), y, args.epochs)
    network.load_state_dict(stored(network))
    share = accuracy(network, x_test.permute(0, 3, 1, 2).contiguous(), y_test)
    about = {"accuracy": share, "test_images": len(y_test), "epochs": args.epochs, "run": run}
    publish(args.name, network, about, args.out)


if __name__ == "__main__":
    main()
