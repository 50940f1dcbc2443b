"""``idaa demo``, ``list`` and ``push``."""

from __future__ import annotations

import argparse

from .common import check_device, where


def demo(args: argparse.Namespace) -> None:
    """Train a small network with hard views of CIFAR-10 images, print a table, draw a picture."""
    from ..demo import demo

    demo(args.out, args.weights, args.steps, str(check_device(args.device)), **where(args))


def list_names(args: argparse.Namespace) -> None:
    """Show the weights that come with the package."""
    from .. import hub

    header = f"{'name':18} {'data':13} {'images':>7} {'z':>4} {'beta':>5} {'parameters':>10} {'file':>8}"
    print(f"{header}  {'terms of the images':46}  from")
    for row in hub.list_pretrained():
        if "megabytes" not in row:
            print(f"{row['name']:18} {row['data']:13} {row['source']}")
            continue
        size, parameters = "x".join(map(str, row["image_size"])), f"{row['parameters'] / 1e6:.2f} M"
        file = f"{row['megabytes']:.1f} MB"
        start = f"{row['name']:18} {row['data']:13} {size:>7} {row['latent_dim']:4} {row['beta']:5g}"
        print(f"{start} {parameters:>10} {file:>8}  {row['terms']:46}  {row['source']}")


def push(args: argparse.Namespace) -> None:
    """Publish a folder of weights on the Hugging Face Hub."""
    from .. import hub

    print(hub.push(args.folder / (args.subfolder or ""), args.repository, private=args.private))
