"""Options and checks that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def check_device(name: str) -> torch.device:
    """The device ``name``, after a test.

    Raises:
        ValueError: this machine does not have it, or there is no such kind.
    """
    import torch

    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        there = ", ".join(["cpu", *(f"cuda:{i}" for i in range(count))])
        reason = str(error).partition("\n")[0]
        raise ValueError(f"--device {name} cannot be used here ({reason}); available: {there}") from error
    return device


def where(args: argparse.Namespace) -> Any:
    """Revision and subfolder of the weights that a command names."""
    return {"revision": args.revision, "subfolder": args.subfolder}


def images_for(autoencoder: Any, args: argparse.Namespace, **options: Any) -> Tensor:
    """Test images of ``args.data``, uint8 (N, C, H, W), in the size and with the channels that ``autoencoder`` takes.

    A command with ``--image-size`` gets them in that size or their own, since views can have any size. Grey images are
    repeated to three channels for an autoencoder of colour images, and colour images become grey for one of grey ones.
    """
    from torchvision.transforms.v2 import functional

    from ..training.images import load_images

    size, channels = getattr(autoencoder, "image_size", None), len(autoencoder.mean)
    if size is not None and len(size) == 1:
        raise ValueError(
            f"the weights {args.weights} are for signals, and this command reads images; measure signals in Python, "
            "with IdentityMeter and calibrate of idaa_transforms.measure"
        )
    options |= {"skip_bad": args.skip_bad, "split": args.split, "column": args.column, "revision": args.data_revision}
    if hasattr(args, "image_size"):
        images = load_images(args.data, args.image_size, **options).test
    else:
        arrays = args.data.lower().endswith((".npz", ".npy"))
        at_once = None if size is None or (arrays and size[0] != size[1]) else max(size)
        images = load_images(args.data, at_once, **options).test
        if size is not None and tuple(images.shape[2:]) != tuple(size):
            images = _fit(images, size)
    if images.shape[1] == 3 and channels == 1:
        images = functional.rgb_to_grayscale(images)
    elif images.shape[1] == 1 and channels == 3:
        images = images.expand(-1, 3, -1, -1)
    if images.shape[1] != channels:
        raise ValueError(
            f"images of {args.data} have {images.shape[1]} channels, and the weights {args.weights} take {channels}; "
            f"train your own: idaa train-vae {args.data} --out my-vae"
        )
    return images


def _fit(images: Tensor, size: tuple[int, int]) -> Tensor:
    """``images`` resized so that they cover ``size``, and cropped to their middle."""
    from torchvision.transforms.v2 import functional

    height, width = images.shape[2:]
    factor = max(size[0] / height, size[1] / width)
    cover = [max(size[0], round(height * factor)), max(size[1], round(width * factor))]
    return functional.center_crop(functional.resize(images, cover, antialias=True), list(size))


def loads_it(folder: Path) -> str:
    """The line that says how to use the weights in ``folder``, as a path that cannot be taken for a name."""
    path = str(folder)
    if not folder.is_absolute() and path == folder.name:
        path = f"./{path}"
    return f"IDAATransform.from_pretrained({path!r}) loads it"


def show(measured: dict[str, float]) -> None:
    """Names and numbers, a line each."""
    for name, value in measured.items():
        print(f"{name:10} {value:.4f}")
