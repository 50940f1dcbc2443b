"""How long it takes to import the package, beside what it is built on, and to load each of the weights: new processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import harness

from idaa_transforms.hub import PRETRAINED

from . import Options

TITLE = "Start-up"
CLOCK = "import time; start = time.perf_counter(); {}; print(1e3 * (time.perf_counter() - start))"
IMPORTS = {
    "import torch, torchvision": CLOCK.format("import torch, torchvision.transforms.v2"),
    "import idaa_transforms": CLOCK.format("import idaa_transforms"),
}
LOAD = "from idaa_transforms import IDAATransform; " + CLOCK.format("IDAATransform.from_pretrained({!r})")


def run(options: Options) -> Iterator[dict[str, Any]]:
    """A row for each import, and for each name. Interleaved; the first round warms the disk's cache and is dropped."""
    cases = IMPORTS | {f"load {name}": LOAD.format(name) for name in PRETRAINED}
    times: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(1 + max(2, options.repeats // 2)):
        for name, code in cases.items():
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            if turn:
                times[name].append(float(done.stdout.split()[-1]))
    for name, values in times.items():
        yield {"case": name, "ms": harness.summary(values)}
