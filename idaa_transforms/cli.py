"""The ``idaa`` command: argument parser and error handling. Nothing here imports torch, so that help is instant."""

from __future__ import annotations

import argparse
import math
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from ._commands.app import app
from ._commands.measure import calibrate, inspect
from ._commands.train import convert, eval_vae, train_vae
from ._commands.weights import demo, list_names, push
from ._version import __version__

_DATA = "a folder of pictures, shards or parquet, an .npz (x_train, x_test), or a data set of the Hub (org/name)"
_WEIGHTS = "name (see `idaa list`), folder, or org/name on the Hub"
_MODEL = "cifar10-classifier, cifar10-reference, FILE.py:ATTRIBUTE, PACKAGE.MODULE:ATTRIBUTE, or a name of timm's"
_LAYOUTS = "x_train (N, C, L) or (N, L, C)"
_SKIP = "leave out pictures that cannot be read, and list them"


class _Help(argparse.HelpFormatter):
    """Appends the default, where there is one and the help does not say it."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        said = "default: " in (action.help or "") or action.default in (None, False, [], "", argparse.SUPPRESS)
        return action.help if said else f"{action.help} (default: %(default)s)"


class _Parser(argparse.ArgumentParser):
    """Reports an error in one line, and expands ``~`` in every path and name."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Help, **options)
        self.register("type", None, os.path.expanduser)
        self.register("type", Path, _path)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"idaa: {message}; see {self.prog} --help\n")


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("the path is empty; use . for the working folder")
    return Path(text).expanduser()


def _number(kind: Callable[[str], float], said: str, least: float, most: float = sys.float_info.max) -> Any:
    """A type of argparse: a number between two others, which is what is ``said`` of it."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not {said}")
        return value

    return parse


_count = _number(int, "a whole number of at least 1", 1)
_whole = _number(int, "a whole number of at least 0", 0)
_port = _number(int, "a port from 1 to 65535", 1, 65535)
_positive = _number(float, "a finite number above 0", sys.float_info.min)
_share = _number(float, "a share from 0 to 1", 0, 1)


def _parser() -> argparse.ArgumentParser:
    description = "Identity-disentangled adversarial augmentation. `idaa COMMAND --help` lists a command's options."
    parser = _Parser(prog="idaa", description=description)
    parser.add_argument("--version", action="version", version=f"idaa {__version__}", help="show the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=_Parser)

    def command(name: str, run: Any, device: bool = True) -> argparse.ArgumentParser:
        new = commands.add_parser(name, help=run.__doc__.splitlines()[0], description=run.__doc__)
        if device:
            new.add_argument("--device", default="cpu", help="device to compute on, such as cuda")
        new.add_argument("--debug", action="store_true", help="show the traceback of an error")
        new.set_defaults(run=run)
        return new

    def from_hub(new: argparse.ArgumentParser) -> None:
        new.add_argument("--revision", help="branch, tag or commit of the weights on the Hub (default: main)")
        new.add_argument("--subfolder", help="folder of the weights inside; in a diffusers pipeline, vae")

    new = command("demo", demo)
    new.add_argument("--out", type=Path, default=Path("demo-out"), help="folder for the picture")
    new.add_argument("--weights", default="cifar10-vae-small", help=_WEIGHTS)
    new.add_argument("--steps", type=_count, default=20, help="training steps")
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
            new.add_argument("--out", type=Path, default=Path("inspect-out"), help="folder for the report")
        else:
            new.add_argument("--save", action="store_true", help="make this eps the default of your folder of weights")

    command("list", list_names, device=False)

    new = command("push", push, device=False)
    new.add_argument("folder", type=Path, help="folder that train-vae, convert or save_pretrained wrote")
    new.add_argument("repository", help="org/name on the Hub; log in first: `hf auth login`")
    new.add_argument("--private", action="store_true", help="make a new repository private")
    new.add_argument("--subfolder", help="publish only this folder inside it")

    new = command("convert", convert, device=False)
    new.add_argument("checkpoint", type=Path, help="a state dict saved by the authors' train_vae")
    new.add_argument("out", type=Path, help="folder to write")
    new.add_argument("--beta", type=_positive, help="that it was trained with (default: by the authors' kl = 0.1)")
    return parser


def _add_app(new: argparse.ArgumentParser) -> None:
    new.add_argument("--host", default="127.0.0.1", help="address to serve; 0.0.0.0 lets other machines in")
    new.add_argument("--port", type=_port, default=7860, help="port to serve")
    weights = f"weights to offer: {_WEIGHTS}; may be repeated (default: all that are installed)"
    new.add_argument("--weights", action="append", default=[], metavar="WEIGHTS", help=weights)
    network = f"model to offer besides the package's own: {_MODEL}; may be repeated"
    new.add_argument("--model", dest="network", action="append", default=[], metavar="MODEL", help=network)


def _add_reading(new: argparse.ArgumentParser, revision: str) -> None:
    which = "split of the data set (default: train, and test or validation if there is one)"
    new.add_argument("--split", metavar="NAME", help=which)
    new.add_argument("--column", metavar="NAME", help="column of the pictures (default: the first one)")
    new.add_argument(revision, help="branch, tag or commit of a data set of the Hub (default: main)")
    new.add_argument("--skip-bad", action="store_true", help=_SKIP)


def _add_training(new: argparse.ArgumentParser) -> None:
    new.add_argument("data", help=_DATA)
    new.add_argument("--out", type=Path, required=True, help="folder for the run and its weights")
    new.add_argument("--name", help="name of the weights in the model card (default: the folder's)")
    new.add_argument("--about", default="", help="a sentence on the data, for the model card")
    layouts = f"the data are signals, {_LAYOUTS}, in their own units"
    new.add_argument("--signals", choices=["ncl", "nlc"], help=layouts)
    start = "start from these weights (name or folder), which also set image size, network and statistics"
    new.add_argument("--from", dest="start", metavar="WEIGHTS", help=start)
    new.add_argument("--image-size", type=_count, help="height and width (default: that of the images)")
    new.add_argument("--latent-dim", type=_count, help="length of z (default: 512)")
    new.add_argument("--width", type=_count, help="channels at the bottleneck (default: 128)")
    new.add_argument("--depth", type=_count, help="number of stride-2 stages (default: down to about 8x8)")
    new.add_argument("--spatial", action="store_true", help="make z a map, with far fewer parameters")
    beta = "weight of the KL term (default: 0.1 H W / (2 z), the paper's kl = 0.1)"
    new.add_argument("--beta", type=_positive, help=beta)
    statistics = "normalise by these (default: by the data's name)"
    new.add_argument("--statistics", choices=["cifar", "imagenet"], help=statistics)
    new.add_argument(
        "--epochs", type=_count, help="passes over the data (default: 300, as in the paper; 20 with --from)"
    )
    batch = "images per batch, over all processes (default: 128, or all if there are fewer)"
    new.add_argument("--batch-size", type=_count, help=batch)
    new.add_argument(
        "--lr", type=_positive, help="learning rate, which falls linearly to 0 (default: 0.0005; 0.0001 with --from)"
    )
    new.add_argument(
        "--stop-after", type=_count, metavar="EPOCH", help="stop after this epoch; the same command resumes"
    )
    new.add_argument("--seed", type=_whole, default=0, help="random seed (default: %(default)s)")
    bf16 = "bfloat16 autocast (default: if the device supports it)"
    new.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=None, help=bf16)
    new.add_argument("--workers", type=_whole, default=0, help="processes that decode pictures (default: %(default)s)")
    new.add_argument(
        "--channels", type=int, choices=[1, 3], help="channels of pictures (default: 1 if all are grey, else 3)"
    )
    _add_reading(new, "--revision")


def _add_measuring(new: argparse.ArgumentParser) -> None:
    new.add_argument("weights", help=_WEIGHTS)
    new.add_argument("--data", required=True, help=_DATA)
    reference = f"frozen model that tells whether a view still shows its image: {_MODEL}"
    new.add_argument("--reference", required=True, metavar="MODEL", help=reference)
    new.add_argument("--logits", action="store_true", help="the reference model returns class scores, not features")
    new.add_argument("--model", metavar="MODEL", help=f"model to attack: {_MODEL} (default: the reference model)")
    new.add_argument("--keep", type=_share, default=0.95, help="share of views that must keep their identity")
    new.add_argument("--images", type=_count, default=512, help="maximum number of images (a random subset)")
    new.add_argument("--image-size", type=_count, help="crop to squares of this height (default: their own size)")
    new.add_argument("--batch-size", type=_count, default=128, help="images per batch, which the loss depends on")
    new.add_argument("--eps", type=_positive, help="try 1/4 to 8 times of it (default: from the weights)")
    new.add_argument("--norm", choices=["linf", "l2"], help="norm of delta that eps bounds (default: from the weights)")
    unit = "unit of eps: spread of the latent over images, or of each image's posterior (default: from the weights)"
    new.add_argument("--eps-unit", choices=["latent", "posterior"], help=unit)
    new.add_argument("--steps", type=_count, help="gradient steps per view (default: from the weights)")
    _add_reading(new, "--data-revision")


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command. A foreseeable error is one line on stderr.

    The exit status is then 1; 2 for arguments that make no sense, and 130 after Ctrl-C. ``--debug`` or ``IDAA_DEBUG=1``
    shows the traceback instead.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal that cannot show a character is no reason to stop
            stream.reconfigure(errors="backslashreplace")
    parser = _parser()
    args = parser.parse_args(argv)
    if not hasattr(args, "run"):
        parser.print_help()
        return
    if empty := [name for name, value in vars(args).items() if value == "" and name not in ("about", "name")]:
        parser.error(f"{empty[0].upper()} is empty")
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

    text = " ".join(str(error).split())
    if isinstance(error, OutOfMemoryError | MemoryError):
        return f"out of memory ({text.partition('. ')[0] or type(error).__name__}); use a smaller batch or image size"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    if isinstance(error, ValueError | TypeError | OSError | ImportError | TrainingError) and text:
        return text
    last = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"{type(error).__name__}: {text} ({Path(last.filename).name}, line {last.lineno}); this was not foreseen: "
        "--debug shows the traceback, please report it"
    )


if __name__ == "__main__":
    main()
