"""Commands that make and measure autoencoders."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from .common import check_device, images_for, loads_it, show, where


def train_vae(args: argparse.Namespace) -> None:
    """Train a VAE on your own images, or signals, and write a folder that from_pretrained reads.

    The same command goes on where a run was interrupted, and ends with the same weights. Under torchrun it uses all
    the processes.
    """
    import torch

    from ..autoencoders.conv import ConvVAE, authors_beta
    from ..training.card import is_published, publish
    from ..training.run import own_device
    from ..training.vae import Recipe, train_vae

    check_device(args.device)
    device = own_device(args.device)
    recipe = Recipe(args.epochs, args.batch_size, args.lr, seed=args.seed, bf16=args.bf16).on(device)
    images = _data(args)
    first = int(os.environ.get("RANK", 0)) == 0
    if first:
        print(images.found)
    channels, *size = images.test.shape[1:]
    mean, std = _statistics(args.statistics, images, channels)
    beta = authors_beta(size, args.latent_dim) if args.beta is None else args.beta
    torch.manual_seed(args.seed)
    shape = {"channels": channels, "width": args.width, "depth": args.depth, "spatial": args.spatial}
    vae = ConvVAE(size, args.latent_dim, **shape, mean=mean, std=std, beta=beta)
    vae = vae.to(device).to(memory_format=torch.channels_last)
    options = {"stop_after": args.stop_after, "compile": args.compile, "tensorboard": args.tensorboard}
    try:
        done = train_vae(vae, images, recipe, args.out, workers=args.workers, **options)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_how_to_go_on(args.out)) from None
    if done < args.epochs or not first:
        return
    if is_published(args.out, vae):
        print(f"this run is finished ({done} epochs), and nothing was written. {loads_it(args.out)}")
        return
    show(publish(vae, images, recipe, args.out, name=args.name or args.out.resolve().name, about=args.about))
    print(f"\n{loads_it(args.out)}")


def _data(args: argparse.Namespace) -> Any:
    from ..training.data import load_images
    from ..training.signals import load_signals

    if args.signals:
        of_images = {"--image-size": args.image_size, "--channels": args.channels, "--skip-bad": args.skip_bad}
        if said := [option for option, value in of_images.items() if value]:
            raise ValueError(f"{said[0]} is of images, and --signals says that these are none; leave one of them out")
        return load_signals(args.data, args.signals)
    reading = {"channels": args.channels, "skip_bad": args.skip_bad, "exclude": [args.out]}
    return load_images(args.data, args.image_size, args.root, args.workers, **reading)


def _statistics(choice: str | None, images: Any, channels: int) -> tuple[list[float], list[float]]:
    """What images are normalised by: known numbers for grey and RGB, measured ones for other channels and signals."""
    from torch import Tensor

    from ..autoencoders.conv import CIFAR_STATISTICS, IMAGENET_STATISTICS
    from ..training.data import statistics

    if channels in (1, 3) and images.test.ndim == 4:
        cifar = choice == "cifar" or (choice is None and "cifar" in images.name.lower())
        mean, std = CIFAR_STATISTICS if cifar else IMAGENET_STATISTICS
        return list(mean[:channels]), list(std[:channels])
    return statistics(images.train if isinstance(images.train, Tensor) else images.test)


def _how_to_go_on(folder: Path) -> str:
    from ..training.run import CHECKPOINT, load_checkpoint

    checkpoint = folder / CHECKPOINT
    if not checkpoint.exists():
        return "stopped before the first epoch was done; nothing is lost but that, and the same command begins anew"
    done = load_checkpoint(checkpoint).get("epoch")
    return f"stopped; {checkpoint} has what {done} epochs have learned, and the same command goes on from there"


def eval_vae(args: argparse.Namespace) -> None:
    """Measure weights by name, folder or repository on test images, or signals, in the size that they take."""
    from .. import hub
    from ..training.evaluation import evaluate_vae, theorem_terms

    device = check_device(args.device)
    autoencoder, _ = hub.load(args.weights, **where(args))
    size = getattr(autoencoder, "image_size", None) or ()
    images = _signals_for(autoencoder, args) if len(size) == 1 else images_for(autoencoder, args, only="test")
    autoencoder.to(device)
    if hasattr(autoencoder, "objective"):
        show(evaluate_vae(autoencoder, images) | theorem_terms(autoencoder, images))
    else:  # not a VAE of the paper's, and mostly a big one
        show(evaluate_vae(autoencoder, images, batch_size=8))


def _signals_for(autoencoder: Any, args: argparse.Namespace) -> Any:
    """Test signals of ``args.data``, in the length that ``autoencoder`` takes."""
    from ..autoencoders._resample import resample
    from ..training.signals import load_signals

    signals = load_signals(args.data, args.signals).test
    if signals.shape[1] != autoencoder.channels:
        raise ValueError(
            f"signals of {args.data} are {tuple(signals.shape[1:])}, and {args.weights} takes {autoencoder.channels} "
            "channels; --signals nlc is for those with time before channels"
        )
    return resample(signals, autoencoder.image_size)


def convert(args: argparse.Namespace) -> None:
    """Turn a checkpoint of the paper's authors (model_epochN.pth) into a folder that from_pretrained reads."""
    from .. import hub
    from ..autoencoders.authors import load_authors_checkpoint

    if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
        raise ValueError(f"{args.out} is there and not empty, and nothing is overwritten; say another folder")
    vae = load_authors_checkpoint(args.checkpoint, args.beta)
    hub.save(vae, args.out, {"eps": 0.1})
    print(f"{vae.image_size[0]}x{vae.image_size[1]}, z = {vae.latent_dim}, normalised by {vae.mean} and {vae.std}")
    print(loads_it(args.out))
