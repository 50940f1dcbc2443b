"""Other people's attacks on the same model, and kornia's random augmentation: what an augmentation costs otherwise.

The model is in eval mode, which torchattacks puts it into (and the closure sees it as it is), with cross-entropy, the
loss that torchattacks knows. It pins an old requests, so that ``make`` installs it by itself: ``pip install --no-deps
torchattacks``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import harness
import kornia.augmentation as K
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from workload import Cases, Workload

from . import Options

TITLE = "Peers"
STEPS = 5


def cases(work: Workload) -> Cases:
    """Attacks of one step and of several, kornia's usual pipeline, and training steps on a clean and a hard view."""
    import torchattacks

    model, x, eps = work.model.eval(), work.x, 0.006
    labels = torch.arange(len(x), device=x.device) % 64
    fgsm, pgd = torchattacks.FGSM(model, eps), torchattacks.PGD(model, eps, eps / 2, STEPS, random_start=False)

    def of_torchattacks(attack: Any) -> Any:
        def run(images: Tensor = x) -> Tensor:
            with work.autocast():
                return attack(images, labels)

        return run

    def loss(views: Tensor) -> Tensor:
        return F.cross_entropy(work.forward(views), labels, reduction="sum")

    def several(transform: Any) -> Any:
        def attack() -> Tensor:
            transform.steps = STEPS
            try:
                return transform(x, loss_fn=loss)
            finally:
                transform.steps = 1

        return attack

    random = nn.Sequential(
        K.RandomResizedCrop(tuple(x.shape[2:]), scale=(0.08, 1.0)),
        K.RandomHorizontalFlip(),
        K.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        K.RandomGrayscale(p=0.2),
    )

    def step(attack: Any) -> Any:  # clean first, so that its own gradient at x is there for who can use it
        def run() -> None:
            leaf = x.detach().requires_grad_()
            loss(leaf).backward()
            loss(attack(leaf)).backward()
            model.zero_grad()

        return run

    return {
        "kornia's random views": lambda: random(x),
        "torchattacks FGSM": of_torchattacks(fgsm),
        "CLAE, loss_fn=": lambda: work.clae(x, loss_fn=loss),
        "IDAA, loss_fn=": lambda: work.idaa(x, loss_fn=loss),
        "CLAE, grad=": lambda: work.clae(x, grad=work.gradient),
        "IDAA, grad=": lambda: work.idaa(x, grad=work.gradient),
        f"torchattacks PGD, {STEPS} steps": of_torchattacks(pgd),
        f"CLAE, {STEPS} steps": several(work.clae),
        f"IDAA, {STEPS} steps": several(work.idaa),
        "training step on clean and torchattacks FGSM": step(of_torchattacks(fgsm)),
        "training step on clean and CLAE, grad=": step(lambda leaf: work.clae(leaf, grad=leaf.grad)),
        "training step on clean and IDAA, grad=": step(lambda leaf: work.idaa(leaf, grad=leaf.grad)),
    }


def run(options: Options) -> Iterator[dict[str, Any]]:
    """A row for each."""
    work = Workload(options.batch, options.device, options.dtype)
    yield from harness.rows(cases(work), options.repeats, options.device, batch=options.batch, dtype=options.dtype)
