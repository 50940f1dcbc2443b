"""Latent size and beta against what the VAE keeps (the paper's Figure 6 varies the same two).

    python -m benchmarks.vae_sweep data/cifar10.npz --epochs 300 --device cuda        # everything
    python -m benchmarks.vae_sweep data/cifar10.npz --width 64 --epochs 4              # in hours on one core

Trains a VAE for each pair, resuming what was interrupted, measures it on the test images, and writes
results/vae-sweep.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from idaa_transforms.autoencoders import ConvVAE
from idaa_transforms.training.data import load_images
from idaa_transforms.training.evaluation import evaluate_vae
from idaa_transforms.training.vae import Recipe, train_vae

from . import harness


def main() -> None:
    """Train, measure, save, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--latent-dim", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--beta", type=float, nargs="+", default=[0.1, 0.4, 1.6, 6.4])
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--width", type=int, default=128, help="of the networks; half trains about three times as fast")
    parser.add_argument("--images", type=int, help="train on the first so many only")
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, help="default: where the device has it")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=Path, default=Path("runs/vae-sweep"))
    args = parser.parse_args()
    images = load_images(args.data)
    images = images._replace(train=images.train[: args.images])
    recipe = Recipe(epochs=args.epochs, bf16=args.bf16).on(torch.device(args.device))
    rows = []
    for latent_dim in args.latent_dim:
        for beta in args.beta:
            torch.manual_seed(0)
            vae = ConvVAE(images.test.shape[2:], latent_dim, width=args.width, beta=beta).to(args.device)
            vae = vae.to(memory_format=torch.channels_last)
            folder = args.runs / f"z{latent_dim}-beta{beta:g}"
            train_vae(vae, images, recipe, folder)
            rows.append({"latent_dim": latent_dim, "beta": beta, **evaluate_vae(vae, images.test)})
    settings = {
        "data": images.name,
        "width": args.width,
        "epochs": args.epochs,
        "images": len(images.train),
        "bf16": recipe.bf16,
    }
    file = harness.save("vae-sweep", settings, rows)
    print(*rows, file, sep="\n")


if __name__ == "__main__":
    main()
