"""Images of many kinds to train a VAE on, in one file: clothing, flowers, land from above, CIFAR-100.

    python -m benchmarks.mixture data --out data/natural.npz

Sets whose terms allow research only (Tiny ImageNet, DTD) are left out, so that such weights can be shipped. Each image
is 64x64: those of 128 pixels give three random crops of a quarter to the whole of their area, those of 32 are enlarged.
Test images are the first 256 of each set's own.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torchvision.transforms import v2

from idaa_transforms.training.images import load_images

SIZE = 64
SETS = {"clothing128": 3, "flowers5": 2, "eurosat": 1, "cifar100": 0.3}
"""How often each training image comes."""


def copies(images: Tensor, times: float) -> Tensor:
    """uint8 (N, 3, H, W) to (N * times, 3, SIZE, SIZE); the first copy whole, the others cropped at random."""
    whole = v2.functional.resize(images[: int(len(images) * min(times, 1))], [SIZE] * 2, v2.InterpolationMode.BICUBIC)
    crop = v2.RandomResizedCrop(SIZE, scale=(0.25, 1.0), interpolation=v2.InterpolationMode.BICUBIC)
    more = [torch.stack([crop(image) for image in images]) for _ in range(int(times) - 1)]
    return torch.cat([whole, *more])


def main() -> None:
    """Write the file."""
    import numpy as np

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="has clothing128.npz, flowers5.npz, eurosat.npz, cifar100.npz")
    parser.add_argument("--out", type=Path, default=Path("data/natural.npz"))
    args = parser.parse_args()
    torch.manual_seed(0)
    train, test = [], []
    for name, times in SETS.items():
        found = load_images(str(args.folder / f"{name}.npz"))
        assert isinstance(found.train, Tensor)
        train.append(copies(found.train, times))
        test.append(copies(found.test[:256], 1))
        print(f"{name}: {len(train[-1])} training images")
    arrays = {"x_train": torch.cat(train), "x_test": torch.cat(test)}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(args.out, **{key: value.permute(0, 2, 3, 1).numpy() for key, value in arrays.items()})


if __name__ == "__main__":
    main()
