"""What a view costs by batch, size of the images, dtype, steps, norm and chunk: one is varied, the others stay."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from idaa_transforms.util.precision import has_bfloat16

from .. import harness
from ..workload import Workload
from . import Options

TITLE = "Views"
AXES: dict[str, list[Any]] = {
    "size": [32, 64, 84, 224],
    "dtype": ["float32", "bfloat16"],
    "steps": [1, 2, 5],
    "norm": ["linf", "l2"],
    "chunk_size": [None, 8],
}


def run(options: Options) -> Iterator[dict[str, Any]]:
    """Rows with every axis in each, ``axis`` names the one that was varied."""
    base = {"batch": options.batch, "size": 32, "dtype": options.dtype, "steps": 1, "norm": "linf", "chunk_size": None}
    for axis, values in {"batch": list(options.batches), **AXES}.items():
        for value in values:
            if value == "bfloat16" and not has_bfloat16(options.device):
                continue
            setting = base | {axis: value}
            if setting["size"] == 224:
                setting["batch"] = min(setting["batch"], 8 if options.device == "cpu" else 64)
            work = Workload(device=options.device, **setting)
            yield from harness.rows(work.views(), options.repeats, options.device, axis=axis, **setting)


def table(rows: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    """A line for each value of each axis, a column for each case, as Markdown."""
    cases = list(dict.fromkeys(row["case"] for row in rows))
    lines: dict[str, list[str]] = {}
    for row in rows:
        batch = f", batch {row['batch']}" if row["axis"] == "size" else ""
        ms = f"{harness.number(row['ms']['median'])} ms, {row['peak_mib']:.0f} MiB"
        lines.setdefault(f"{row['axis']} {row[row['axis']]}{batch}", []).append(ms)
    return harness.table(["", *cases], [[name, *cells] for name, cells in lines.items()])
