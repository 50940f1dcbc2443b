"""The ``idaa`` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def train_vae(args: argparse.Namespace) -> None:
    """Train a ConvVAE on an .npz of uint8 images, resuming where a run was interrupted."""
    import numpy as np
    import torch

    from .autoencoders.conv import ConvVAE
    from .autoencoders.training import Recipe, evaluate_vae, train_vae

    with np.load(args.data) as data:
        train, test = (torch.from_numpy(data[name]) for name in ("x_train", "x_test"))
    torch.manual_seed(args.seed)
    vae = ConvVAE(tuple(train.shape[1:3]), args.latent_dim, beta=args.beta).to(args.device)
    vae = vae.to(memory_format=torch.channels_last)
    recipe = Recipe(epochs=args.epochs, seed=args.seed, bf16=args.bf16)
    train_vae(vae, train, recipe, args.out, stop_after=args.stop_after)
    for name, value in evaluate_vae(vae, test).items():
        print(f"{name:10} {value:.4f}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="idaa", description="Identity-disentangled adversarial augmentation.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train-vae", help="train a VAE on your own images", description=train_vae.__doc__)
    train.add_argument("data", type=Path, help=".npz with x_train and x_test, uint8 (N, H, W, C)")
    train.add_argument("--out", type=Path, required=True, help="folder of the run: checkpoint and log")
    train.add_argument("--latent-dim", type=int, default=512)
    train.add_argument("--beta", type=float, default=0.1, help="weight of the KL term (default: %(default)s, the paper's)")
    train.add_argument("--epochs", type=int, default=300)
    train.add_argument("--stop-after", type=int, help="end at this epoch; the same command goes on later")
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--bf16", action="store_true", help="bfloat16 autocast")
    train.add_argument("--device", default="cpu")
    train.set_defaults(run=train_vae)

    args = parser.parse_args(argv)
    try:
        args.run(args)
    except (ValueError, OSError) as error:
        sys.exit(f"idaa: {error}")


if __name__ == "__main__":
    main()
