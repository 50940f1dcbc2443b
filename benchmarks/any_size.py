"""Hard views of images of every size, of one channel and of five, as a picture.

    python -m benchmarks.any_size --weights cifar10-vae

Photographs of 32 pixels are the bundled ones of CIFAR-10; of 64 and 96, clothing128 (CC0) scaled down; of 224 and 512,
one by the US Navy that comes with matplotlib. One channel: spectrograms of spoken digits, fsdd. Five channels: cells as
a microscope with five stains might show them, drawn here at random; the picture has the first three, as colours. These
two get VAEs of their own, trained here in minutes by ``idaa train-vae`` and kept in runs/.

The attacked network is a ResNet-18 without training, by NT-Xent against the flipped images. eps is the weights' own.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional

from benchmarks.harness import RESULTS
from idaa_transforms import IDAATransform, objectives
from idaa_transforms.cli import main as idaa
from idaa_transforms.core.attack import Explanation
from idaa_transforms.training.images import load_images
from idaa_transforms._util.pictures import save_grid
from idaa_transforms.sample import cifar10_sample

BATCH = 8  # one of them is shown, the others are its negatives
RECIPE = ["--latent-dim", "256", "--width", "32", "--epochs", "20", "--batch-size", "32", "--lr", "0.001"]


def photographs(size: int, data: Path) -> Tensor:
    """(BATCH, 3, size, size) in [0, 1]; the first one has detail up to that size."""
    if size == 32:
        return cifar10_sample()[0][:BATCH]
    clothes = load_images(str(data / "clothing128.npz"), only="test", limit=BATCH).test
    images = functional.resize(clothes, [size, size], antialias=True).float() / 255
    if size < 128:
        return images
    import matplotlib.cbook

    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        whole = functional.pil_to_tensor(Image.open(file).convert("RGB"))[:, :512, :512]
    images[0] = functional.resize(whole, [size, size], antialias=True).float() / 255
    return images


def cells(count: int, size: int = 64, seed: int = 0) -> np.ndarray:
    """Drawn cells, uint8 (count, size, size, 5): nuclei, cell bodies, grains around nuclei, membranes, fibres."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    images = np.zeros((count, size, size, 5))
    for image in images:
        for _ in range(random.integers(2, 6)):
            (cy, cx), radius = random.uniform(0, size, 2), random.uniform(8, 14)
            turn, flat, wave = random.uniform(0, np.pi), random.uniform(0.6, 1), random.uniform(0, 2 * np.pi)
            along = np.cos(turn) * (x - cx) + np.sin(turn) * (y - cy)
            across = (np.cos(turn) * (y - cy) - np.sin(turn) * (x - cx)) / flat
            distance = np.hypot(along, across) / radius
            body = 1 / (1 + np.exp(12 * (distance - 1)))
            image[..., 0] += 0.9 / (1 + np.exp(20 * (distance - 0.45)))
            image[..., 1] += 0.6 * body
            image[..., 2] += body * (distance > 0.45) * random.uniform(0, 1, (size, size)) ** 3
            image[..., 3] += 0.8 * np.exp(-((distance - 1) ** 2) / 0.01)
            image[..., 4] += body * (0.5 + 0.5 * np.sin(1.3 * along + wave)) ** 4
    noisy = images.clip(0, 1) + random.normal(0, 0.02, images.shape)
    return (255 * noisy.clip(0, 1)).round().astype(np.uint8)


def trained(data: Path, folder: Path) -> tuple[Tensor, str]:
    """Test images of ``data``, and the folder of a VAE that is trained on it where there is none yet."""
    idaa(["train-vae", str(data), "--out", str(folder), *RECIPE])
    return load_images(str(data), only="test", limit=BATCH).test.float() / 255, str(folder.resolve())


def views(x: Tensor, weights: str) -> Explanation:
    """Hard views of ``x``, and what led to them."""
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=64, in_chans=x.shape[1]).train()
    with torch.no_grad():
        anchor = model(x.flip(-1))
    return IDAATransform.from_pretrained(weights).explain(x, loss_fn=objectives.simclr(model, anchor))


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="cifar10-vae", help="of the photographs: a name or a folder")
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of fsdd.npz and clothing128.npz")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the VAEs that are trained here")
    parser.add_argument("--out", type=Path, default=RESULTS / "any-size.png")
    args = parser.parse_args()
    args.runs.mkdir(exist_ok=True)
    drawn = args.runs / "cells.npz"
    np.savez(drawn, x_train=cells(2000), x_test=cells(100, seed=1))
    columns = {f"{size} pixels": (photographs(size, args.data), args.weights) for size in (32, 64, 96, 224, 512)}
    columns["one channel"] = trained(args.data / "fsdd.npz", args.runs / "digits-vae")
    columns["five channels"] = trained(drawn, args.runs / "cells-vae")
    rows: dict[str, list[Tensor]] = {}
    for x, weights in columns.values():
        found = views(x, weights)
        for label, images in {
            "x": x,
            "G(x)": found.reconstruction,
            "R(x) + 0.5": found.residual + 0.5,
            "hard view x'": found.views,
            "8 |x' - x|": 8 * (found.views - x).abs(),
        }.items():
            rows.setdefault(label, []).append(images[0])
    save_grid(rows, args.out, f"{args.weights}; VAEs of their own for one channel and five", list(columns))
    Image.open(args.out).convert("RGB").quantize(256).save(args.out, optimize=True)  # a third of the bytes
    print(f"{args.out}: {args.out.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
