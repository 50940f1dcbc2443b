"""Other people's attacks on the same model, and kornia's random augmentation: what an augmentation costs otherwise.

The model is in eval mode, which torchattacks puts it into (and the closure sees it as it is), with cross-entropy, the
loss that torchattacks knows. It pins an old requests, so that ``make`` installs it by itself: ``pip install --no-deps
torchattacks``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from idaa_transforms import CLAETransform, IDAATransform
from idaa_transforms.training.augmentation import ssl_augmentation

from .. import harness
from ..workload import Cases, Workload
from . import Options

TITLE = "Peers"
STEPS = 5


def cases(work: Workload) -> Cases:
    """Attacks of one step and of several, kornia's usual pipeline, and training steps on a clean and a hard view."""
    import torchattacks

    model, x, eps = work.model.eval(), work.x, work.clae.eps
    random = ssl_augmentation(tuple(x.shape[2:]))
    idaa = IDAATransform(work.idaa.autoencoder, work.idaa.eps, steps=STEPS).to(x.device)
    clae = CLAETransform(eps, steps=STEPS).to(x.device)
    labels = torch.arange(len(x), device=x.device) % 64
    fgsm, pgd = torchattacks.FGSM(model, eps), torchattacks.PGD(model, eps, eps / 2, STEPS, random_start=False)

    def of_torchattacks(attack: Any) -> Any:
        def run(images: Tensor = x) -> Tensor:
            with work.autocast():
                return attack(images, labels)

        return run

    def loss(views: Tensor) -> Tensor:
        return F.cross_entropy(work.forward(views), labels, reduction="sum")

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
        f"CLAE, {STEPS} steps": lambda: clae(x, loss_fn=loss),
        f"IDAA, {STEPS} steps": lambda: idaa(x, loss_fn=loss),
        "training step on clean and torchattacks FGSM": step(of_torchattacks(fgsm)),
        "training step on clean and CLAE, grad=": step(lambda leaf: work.clae(leaf, grad=leaf.grad)),
        "training step on clean and IDAA, grad=": step(lambda leaf: work.idaa(leaf, grad=leaf.grad)),
    }


def run(options: Options) -> Iterator[dict[str, Any]]:
    """A row for each."""
    work = Workload(options.batch, options.device, options.dtype)
    yield from harness.rows(cases(work), options.repeats, options.device, batch=options.batch, dtype=options.dtype)
