"""Labelled images in a small file: all of a set as one JPEG, for a machine to which little can be sent.

    python -m examples.shared.packed data/cifar10.npz data/cifar10-jpeg.npz --quality 94

It is read wherever an .npz of images is, and results say that the images were compressed. Each block of JPEG lies
within one image, and colours are stored at full resolution, so no image leaves anything in its neighbours.
"""

from __future__ import annotations

import argparse
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg

from idaa_transforms.training.images import Images

MOST = 65_500  # pixels of a side


def pack(images: Tensor, quality: int) -> Tensor:
    """One JPEG, bytes (N,), of uint8 images (B, 3, S, S), row by row in a large one.

    Raises:
        ValueError: S is no multiple of 8.
    """
    many, channels, size, _ = images.shape
    if size % 8:
        raise ValueError(f"JPEG has blocks of 8 pixels, which images of {size} do not fill")
    columns = -(-many // (MOST // size))
    rows = -(-many // columns)
    blank = images.new_zeros(rows * columns - many, *images.shape[1:])
    table = torch.cat([images, blank]).view(rows, columns, channels, size, size)
    table = table.permute(0, 3, 1, 4, 2).reshape(rows * size, columns * size, channels)
    file = io.BytesIO()
    Image.fromarray(table.numpy()).save(file, "JPEG", quality=quality, subsampling=0, optimize=True)
    return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)


def unpack(jpeg: Tensor, many: int, size: int) -> Tensor:
    """What :func:`pack` packed."""
    table = decode_jpeg(jpeg, ImageReadMode.RGB)
    rows, columns = (side // size for side in table.shape[1:])
    images = table.view(3, rows, size, columns, size).permute(1, 3, 0, 2, 4)
    return images.reshape(-1, 3, size, size)[:many].contiguous()


def is_packed(file: Path) -> bool:
    """Whether an .npz holds such images."""
    if file.suffix != ".npz" or not file.exists():
        return False
    with np.load(file) as arrays:
        return "jpeg_train" in arrays


def read(file: Path) -> Images:
    """The images and labels of a packed file."""
    parts: dict[str, Any] = {}
    with np.load(file) as arrays:
        for part in ("train", "test"):
            labels = torch.from_numpy(arrays[f"y_{part}"]).long()
            parts[part] = unpack(torch.from_numpy(arrays[f"jpeg_{part}"]), len(labels), int(arrays["size"])), labels
        name = f"{file.name}, JPEG of quality {arrays['quality']}, PSNR {arrays['psnr']:.1f} dB"
    (train, taught), (test, known) = parts["train"], parts["test"]
    return Images(train, test, name, taught, known)


def main() -> None:
    """Pack, measure what was lost, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="an .npz with x_train, y_train, x_test, y_test")
    parser.add_argument("out", type=Path)
    parser.add_argument("--quality", type=int, default=94)
    args = parser.parse_args()
    kept: dict[str, Any] = {"quality": args.quality}
    errors = []
    with np.load(args.data) as arrays:
        for part in ("train", "test"):
            images = torch.from_numpy(arrays[f"x_{part}"]).permute(0, 3, 1, 2)
            jpeg = pack(images, args.quality)
            errors.append((unpack(jpeg, len(images), images.shape[-1]).float() - images).square().mean((1, 2, 3)))
            kept |= {f"jpeg_{part}": jpeg.numpy(), f"y_{part}": arrays[f"y_{part}"], "size": images.shape[-1]}
    kept["psnr"] = 10 * math.log10(255**2 / torch.cat(errors).mean().item())
    np.savez(args.out, **kept)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, PSNR {kept['psnr']:.2f} dB")


if __name__ == "__main__":
    main()
