"""Whole SimCLR training steps, by the view in them, and what each costs beside two random views alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .. import harness
from ..workload import STEPS, Workload
from . import Options

TITLE = "Training steps"


def run(options: Options) -> Iterator[dict[str, Any]]:
    """A row for each kind of step, all in one run."""
    work = Workload(options.batch, options.device, options.dtype)
    cases = {view: work.step(view) for view in STEPS}
    yield from harness.rows(cases, options.repeats, options.device, batch=options.batch, dtype=options.dtype)
