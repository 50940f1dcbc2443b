"""Whole SimCLR training steps, by the view in them, and what each costs beside two random views alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import harness
from workload import STEPS, Workload

from idaa_transforms.core.shield import untouched

from . import Options

TITLE = "Training steps"


def run(options: Options) -> Iterator[dict[str, Any]]:
    """A row for each kind of step, all in one run."""
    work = Workload(options.batch, options.device, options.dtype)
    cases = {view: work.step(view) for view in STEPS}
    cases["(the shield around the model, alone)"] = lambda: _shield(work)
    yield from harness.rows(cases, options.repeats, options.device, batch=options.batch, dtype=options.dtype)


def _shield(work: Workload) -> None:
    with untouched(work.model):
        pass
