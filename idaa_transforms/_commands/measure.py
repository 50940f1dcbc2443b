"""``idaa inspect`` and ``idaa calibrate``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from .common import check_device, images_for


def inspect(args: argparse.Namespace) -> None:
    """Show what views cost your images in identity: images, curves and a recommended eps, as one HTML file."""
    from ..measure.report import inspect

    found = inspect(*_subject(args), args.out, keep=args.keep, batch_size=args.batch_size, about=_about(args))
    print(f"{found}\n{args.out / 'report.html'}")


def calibrate(args: argparse.Namespace) -> None:
    """Find the largest eps that keeps a share of your images' identity, according to a reference model."""
    from ..measure.calibration import calibrate, even, too_few
    from ..measure.confidence import images_needed

    target = _target(args) if args.save else None
    aug, images, make_loss, meter = _subject(args)
    if target is not None and len(images) < images_needed(args.keep):
        option = " (--images)" if len(images) == args.images else ""
        raise ValueError(f"{too_few(len(images), args.keep)}{option}, or leave out --save")
    found = calibrate(aug, even(images, args.batch_size), make_loss, meter, args.keep)
    names = ["eps", "gain", found.measure, "cosine", "l2"]
    print("".join(f"{name:>21}" for name in names))
    for row in found.curve:
        print("".join(f"{row[name]:21.4g}" for name in names))
    print(f"\n{found} ({found.images} image{'s' if found.images > 1 else ''})")
    if target is not None:
        found.save(target, _about(args))
        subfolder = f", subfolder={args.subfolder!r}" if args.subfolder else ""
        print(f"IDAATransform.from_pretrained({args.weights!r}{subfolder}) uses it now")


def _target(args: argparse.Namespace) -> Path:
    """The folder whose settings ``--save`` changes, checked before anything is computed."""
    from .. import hub
    from ..hub.folder import CONFIG

    folder = Path(args.weights, args.subfolder or "")
    if args.weights in hub.PRETRAINED:
        own = f" (for the folder of that name use ./{args.weights})" if folder.is_dir() else ""
        raise ValueError(f"{args.weights} belongs to the package; save it to a folder of your own first{own}")
    if not folder.is_dir():
        raise ValueError(f"--save needs a folder of your own, and {args.weights!r} is none; download it to one first")
    if not os.access(folder, os.W_OK) or not (folder / CONFIG).is_file():
        raise ValueError(f"--save cannot change {folder / CONFIG}: it does not exist or is read-only")
    return folder


def _about(args: argparse.Namespace) -> str:
    other = "" if args.model else ", the attacked network itself (another one would be fairer)"
    size = f", {args.image_size} pixels" if args.image_size else ""
    return (
        f"Attacked: {args.model or args.reference}, by NT-Xent against the flipped image. Reference model: "
        f"{args.reference}{other}. Data: {Path(args.data).name}{size}."
    )


def _subject(args: argparse.Namespace) -> tuple[Any, Any, Any, Any]:
    """What is measured: transform, images, closures, and the meter with the reference model."""
    import torch

    from .. import objectives
    from ..measure.identity import IdentityMeter
    from ..measure.models import load_model, named
    from ..transforms import IDAATransform

    device = check_device(args.device)
    chosen = {name: getattr(args, name) for name in ("eps", "norm", "eps_unit", "steps")}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    aug = IDAATransform.from_pretrained(args.weights, revision=args.revision, subfolder=args.subfolder, **chosen)
    if aug.mean is not None:  # here the reference model, the model and the transform all see images in [0, 1]
        settings = {name: value for name, value in aug._saved().items() if name not in ("mean", "std")}
        aug = IDAATransform(aug.autoencoder, **settings)
    reference = load_model(args.reference, args.logits)
    model = load_model(args.model) if args.model else reference
    images = images_for(aug.autoencoder, args, only="all", limit=args.images)
    images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]  # batches of all classes
    for module in (aug, reference, model):
        if isinstance(module, torch.nn.Module):
            module.to(device)

    def network(x: torch.Tensor) -> Any:
        with named(f"the model {args.model or args.reference}", x):
            return model(x)

    def make_loss(x: torch.Tensor) -> Any:
        with torch.no_grad():
            return objectives.simclr(network, network(x.flip(-1)))

    meter = IdentityMeter(reference, logits=args.logits, name=args.reference)
    return aug, images.to(device).float() / 255, make_loss, meter
