"""What every training run needs: its device, its processes, and files that survive an interruption."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import torch
from torch import distributed


def own_device(name: str) -> torch.device:
    """The device of this process: under torchrun ``"cuda"`` is a GPU for each process of the machine."""
    rank = os.environ.get("LOCAL_RANK")
    return torch.device(name if rank is None or name != "cuda" else f"cuda:{rank}")


def processes(device: torch.device) -> tuple[int, int]:
    """Rank and number of processes; joins the group that torchrun describes."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return 0, 1
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return distributed.get_rank(), distributed.get_world_size()


def save_whole(state: dict[str, Any], file: Path) -> None:
    """``torch.save`` such that a process killed meanwhile leaves the last file whole."""
    partial = file.with_suffix(".tmp")
    torch.save(state, partial)
    partial.replace(file)


def log_row(file: Path, row: dict[str, Any]) -> None:
    """Append ``row`` to a CSV; what an interrupted run had written of the same and later epochs goes."""
    old = list(csv.DictReader(file.open())) if file.exists() else []
    rows = [r for r in old if int(r["epoch"]) < row["epoch"]] + [row]
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, row)
        writer.writeheader()
        writer.writerows(rows)
