"""Device, processes, folder and atomic files of a training run."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import signal
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from .._util.files import forget_partial, write_whole

CHECKPOINT = "checkpoint.pt"
BEFORE_A_CHECKPOINT = ("log.csv", "progress.png", "tensorboard")
"""What a run may leave that is interrupted within its first epoch."""


class TrainingError(RuntimeError):
    """A run that cannot go on, with the reason and what to do."""


def own_device(name: str) -> torch.device:
    """The device of this process: under torchrun ``"cuda"`` is a GPU for each process of the machine."""
    rank = os.environ.get("LOCAL_RANK")
    return torch.device(name if rank is None or name != "cuda" else f"cuda:{rank}")


def processes(device: torch.device, patience: float | None = None) -> tuple[int, int]:
    """Rank and number of processes; joins the group that torchrun describes.

    Args:
        patience: seconds after which a process that does not answer is an error for the others. Default: torch's.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return 0, 1
    if not distributed.is_initialized():
        timeout = None if patience is None else timedelta(seconds=patience)
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timeout)
    return distributed.get_rank(), distributed.get_world_size()


def save_whole(state: dict[str, Any], file: Path) -> None:
    """``torch.save`` such that a process killed meanwhile, or a full disk, leaves the last file whole."""
    write_whole(file, lambda stream: torch.save(state, stream))


def load_checkpoint(file: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What :func:`save_whole` wrote, after a look at the checksums in it.

    Raises:
        ValueError: it is truncated, damaged, or something else.
    """
    try:
        with zipfile.ZipFile(file) as archive:  # torch.load itself does not look at them
            damaged = archive.testzip()
        if damaged:
            raise ValueError(f"{damaged} has another checksum")
        state = torch.load(file, map_location=device, weights_only=True)
        if not isinstance(state, dict):
            raise ValueError(f"it holds a {type(state).__name__}")
    except MemoryError:
        raise
    except Exception as error:  # zipfile, pickle and torch raise of many kinds
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"{file} is truncated, damaged or no checkpoint ({reason}); put a copy of it there, or begin anew in "
            "another folder"
        ) from error
    return state


def own_folder(folder: Path) -> None:
    """Make ``folder``, or see that it belongs to a run, and tidy up what a killed process has left.

    Raises:
        ValueError: the folder holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; say a folder for the run")
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))
    foreign = [name for name in names if name not in BEFORE_A_CHECKPOINT]
    if foreign and CHECKPOINT not in names:
        more = ", ..." if len(foreign) > 3 else ""
        raise ValueError(
            f"{folder} is no run (it holds {', '.join(foreign[:3])}{more} and no {CHECKPOINT}), and nothing is "
            "overwritten; use another folder"
        )
    forget_partial(folder)


def fingerprint(*parts: Any) -> str:
    """The sha256 of data: all values of tensors, and what :meth:`.images.Pictures.fingerprint` looks at."""
    digest = hashlib.sha256()
    for part in parts:
        if not isinstance(part, Tensor):
            digest.update(part.fingerprint().encode())
            continue
        digest.update(f"{part.dtype} {tuple(part.shape)}".encode())
        for block in part.cpu().contiguous().split(1024):
            digest.update(block.numpy().tobytes())
    return digest.hexdigest()


def same_settings(checkpoint: Path, then: dict[str, Any], now: dict[str, Any], aside: Iterable[str] = ()) -> None:
    """Raise a ValueError that names the settings in which a run differs from the one in ``checkpoint``, but for those
    set ``aside``."""
    if differ := [name for name in now if name not in aside and then.get(name) != now[name]]:
        differences = ", ".join(f"{name} {then.get(name)!r}, not {now[name]!r}" for name in differ)
        raise ValueError(f"{checkpoint} was made with {differences}; use another --out")


@contextmanager
def stoppable() -> Iterator[None]:
    """SIGTERM, which a scheduler sends, is a KeyboardInterrupt inside, as Ctrl-C is."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def log_row(file: Path, row: dict[str, Any], by: str = "epoch") -> None:
    """Append ``row`` to a CSV; what an interrupted run had written of the same and later epochs goes, or steps."""
    old = list(csv.DictReader(io.StringIO(file.read_text("utf-8")))) if file.exists() else []
    rows = [r for r in old if (r.get(by) or "").isdigit() and int(r[by]) < row[by]] + [row]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, row, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    write_whole(file, text.getvalue())
