"""Commands that measure what views cost in identity."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .common import check_device, images_for, where


def inspect(args: argparse.Namespace) -> None:
    """Show what views cost your images in identity: pictures, curves, and an eps to use, as one HTML file."""
    from ..measure.report import inspect

    found = inspect(*_subject(args), args.out, keep=args.keep, batch_size=args.batch_size, about=_about(args))
    print(f"{found}\n{args.out / 'report.html'}")


def calibrate(args: argparse.Namespace) -> None:
    """Find the largest eps (or number of steps) that keeps a share of your images' identity, by your judge."""
    from ..measure.calibration import calibrate, even, too_few
    from ..measure.confidence import images_needed

    target = _target(args) if args.save else None
    aug, images, make_loss, meter = _subject(args)
    if target is not None and len(images) < images_needed(args.keep):
        option = " (--images)" if len(images) == args.images else ""
        raise ValueError(f"{too_few(len(images), args.keep)}{option}, or leave out --save")
    batches = even(images, args.batch_size)
    found = calibrate(aug, batches, make_loss, meter, args.keep, vary=args.vary)
    names = [args.vary, "gain", found.measure, "cosine", "l2"]
    print("".join(f"{name:>17}" for name in names))
    for row in found.curve:
        print("".join(f"{row[name]:17.4g}" for name in names))
    print(f"\n{found} ({found.curve[0]['images']} images)")
    if target is not None:
        found.save(target, _about(args))
        print(f"IDAATransform.from_pretrained({args.weights!r}{_subfolder(args)}) uses it now")


def _subfolder(args: argparse.Namespace) -> str:
    return f", subfolder={args.subfolder!r}" if args.subfolder else ""


def _target(args: argparse.Namespace) -> Path:
    """The folder whose settings ``--save`` changes, before anything is computed."""
    from .. import hub
    from ..hub.folder import CONFIG

    folder = Path(args.weights).expanduser() / (args.subfolder or "")
    if args.weights in hub.PRETRAINED:
        mine = f" (for a folder of that name say ./{args.weights})" if folder.is_dir() else ""
        raise ValueError(f"{args.weights} belongs to the package; save it to a folder of your own first{mine}")
    if not folder.is_dir():
        raise ValueError(f"--save needs a folder of your own, and {args.weights!r} is none; download it to one first")
    if not os.access(folder, os.W_OK) or not (folder / CONFIG).is_file():
        raise ValueError(f"--save cannot change {folder / CONFIG}: it is not there, or may not be written")
    return folder


def _about(args: argparse.Namespace) -> str:
    judge = args.judge if args.model else f"{args.judge}, the attacked network itself (another one would be fairer)"
    attacked = f"Attacked: {args.model or args.judge}, by NT-Xent against the flipped image."
    size = f", {args.image_size} pixels" if args.image_size else ""
    return f"{attacked} Judge: {judge}. Data: {Path(args.data).name}{size}."


def _subject(args: argparse.Namespace) -> tuple[Any, Any, Any, Any]:
    """What is measured: transform, images, closures, judge."""
    from .. import objectives
    from ..measure.identity import IdentityMeter
    from ..transforms import IDAATransform

    device = check_device(args.device)
    chosen: dict[str, Any] = {name: getattr(args, name) for name in ("eps", "norm", "scale", "steps")}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    chosen |= {"mean": None, "std": None}  # judge, model and transform all see images in [0, 1] here
    aug = IDAATransform.from_pretrained(args.weights, **where(args), **chosen)
    judge = _named("the judge", args.judge, args.logits)
    model = _named("the model", args.model) if args.model else judge
    images = images_for(aug.autoencoder, args, only="all", limit=args.images)
    images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]  # batches of all classes
    for module in (aug, judge, model):
        module.to(device)

    def make_loss(x: Tensor) -> Any:
        with torch.no_grad():
            return objectives.simclr(model, model(x.flip(-1)))

    return aug, images.to(device).float() / 255, make_loss, IdentityMeter(judge, logits=args.logits, name=args.judge)


def _named(role: str, name: str, logits: bool = False) -> nn.Module:
    from ..measure.models import ModelError, load_model, one_line

    try:
        return _Named(load_model(name, logits), f"{role} {name}")
    except (ModelError, ImportError):
        raise
    except Exception as error:  # whatever code of the user's may raise
        said = one_line(error)
        raise ModelError(f"{role} {name} cannot be built by calling it without arguments ({said})") from error


class _Named(nn.Module):
    """A network of the user's; what it raises is one line that names it."""

    def __init__(self, network: Any, name: str) -> None:
        super().__init__()
        self.network, self.name = network, name

    def forward(self, x: Tensor) -> Any:
        from ..measure.models import named

        with named(self.name, x):
            return self.network(x)
