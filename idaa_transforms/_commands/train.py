"""``idaa train-vae``, ``eval-vae`` and ``convert``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from .common import check_device, images_for, loads_it, show, where

USABLE = 0.5
"""Share of the variance that weights have to explain: below, R(x) holds more of an image than G(x) does."""
NOT_USABLE = 3
"""Exit status of a training that ends below that."""
OWN = ("image_size", "channels", "latent_dim", "width", "depth", "spatial", "beta", "statistics", "signals")
"""Options of the network, which weights that a training starts from bring along."""


def train_vae(args: argparse.Namespace) -> None:
    """Train a VAE on your own images, or signals, and write a folder that from_pretrained reads.

    The same command resumes an interrupted run and ends with the same weights. Under torchrun it uses all
    processes. The exit status is 3 if the weights explain less than half of the variance of the pixels.
    """
    import torch

    from ..training.card import is_published, publish
    from ..training.evaluation import evaluate_vae
    from ..training.run import own_device, stoppable
    from ..training.vae import Recipe, train_vae

    check_device(args.device)
    device = own_device(args.device)
    start, settings = _start(args) if args.start else (None, None)
    with stoppable():
        try:
            images = _data(args, start)
            first = int(os.environ.get("RANK", 0)) == 0
            if first:
                print(images)
            world = int(os.environ.get("WORLD_SIZE", 1))
            fits = max(1, min(128, len(images.train)) // world * world)
            lr = args.lr or (5e-4 if start is None else 1e-4)
            epochs = args.epochs or (300 if start is None else 20)
            recipe = Recipe(epochs, args.batch_size or fits, lr, seed=args.seed, bf16=args.bf16, start=args.start or "")
            recipe = recipe.on(device)
            torch.manual_seed(args.seed)
            vae = (start or _fresh(args, images)).to(device).to(memory_format=torch.channels_last)
            before = evaluate_vae(vae, images.test)["explained"] if start and first else 0.0
            done = train_vae(vae, images, recipe, args.out, workers=args.workers, stop_after=args.stop_after)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_how_to_go_on(args.out)) from None
    if done < recipe.epochs or not first:
        return
    if is_published(args.out):
        print(f"this run is finished ({done} epochs), and nothing was written.")
        measured = evaluate_vae(vae, images.test)
    else:
        words = {"name": args.name or args.out.resolve().name, "about": args.about, "settings": settings}
        measured = publish(vae, images, recipe, args.out, **words)
    _conclude(measured, before, args, len(images.test))


def _conclude(measured: dict[str, float], before: float, args: argparse.Namespace, count: int) -> None:
    """Three lines on what was trained, and the exit status that says whether it is of use."""
    what, share = "signals" if args.signals else "images", measured["explained"]
    psnr = f"PSNR {measured['psnr']:.1f} dB, " if "psnr" in measured else ""
    print(f"\nIt explains {share:.1%} of the variance of {count:,} test {what}, which it was not trained on.")
    picture = "progress.png" if args.signals else "samples.png"
    print(f"{psnr}KL {measured['kl']:.0f} nats; see {args.out / picture}, and README.md beside it.")
    if share >= USABLE:
        print(loads_it(args.out))
        if before > share + 0.001:
            print(f"{args.start} itself explains more of them, {before:.1%}: use that, or train for longer.")
        elif share < before + 0.005:
            print(f"{args.start} itself explains as much, {before:.1%}: these images needed no training.")
        return
    cures = f"more epochs, more {what}" + ("" if args.start or args.signals else " or --from natural-vae")
    print(f"That is less than {USABLE:.0%}: these weights are not usable yet. Train in another folder with {cures}.")
    sys.exit(NOT_USABLE)


def _start(args: argparse.Namespace) -> Any:
    """The weights that ``--from`` names, and the settings of the transform that go with them."""
    from .. import hub
    from ..autoencoders import ConvVAE

    if said := [name for name in OWN if getattr(args, name)]:
        raise ValueError(f"--{said[0].replace('_', '-')} comes with the weights of --from; leave one of them out")
    vae, settings = hub.load(args.start)
    vae.requires_grad_(True)  # weights come frozen
    if not isinstance(vae, ConvVAE) or len(vae.image_size) != 2 or len({*vae.image_size}) > 1:
        raise ValueError(f"--from {args.start} is no ConvVAE of square images, which alone can be trained on")
    return vae, settings


def _fresh(args: argparse.Namespace, images: Any) -> Any:
    """A new network for ``images``."""
    from ..autoencoders.conv import ConvVAE, authors_beta

    channels, *size = images.test.shape[1:]
    mean, std = _statistics(args.statistics, images, channels)
    latent_dim = args.latent_dim or 512
    beta = authors_beta(size, latent_dim) if args.beta is None else args.beta
    shape = {"channels": channels, "width": args.width or 128, "depth": args.depth, "spatial": args.spatial}
    return ConvVAE(size, latent_dim, **shape, mean=mean, std=std, beta=beta)


def _data(args: argparse.Namespace, start: Any) -> Any:
    from ..training.images import load_images, load_signals

    data, out = Path(args.data).expanduser().resolve(), args.out.resolve()
    if data.is_dir() and (out == data or data in out.parents):
        raise ValueError(f"--out {args.out} lies in {args.data}, whose pictures are read; say a folder outside of it")
    if args.signals:
        of_images = ("image_size", "channels", "skip_bad", "split", "column", "revision")
        if said := [name for name in of_images if getattr(args, name)]:
            option = f"--{said[0].replace('_', '-')}"
            raise ValueError(f"{option} is of images, and --signals says that these are none; leave one of them out")
        return load_signals(args.data, args.signals)
    size, channels = (args.image_size, args.channels) if start is None else (start.image_size[0], start.channels)
    which = {"split": args.split, "column": args.column, "revision": args.revision}
    return load_images(args.data, size, args.workers, channels=channels, skip_bad=args.skip_bad, **which)


def _statistics(choice: str | None, images: Any, channels: int) -> tuple[list[float], list[float]]:
    """What images are normalised by: known numbers for grey and RGB, measured ones for other channels and signals."""
    from torch import Tensor

    from ..autoencoders.conv import CIFAR_STATISTICS, IMAGENET_STATISTICS
    from ..training.images import statistics

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
    from ..training.evaluation import evaluate_vae

    device = check_device(args.device)
    autoencoder, _ = hub.load(args.weights, **where(args))
    size = getattr(autoencoder, "image_size", None) or ()
    images = _signals_for(autoencoder, args) if len(size) == 1 else images_for(autoencoder, args, only="test")
    autoencoder.to(device)
    ours = hasattr(autoencoder, "objective")  # others are mostly big
    show(evaluate_vae(autoencoder, images, batch_size=500 if ours else 8))


def _signals_for(autoencoder: Any, args: argparse.Namespace) -> Any:
    """Test signals of ``args.data``, in the length that ``autoencoder`` takes."""
    from ..autoencoders._resample import resample
    from ..training.images import load_signals

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
