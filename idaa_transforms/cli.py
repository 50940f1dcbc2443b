"""The ``idaa`` command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def demo(args: argparse.Namespace) -> None:
    """Train a small encoder on bundled CIFAR-10 images with hard views, print a table, write a picture."""
    from .demo import demo

    demo(args.out, args.weights, args.steps, args.device)


def train_vae(args: argparse.Namespace) -> None:
    """Train a VAE on your own images and write a folder that from_pretrained reads.

    The same command goes on where a run was interrupted, and ends with the same weights. Under torchrun it uses all
    the processes.
    """
    import torch

    from .autoencoders.conv import CIFAR_STATISTICS, IMAGENET_STATISTICS, ConvVAE, authors_beta
    from .training.card import publish
    from .training.data import load_images
    from .training.run import own_device
    from .training.vae import Recipe, train_vae

    options = {"channels": args.channels, "skip_bad": args.skip_bad, "exclude": [args.out]}
    images = load_images(args.data, args.image_size, args.root, args.workers, **options)
    print(images.found)
    channels, *size = images.test.shape[1:]
    cifar = args.statistics == "cifar" or (args.statistics is None and "cifar" in images.name.lower())
    mean, std = (v[:channels] for v in (CIFAR_STATISTICS if cifar else IMAGENET_STATISTICS))
    beta = authors_beta(size, args.latent_dim) if args.beta is None else args.beta
    torch.manual_seed(args.seed)
    vae = ConvVAE(size, args.latent_dim, channels=channels, width=args.width, mean=mean, std=std, beta=beta)
    device = own_device(args.device)
    vae = vae.to(device).to(memory_format=torch.channels_last)
    recipe = Recipe(args.epochs, args.batch_size, args.lr, seed=args.seed, bf16=args.bf16).on(device)
    options = {"stop_after": args.stop_after, "compile": args.compile, "tensorboard": args.tensorboard}
    done = train_vae(vae, images, recipe, args.out, workers=args.workers, **options)
    if done == args.epochs and int(os.environ.get("RANK", 0)) == 0:
        _print(publish(vae, images, recipe, args.out, name=args.name or args.out.name, about=args.about))
        print(f"\nIDAATransform.from_pretrained({str(args.out)!r}) loads it")


def check_data(args: argparse.Namespace) -> None:
    """Say what images there are, and of each that cannot be read, why."""
    from .training.check import check_data

    found = check_data(args.data, args.root, args.workers)
    print(found)
    if found.bad:
        sys.exit(1)


def eval_vae(args: argparse.Namespace) -> None:
    """Measure weights by name, folder or repository on test images."""
    from . import hub
    from .training.data import load_images
    from .training.evaluation import bound_terms, evaluate_vae

    vae, _ = hub.load(args.weights)
    images = load_images(args.data, vae.image_size[0], args.root)
    _print(evaluate_vae(vae.to(args.device), images.test) | bound_terms(vae, images.test))


def inspect(args: argparse.Namespace) -> None:
    """Show what views cost your images in identity: pictures, curves, and an eps to use, as one HTML file."""
    from .measure.report import inspect

    found = inspect(*_subject(args), args.out, keep=args.keep, batch_size=args.batch_size, about=_about(args))
    print(f"{found}\n{args.out / 'report.html'}")


def calibrate(args: argparse.Namespace) -> None:
    """Find the largest eps (or number of steps) that keeps a share of your images' identity, by your judge."""
    from .measure.calibration import calibrate

    aug, images, make_loss, meter = _subject(args)
    found = calibrate(aug, images.split(args.batch_size), make_loss, meter, args.keep, vary=args.vary)
    names = [args.vary, "gain", found.measure, "cosine", "l2"]
    print("".join(f"{name:>17}" for name in names))
    for row in found.curve:
        print("".join(f"{row[name]:17.4g}" for name in names))
    print(f"\n{found} ({found.curve[0]['images']} images)")
    if args.save:
        found.save(args.weights, _about(args))
        print(f"IDAATransform.from_pretrained({args.weights!r}) uses it now")


def _about(args: argparse.Namespace) -> str:
    judge = args.judge if args.model else f"{args.judge}, the attacked network itself (another one would be fairer)"
    attacked = f"Attacked: {args.model or args.judge}, by NT-Xent against the flipped image."
    return f"{attacked} Judge: {judge}. Data: {Path(args.data).name}."


def _subject(args: argparse.Namespace) -> tuple[Any, Any, Any, Any]:
    """What is measured: transform, images, closures, judge."""
    import torch

    from . import hub, objectives
    from .measure.identity import IdentityMeter
    from .measure.models import load_model
    from .training.data import load_images
    from .transform import IDAATransform

    if getattr(args, "save", False) and args.weights in hub.PRETRAINED:
        raise ValueError(f"{args.weights} belongs to the package; save it to a folder of your own first")
    chosen: dict[str, Any] = {name: getattr(args, name) for name in ("eps", "norm", "scale", "steps")}
    aug = IDAATransform.from_pretrained(args.weights, **{n: value for n, value in chosen.items() if value is not None})
    size = getattr(aug.autoencoder, "image_size", None)
    images = load_images(args.data, size[0] if size else None, args.root).test
    images = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[: args.images]]
    judge = load_model(args.judge, args.logits)
    model = load_model(args.model) if args.model else judge
    for module in (aug, judge, model):
        if isinstance(module, torch.nn.Module):
            module.to(args.device)

    def make_loss(x: torch.Tensor) -> Any:
        with torch.no_grad():
            return objectives.simclr(model, model(x.flip(-1)))

    return aug, images.to(args.device).float() / 255, make_loss, IdentityMeter(judge, logits=args.logits)


def convert(args: argparse.Namespace) -> None:
    """Turn a checkpoint of the paper's authors (model_epochN.pth) into a folder that from_pretrained reads."""
    from . import hub
    from .autoencoders.authors import load_authors_checkpoint

    vae = load_authors_checkpoint(args.checkpoint, args.beta)
    hub.save(vae, args.out, {"eps": 0.1})
    print(f"{vae.image_size[0]}x{vae.image_size[1]}, z = {vae.latent_dim}, normalised by {vae.mean} and {vae.std}")
    print(f"IDAATransform.from_pretrained({str(args.out)!r}) loads it")


def list_names(args: argparse.Namespace) -> None:
    """Show the weights that come with the package."""
    from . import hub

    header = f"{'name':18} {'data':13} {'images':>7} {'z':>4} {'beta':>5} {'parameters':>10} {'file':>8}"
    print(f"{header}  {'licence':10}  from")
    for row in hub.list_pretrained():
        if "megabytes" not in row:
            print(f"{row['name']:18} {row['data']:13} {row['source']}")
            continue
        size, parameters = "x".join(map(str, row["image_size"])), f"{row['parameters'] / 1e6:.2f} M"
        file = f"{row['megabytes']:.1f} MB"
        start = f"{row['name']:18} {row['data']:13} {size:>7} {row['latent_dim']:4} {row['beta']:5g}"
        print(f"{start} {parameters:>10} {file:>8}  {row['license']}  {row['source']}")


def push(args: argparse.Namespace) -> None:
    """Publish a folder of weights on the Hugging Face Hub."""
    from . import hub

    print(hub.push(args.folder, args.repository, private=args.private))


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

    data = "an .npz of uint8 images (x_train, x_test), a folder of pictures, or a torchvision dataset such as CIFAR10"
    new = command("train-vae", train_vae)
    new.add_argument("data", help=data)
    new.add_argument("--out", type=Path, required=True, help="folder of the run, and of the weights in the end")
    new.add_argument("--name", help="of the weights, for the model card (default: that of the folder)")
    new.add_argument("--about", default="", help="a sentence on the data, for the model card")
    new.add_argument("--image-size", type=int, help="height and width (default: that of the images)")
    new.add_argument("--latent-dim", type=int, default=512, help="length of z (default: %(default)s)")
    new.add_argument("--width", type=int, default=128, help="channels at the bottleneck (default: %(default)s)")
    new.add_argument(
        "--beta", type=float, help="weight of the KL term (default: 0.1 H W / (2 z), the paper's kl = 0.1)"
    )
    new.add_argument(
        "--statistics", choices=["cifar", "imagenet"], help="normalise by these (default: by the data's name)"
    )
    new.add_argument("--epochs", type=int, default=300, help="default: %(default)s, the paper's")
    new.add_argument("--batch-size", type=int, default=128, help="over all processes (default: %(default)s)")
    new.add_argument("--lr", type=float, default=5e-4, help="falls linearly to 0 (default: %(default)s)")
    new.add_argument("--stop-after", type=int, metavar="EPOCH", help="end there; the same command goes on later")
    new.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    bf16 = "bfloat16 autocast (default: where the device has it)"
    new.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=None, help=bf16)
    new.add_argument("--compile", action="store_true", help="torch.compile")
    new.add_argument("--tensorboard", action="store_true", help="log there too")
    new.add_argument("--workers", type=int, default=0, help="processes that decode pictures (default: %(default)s)")
    new.add_argument("--root", type=Path, default=Path("data"), help="of torchvision datasets (default: %(default)s)")

    new.add_argument("--channels", type=int, choices=[1, 3], help="of pictures (default: 1 if all are grey, else 3)")
    new.add_argument("--skip-bad", action="store_true", help="leave out pictures that cannot be read, and list them")

    new = command("check-data", check_data)
    new.add_argument("data", help=data)
    new.add_argument("--workers", type=int, default=0, help="processes that decode pictures (default: %(default)s)")
    new.add_argument("--root", type=Path, default=Path("data"), help="of torchvision datasets (default: %(default)s)")

    new = command("eval-vae", eval_vae)
    new.add_argument("weights", help="name, folder or repository")
    new.add_argument("data", help=data)
    new.add_argument("--root", type=Path, default=Path("data"), help="of torchvision datasets (default: %(default)s)")

    for name, run in (("inspect", inspect), ("calibrate", calibrate)):
        new = command(name, run)
        new.add_argument("weights", help="name, folder or repository")
        new.add_argument("--data", required=True, help=data)
        model = "package.module:attribute, images in [0, 1] to features, or a name of timm's"
        new.add_argument("--judge", required=True, help=f"a frozen model: {model}")
        new.add_argument("--logits", action="store_true", help="the judge gives scores of classes")
        new.add_argument("--model", help="the network that the views attack, likewise (default: the judge)")
        new.add_argument("--keep", type=float, default=0.95, help="share of identity to keep (default: %(default)s)")
        new.add_argument("--images", type=int, default=512, help="of the test images (default: %(default)s)")
        new.add_argument("--batch-size", type=int, default=128, help="of the loss (default: %(default)s)")
        new.add_argument("--eps", type=float, help="from a fifth of it to ten times of it is tried")
        new.add_argument("--norm", choices=["linf", "l2"])
        new.add_argument("--scale", choices=["latent", "posterior"])
        new.add_argument("--steps", type=int, help="the default of these four is that of the weights")
        new.add_argument("--root", type=Path, default=Path("data"), help="of torchvision datasets")
        if run is inspect:
            new.add_argument("--out", type=Path, default=Path("inspect-out"), help="folder (default: %(default)s)")
        else:
            new.add_argument("--vary", choices=["eps", "steps"], default="eps", help="default: %(default)s")
            new.add_argument("--save", action="store_true", help="into the config of the folder")

    command("list", list_names)

    new = command("push", push)
    new.add_argument("folder", type=Path, help="made by train-vae, convert or save_pretrained")
    new.add_argument("repository", help="org/name; `hf auth login` first")
    new.add_argument("--private", action="store_true", help="if the repository has to be made")

    new = command("convert", convert)
    new.add_argument("checkpoint", type=Path, help="a state dict saved by the authors' train_vae")
    new.add_argument("out", type=Path, help="folder to write")
    new.add_argument("--beta", type=float, help="that it was trained with (default: by the authors' kl = 0.1)")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command; errors of the user's are one line on stderr."""
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except BrokenPipeError:  # `idaa list | head`
        sys.stderr.close()
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"idaa: {error}")


if __name__ == "__main__":
    main()
