"""The ``idaa`` command: what it understands, and the one door through which errors leave."""

from __future__ import annotations

import argparse
import math
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ._version import __version__
from .commands.app import app
from .commands.measure import calibrate, inspect
from .commands.train import convert, eval_vae, train_vae
from .commands.weights import demo, list_names, push

_DATA = "a folder of pictures, shards or parquet, an .npz (x_train, x_test), or a data set of the Hub (org/name)"
_WEIGHTS = "name, folder or repository"
_LAYOUTS = "x_train (N, C, L) or (N, L, C)"
_SKIP = "leave out pictures that cannot be read, and list them"


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"idaa: {message}; see {self.prog} --help\n")


def _count(text: str) -> int:
    return int(_number(text, int, 1, "a whole number of at least 1"))


def _whole(text: str) -> int:
    return int(_number(text, int, 0, "a whole number of at least 0"))


def _port(text: str) -> int:
    value = int(_number(text, int, 1, "a port from 1 to 65535"))
    if value > 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port from 1 to 65535")
    return value


def _positive(text: str) -> float:
    return _number(text, float, sys.float_info.min, "a finite number above 0")


def _share(text: str) -> float:
    value = _number(text, float, 0, "a share from 0 to 1")
    if value > 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share from 0 to 1")
    return value


def _number(text: str, kind: Callable[[str], float], least: float, said: str) -> float:
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not least <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not {said}")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="idaa", description="Identity-disentangled adversarial augmentation.")
    parser.add_argument("--version", action="version", version=f"idaa {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)

    def command(name: str, run: Any, device: bool = True) -> argparse.ArgumentParser:
        new = commands.add_parser(name, help=run.__doc__.splitlines()[0], description=run.__doc__)
        if device:
            new.add_argument("--device", default="cpu", help="e.g. cuda (default: %(default)s)")
        new.add_argument("--debug", action="store_true", help="show the traceback of an error")
        new.set_defaults(run=run)
        return new

    def from_hub(new: argparse.ArgumentParser) -> None:
        new.add_argument("--revision", help="branch, tag or commit on the Hub (default: main)")
        new.add_argument("--subfolder", help='of the folder or repository; "vae" in a pipeline of diffusers')

    new = command("demo", demo)
    new.add_argument("--out", type=Path, default=Path("demo-out"), help="folder of the picture (default: %(default)s)")
    new.add_argument("--weights", default="cifar10-vae", help=f"{_WEIGHTS} (default: %(default)s)")
    new.add_argument("--steps", type=_count, default=30, help="training steps (default: %(default)s)")
    from_hub(new)

    _add_app(command("app", app, device=False))
    _add_training(command("train-vae", train_vae))

    new = command("eval-vae", eval_vae)
    new.add_argument("weights", help=_WEIGHTS)
    new.add_argument("data", help=_DATA)
    new.add_argument("--signals", choices=["ncl", "nlc"], default="ncl", help=f"of weights of signals: {_LAYOUTS}")
    _add_reading(new, "--data-revision")
    from_hub(new)

    for name, run in (("inspect", inspect), ("calibrate", calibrate)):
        new = command(name, run)
        _add_measuring(new)
        from_hub(new)
        if name == "inspect":
            new.add_argument("--out", type=Path, default=Path("inspect-out"), help="folder (default: %(default)s)")
        else:
            new.add_argument("--vary", choices=["eps", "steps"], default="eps", help="default: %(default)s")
            new.add_argument("--save", action="store_true", help="make it the default of the folder")

    command("list", list_names, device=False)

    new = command("push", push, device=False)
    new.add_argument("folder", type=Path, help="made by train-vae, convert or save_pretrained")
    new.add_argument("repository", help="org/name; `hf auth login` first")
    new.add_argument("--private", action="store_true", help="if the repository has to be made")
    new.add_argument("--subfolder", help="of the folder, that is published")

    new = command("convert", convert, device=False)
    new.add_argument("checkpoint", type=Path, help="a state dict saved by the authors' train_vae")
    new.add_argument("out", type=Path, help="folder to write")
    new.add_argument("--beta", type=_positive, help="that it was trained with (default: by the authors' kl = 0.1)")
    return parser


def _add_app(new: argparse.ArgumentParser) -> None:
    new.add_argument("--host", default="127.0.0.1", help="0.0.0.0 serves others too (default: %(default)s)")
    new.add_argument("--port", type=_port, default=7860, help="default: %(default)s")
    weights = f"{_WEIGHTS} to offer, once or several times (default: those that are here)"
    new.add_argument("--weights", action="append", default=[], metavar="NAME", help=weights)
    network = "to offer beside the package's own: file.py:attribute, package.module:attribute, or a name of timm's"
    new.add_argument("--network", action="append", default=[], metavar="NAME", help=network)


def _add_reading(new: argparse.ArgumentParser, revision: str) -> None:
    which = "of the data set (default: train, and test or validation where it has them)"
    new.add_argument("--split", metavar="NAME", help=which)
    new.add_argument("--column", metavar="NAME", help="that holds the pictures (default: the first that does)")
    new.add_argument(revision, help="branch, tag or commit of a data set of the Hub (default: main)")
    new.add_argument("--skip-bad", action="store_true", help=_SKIP)


def _add_training(new: argparse.ArgumentParser) -> None:
    new.add_argument("data", help=_DATA)
    new.add_argument("--out", type=Path, required=True, help="folder of the run, and of the weights in the end")
    new.add_argument("--name", help="of the weights, for the model card (default: that of the folder)")
    new.add_argument("--about", default="", help="a sentence on the data, for the model card")
    layouts = f"the data are signals, {_LAYOUTS}, in units of their own"
    new.add_argument("--signals", choices=["ncl", "nlc"], help=layouts)
    start = "weights to start from, by name or folder; image size, network and statistics come with them"
    new.add_argument("--from", dest="start", metavar="WEIGHTS", help=start)
    new.add_argument("--image-size", type=_count, help="height and width (default: that of the images)")
    new.add_argument("--latent-dim", type=_count, help="length of z (default: 512)")
    new.add_argument("--width", type=_count, help="channels at the bottleneck (default: 128)")
    new.add_argument("--depth", type=_count, help="stride-2 stages (default: as many as lead to about 8x8)")
    new.add_argument("--spatial", action="store_true", help="z is a map: a small part of the parameters")
    beta = "weight of the KL term (default: 0.1 H W / (2 z), the paper's kl = 0.1)"
    new.add_argument("--beta", type=_positive, help=beta)
    statistics = "normalise by these (default: by the data's name)"
    new.add_argument("--statistics", choices=["cifar", "imagenet"], help=statistics)
    new.add_argument("--epochs", type=_count, help="default: 300, the paper's; 20 with --from")
    batch = "over all processes (default: 128, or all images where there are fewer)"
    new.add_argument("--batch-size", type=_count, help=batch)
    new.add_argument("--lr", type=_positive, help="falls linearly to 0 (default: 0.0005; 0.00002 with --from)")
    new.add_argument("--stop-after", type=_count, metavar="EPOCH", help="end there; the same command goes on later")
    new.add_argument("--seed", type=_whole, default=0, help="default: %(default)s")
    bf16 = "bfloat16 autocast (default: where the device has it)"
    new.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=None, help=bf16)
    new.add_argument("--compile", action="store_true", help="torch.compile")
    new.add_argument("--workers", type=_whole, default=0, help="processes that decode pictures (default: %(default)s)")
    new.add_argument("--channels", type=int, choices=[1, 3], help="of pictures (default: 1 if all are grey, else 3)")
    _add_reading(new, "--revision")


def _add_measuring(new: argparse.ArgumentParser) -> None:
    new.add_argument("weights", help=_WEIGHTS)
    new.add_argument("--data", required=True, help=_DATA)
    model = "package.module:attribute or file.py:attribute, images in [0, 1] to features; or a name of timm's"
    new.add_argument("--judge", required=True, help=f"a frozen model: {model}")
    new.add_argument("--logits", action="store_true", help="the judge gives scores of classes")
    new.add_argument("--model", help="the network that the views attack, likewise (default: the judge)")
    new.add_argument("--keep", type=_share, default=0.95, help="share of identity to keep (default: %(default)s)")
    new.add_argument(
        "--images",
        type=_count,
        default=512,
        help="as many, at random where there are more (default: %(default)s)",
    )
    size = "height and width that you train at: the square in the middle, resized (default: that of the images)"
    new.add_argument("--image-size", type=_count, help=size)
    new.add_argument("--batch-size", type=_count, default=128, help="of the loss (default: %(default)s)")
    new.add_argument("--eps", type=_positive, help="from a fifth of it to ten times of it is tried")
    new.add_argument("--norm", choices=["linf", "l2"])
    new.add_argument("--scale", choices=["latent", "posterior"])
    new.add_argument("--steps", type=_count, help="the default of these four is that of the weights")
    _add_reading(new, "--data-revision")


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command. What can be foreseen to go wrong is one line on stderr, and the exit status is 1; 2 for
    arguments that cannot be understood, 130 after Ctrl-C. A traceback is shown with ``--debug`` or ``IDAA_DEBUG=1``.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what the terminal cannot show is no reason to stop
            stream.reconfigure(errors="backslashreplace")
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except BrokenPipeError:  # `idaa list | head`
        sys.stderr.close()
    except KeyboardInterrupt as stop:
        print(f"\nidaa: {stop or 'stopped'}", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if args.debug or os.environ.get("IDAA_DEBUG"):
            raise
        sys.exit(f"idaa: {_one_line(error)}")


def _one_line(error: Exception) -> str:
    from torch import OutOfMemoryError

    from .training.run import TrainingError

    said = " ".join(str(error).split())
    if isinstance(error, OutOfMemoryError | MemoryError):
        return f"out of memory ({said.partition('. ')[0] or type(error).__name__}); use a smaller batch or image size"
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, ValueError | TypeError | OSError | ImportError | TrainingError) and said:
        return said
    last = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"{type(error).__name__}: {said} ({Path(last.filename).name}, line {last.lineno}); this was not foreseen: "
        "--debug shows the traceback, please report it"
    )


if __name__ == "__main__":
    main()
