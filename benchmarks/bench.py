"""Measure what hard views cost, beside the targets.

    python -m benchmarks.bench                                      # the table of targets; minutes on two cores
    python -m benchmarks.bench --suites all                         # everything
    python -m benchmarks.bench --suites all --device cuda --batch 512 --dtype bfloat16

Each suite writes results/speed/<device>-<suite>.json; results/speed/speed.md has the tables of all that are there.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import time
from pathlib import Path
from typing import Any

import torch

from idaa_transforms._util.precision import use_bfloat16

from . import harness
from .suites import Options
from .workload import DTYPES

SUITES = ("targets", "steps", "peers", "large", "startup")


def of_rows(rows: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    """Any rows as a table: what varies, then milliseconds, and those over the first row."""
    keys = list(dict.fromkeys(key for row in rows for key in row if key != "ms"))
    varied = [k for k in keys if k == "case" or len({json.dumps(row.get(k)) for row in rows}) > 1]
    lines = []
    for row in rows:
        ms = row["ms"]
        cells = [harness.number(row.get(key)) for key in varied]
        cells.append("{} ({} to {})".format(*(harness.number(ms[k]) for k in ("median", "q1", "q3"))))
        lines.append([*cells, f"{ms['median'] / rows[0]['ms']['median']:.2f}"])
    header = [*(k.replace("_", " ") for k in varied), "ms, median (quartiles)", "over the first"]
    return harness.table(header, lines)


def page(file: Path) -> str:
    """A suite's table under its title, with where it comes from."""
    result = json.loads(file.read_text())
    settings, run = result["settings"], result["run"]
    suite = importlib.import_module(f".suites.{settings['suite']}", __package__)
    table = getattr(suite, "table", of_rows)(result["rows"], settings)
    shown = ", ".join(f"{key} {settings[key]}" for key in ("batch", "dtype", "repeats", "threads") if key in settings)
    origin = f"`{run['command']}`, commit {run['commit']}, {run['machine']}, {run['versions']}, {run['date']}."
    text = (suite.__doc__ or "").strip().replace("``", "`")
    return "\n\n".join([f"## {suite.TITLE}, {settings['device']}", text, table, f"{shown}. {origin}"])


def write(folder: Path) -> Path:
    """``speed.md`` in ``folder``, of all results there."""
    parts = ["# How fast", "Ratios hold on other machines; times do not. Made by `python -m benchmarks.bench`."]
    for device in sorted({file.stem.split("-")[0] for file in folder.glob("*.json")}):
        files = [folder / f"{device}-{suite}.json" for suite in SUITES]
        parts += [page(file) for file in files if file.exists()]
    out = folder / "speed.md"
    out.write_text("\n\n".join(parts) + "\n")
    return out


def main() -> None:
    """Measure, save and print suite after suite."""
    default = Options()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", nargs="+", choices=[*SUITES, "all"], default=["targets"])
    parser.add_argument("--device", default=default.device, help="cpu or cuda")
    parser.add_argument("--dtype", choices=DTYPES, default=default.dtype)
    parser.add_argument("--batch", type=int, default=default.batch, help="images a batch")
    parser.add_argument("--repeats", type=int, default=default.repeats)
    parser.add_argument("--weights", nargs="+", default=default.weights, help="of the suite large: names or folders")
    args = vars(parser.parse_args())
    chosen = SUITES if "all" in args["suites"] else args["suites"]
    if not use_bfloat16(args["dtype"] == "bfloat16", args["device"]):
        args["dtype"] = "float32"
    options = Options(**{field.name: args[field.name] for field in dataclasses.fields(Options)})
    for name in chosen:
        started = time.perf_counter()
        rows = list(importlib.import_module(f".suites.{name}", __package__).run(options))
        settings = {"suite": name} | dataclasses.asdict(options) | {"threads": torch.get_num_threads()}
        file = harness.save(f"speed/{options.device.split(':')[0]}-{name}", settings, rows)
        print(f"\n{page(file)}\n{time.perf_counter() - started:.0f} s", flush=True)
    write(harness.RESULTS / "speed")


if __name__ == "__main__":
    main()
