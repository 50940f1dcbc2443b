"""Whole SimCLR training steps, by the view in them, and what each costs beside two random views alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torchvision

from idaa_transforms.core.shield import untouched

from .. import harness
from ..workload import STEPS, Workload
from . import Options

TITLE = "Training steps"


def run(options: Options) -> Iterator[dict[str, Any]]:
    """A row for each kind of step, all in one run."""
    work = Workload(options.batch, options.device, options.dtype)
    cases = {view: work.step(view) for view in STEPS}
    cases["(the shield around the model, alone)"] = lambda: _shield(work.model)
    resnet50 = torchvision.models.resnet50().to(options.device).train()
    cases["(the shield around a ResNet-50)"] = lambda: _shield(resnet50)
    queue = torch.nn.Module().to(options.device)
    queue.register_buffer("queue", torch.zeros(65536, 128, device=options.device))
    cases["(the shield around a MoCo queue of 65,536 x 128)"] = lambda: _shield(queue)
    yield from harness.rows(cases, options.repeats, options.device, batch=options.batch, dtype=options.dtype)


def _shield(model: torch.nn.Module) -> None:
    with untouched(lambda views: model(views)):  # a new closure each time, as in a training loop
        pass
