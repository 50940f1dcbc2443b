"""How long it takes to import the package, beside what it is built on, and to load each of the weights."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from idaa_transforms.hub.registry import PRETRAINED

from .. import harness
from . import Options

TITLE = "Start-up"
ROOT = Path(__file__).parents[2]
CLOCK = "import time; start = time.perf_counter(); {}; print(1e3 * (time.perf_counter() - start))"
LOAD = "from idaa_transforms import IDAATransform; " + CLOCK.format("IDAATransform.from_pretrained({!r})")
IMPORTS = ("import torch, torchvision", "from idaa_transforms import IDAATransform")
COMMANDS = {"idaa list": CLOCK.format("from idaa_transforms.cli import main; main(['list'])")}  # it imports no torch
CASES = {case: CLOCK.format(case) for case in IMPORTS} | COMMANDS
CASES |= {f"load {name}": LOAD.format(name) for name in PRETRAINED}


def run(options: Options, cases: dict[str, str] | None = None) -> Iterator[dict[str, Any]]:
    """A row for each import, and for each name, in processes of their own. Interleaved; the first round, which warms
    the disk's cache, is dropped."""
    cases = cases or CASES
    times: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(1 + max(2, options.repeats // 2)):
        for name, code in cases.items():
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
            if turn:
                times[name].append(float(done.stdout.split()[-1]))
    for name, values in times.items():
        yield {"case": name, "ms": harness.summary(values)}
