"""What it costs to keep a closure's model untouched, beside a SimCLR step of a ResNet-50 at 64 pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torchvision

from idaa_transforms import untouched
from idaa_transforms.losses import nt_xent

from .. import harness
from ..workload import batch_of
from . import Options

TITLE = "The shield"


def run(options: Options) -> Iterator[dict[str, Any]]:
    """A row for each thing that a closure may hold, in one run."""
    model = torchvision.models.resnet50(num_classes=64).to(options.device).train()
    images = batch_of(options.batch, 64).to(options.device)
    queue = torch.nn.Module()
    queue.register_buffer("queue", torch.zeros(65536, 128, device=options.device))
    copy = torch.zeros_like(queue.queue)

    def step() -> None:
        model.zero_grad()
        nt_xent(model(images), model(images.flip(-1))).mean().backward()

    cases: dict[str, Callable[[], Any]] = {
        "a SimCLR step of a ResNet-50": step,
        "the shield around the ResNet-50": lambda: _shield(model),
        "the shield around a MoCo queue of 65,536 x 128": lambda: _shield(queue),
        "a copy of that queue": lambda: copy.copy_(queue.queue),
    }
    yield from harness.rows(cases, options.repeats, options.device, batch=options.batch)


def _shield(model: torch.nn.Module) -> None:
    with untouched(lambda views: model(views)):  # a new closure each time, as in a training loop
        pass
