"""The default eps of the shipped weights: the largest of a few that keeps 95 % of identity by the supervised judge.

    python -m benchmarks.defaults data --resnet20 FILE [--images 1000]

The attacked network, loss, images and judge are those of identity.py: the judge has to predict the same class where it
knows the classes (CIFAR-10), and elsewhere to find the image again by its features. Writes weights/*/config.json; the
judges on which identity.py reports besides, SimCLR's and MobileNetV2's features, have no say here.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from idaa_transforms import IDAATransform, hub
from idaa_transforms.measure.calibration import calibrate

from . import judges
from .identity import Bench

DATA = {"cifar10-vae": "cifar10", "cifar10-vae-z128": "cifar10", "cifar100-vae": "cifar100"}
DATA["tiny-imagenet-vae"] = "tiny-imagenet"
EPS = (0.05, 0.1, 0.15, 0.2)


def main() -> None:
    """Calibrate each, save, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--resnet20", type=Path, required=True, help="the attacked network")
    parser.add_argument("--judges", type=Path, default=Path("runs/judges"))
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--weights", nargs="+", default=list(DATA), choices=DATA)
    args = parser.parse_args()
    attacked, judge = judges.resnet20(args.resnet20), judges.trained(args.judges / "supervised.safetensors")
    results = []
    for weights in args.weights:
        data = DATA[weights]
        bench = Bench(args.data / f"{data}.npz", args.images, attacked, {"supervised": judge})
        aug = IDAATransform.from_pretrained(weights)
        found = calibrate(aug, bench.x, bench.loss, bench.meters["supervised"], values=EPS, refine=0)
        reference = "reference model: supervised, of benchmarks/judges.py"
        about = f"{args.images} test images of {data}; attacked: ResNet-20; {reference}"
        results.append((hub.find(weights), found, about))
        kept = ", ".join(f"{row['eps']:g}: {row[found.measure]:.3f}" for row in found.curve)
        print(f"{weights}: {found} ({kept})", flush=True)
    for folder, found, about in results:  # at the end: what is saved makes the checkout differ from its commit
        found.save(folder, about)


if __name__ == "__main__":
    main()
