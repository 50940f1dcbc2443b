"""The ``idaa`` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def demo(args: argparse.Namespace) -> None:
    """Train a small encoder on bundled CIFAR-10 images with hard views, print a table, write a picture."""
    from .demo import demo

    demo(args.out, args.weights, args.steps, args.device)


def train_vae(args: argparse.Namespace) -> None:
    """Train a ConvVAE on an .npz of uint8 images and write a folder that from_pretrained reads.

    The same command goes on where a run was interrupted, and ends with the same weights.
    """
    import dataclasses

    import torch

    from . import hub
    from .autoencoders.conv import ConvVAE
    from .autoencoders.training import Recipe, evaluate_vae, train_vae
    from .card import write_card
    from .provenance import provenance

    train, test = _images(args.data)
    torch.manual_seed(args.seed)
    vae = ConvVAE(tuple(train.shape[1:3]), args.latent_dim, beta=args.beta).to(args.device)
    vae = vae.to(memory_format=torch.channels_last)
    recipe = Recipe(epochs=args.epochs, seed=args.seed, bf16=args.bf16)
    if train_vae(vae, train, recipe, args.out, stop_after=args.stop_after) < args.epochs:
        return
    name = args.name or args.out.name
    hub.save(vae, args.out, {"eps": 0.1}, torch.float16)
    stored, _ = hub.load(args.out)
    measured = evaluate_vae(stored, test)
    write_card(
        args.out,
        vae,
        dataclasses.asdict(recipe),
        measured,
        provenance(),
        name=name,
        training=f"Data: {args.data.name}, {len(train):,} training images. {args.about}".strip(),
        test_images=len(test),
        dtype="float16",
    )
    _print(measured)
    print(f"IDAATransform.from_pretrained({str(args.out)!r}) loads it")


def eval_vae(args: argparse.Namespace) -> None:
    """Measure weights by name, folder or repository on the test images of an .npz."""
    from . import hub
    from .autoencoders.training import evaluate_vae

    vae, _ = hub.load(args.weights)
    _print(evaluate_vae(vae.to(args.device), _images(args.data)[1]))


def _images(file: Path) -> tuple[Any, Any]:
    import numpy as np
    import torch

    with np.load(file) as data:
        if missing := {"x_train", "x_test"} - set(data.files):
            raise ValueError(f"{file} has no {sorted(missing)}; it needs x_train and x_test, uint8 (N, H, W, C)")
        return torch.from_numpy(data["x_train"]), torch.from_numpy(data["x_test"])


def _print(measured: dict[str, float]) -> None:
    for name, value in measured.items():
        print(f"{name:10} {value:.4f}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="idaa", description="Identity-disentangled adversarial augmentation.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any) -> argparse.ArgumentParser:
        new = commands.add_parser(name, help=run.__doc__.splitlines()[0], description=run.__doc__)
        new.add_argument("--device", default="cpu", help="e.g. cuda (default: %(default)s)")
        new.set_defaults(run=run)
        return new

    new = command("demo", demo)
    new.add_argument("--out", type=Path, default=Path("demo-out"), help="folder of the picture (default: %(default)s)")
    new.add_argument("--weights", default="cifar10-vae", help="name, folder or repository (default: %(default)s)")
    new.add_argument("--steps", type=int, default=30, help="training steps (default: %(default)s)")

    new = command("train-vae", train_vae)
    new.add_argument("data", type=Path, help=".npz with x_train and x_test, uint8 (N, H, W, C)")
    new.add_argument("--out", type=Path, required=True, help="folder of the run, and of the weights in the end")
    new.add_argument("--name", help="of the weights, for the model card (default: that of the folder)")
    new.add_argument("--about", default="", help="a sentence on the data, for the model card")
    new.add_argument("--latent-dim", type=int, default=512, help="length of z (default: %(default)s)")
    new.add_argument(
        "--beta", type=float, default=0.1, help="weight of the KL term (default: %(default)s, the paper's)"
    )
    new.add_argument("--epochs", type=int, default=300, help="default: %(default)s, the paper's")
    new.add_argument("--stop-after", type=int, help="end at this epoch; the same command goes on later")
    new.add_argument("--seed", type=int, default=0)
    new.add_argument("--bf16", action="store_true", help="bfloat16 autocast")

    new = command("eval-vae", eval_vae)
    new.add_argument("weights", help="name, folder or repository")
    new.add_argument("data", type=Path, help=".npz with x_train and x_test, uint8 (N, H, W, C)")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; errors of the user's are one line on stderr."""
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"idaa: {error}")


if __name__ == "__main__":
    main()
