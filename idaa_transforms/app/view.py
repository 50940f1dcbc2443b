"""One view of one picture, with all that a page shows of it: the app without its page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .. import objectives
from ..guard import Guard
from ..guard import frozen as judging
from ..measure.models import ModelError, named
from ..transforms import IDAATransform
from .models import Models
from .pictures import SIZES

MOST_STEPS = 20
TOP = 3
"""Classes that are shown of the picture, and of its view."""
FIXED: dict[str, Any] = {"start": "zero", "mean": None, "std": None, "p": 1.0, "clip": None}
"""Of settings that the page does not offer and that weights may come with: pictures are in [0, 1] here."""


@dataclass(frozen=True)
class Setup:
    """What can be chosen; see :class:`~idaa_transforms.core.settings.Settings`.

    Args:
        weights, network, judge: by name; the network is attacked, and the judge says what is to be seen.
        size: height and width of the picture.
        guard: the least cosine between the judge's scores of picture and view; None for no guard.
    """

    weights: str = "cifar10-vae"
    network: str = "cifar10-classifier"
    judge: str = "cifar10-reference"
    size: int = 32
    eps: float = 0.1
    norm: str = "linf"
    steps: int = 1
    scale: str = "latent"
    target_gain: float | None = None
    guard: float | None = None

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise ValueError(f"size={self.size!r} is not one of {SIZES}")
        if self.steps > MOST_STEPS:
            raise ValueError(f"steps={self.steps!r} are more than the {MOST_STEPS} that the app takes")

    def options(self, saved: dict[str, Any]) -> dict[str, Any]:
        """Settings of the transform but for the guard: eps, what is not as the package has it, and what would not be
        as chosen since ``saved`` with the weights is something else."""
        chosen = {name: getattr(self, name) for name in ("eps", "norm", "steps", "scale", "target_gain")} | FIXED
        return {n: v for n, v in chosen.items() if n == "eps" or v != saved.get(n, getattr(IDAATransform, n, None))}


class Opinion(NamedTuple):
    """What a network says: the probability of classes, by name, in picture and view; the likeliest of both."""

    network: str
    before: dict[str, float]
    after: dict[str, float]


class Result(NamedTuple):
    """One view and what led to it, images (3, H, W)."""

    x: Tensor
    reconstruction: Tensor  # G(x)
    residual: Tensor  # R(x)
    view: Tensor
    change: Tensor  # |x' - x|, mean over the channels, (H, W)
    loss_before: float
    loss_after: float
    opinions: tuple[Opinion, ...]  # of the judge and, where it is another, of the network
    notes: tuple[str, ...]  # what one may not expect
    seconds: float


def make_view(x: Tensor, setup: Setup, models: Models) -> Result:
    """A view of ``x`` (1, 3, H, W) in [0, 1] that raises the network's cross-entropy with the class that it sees in x.

    Args:
        models: what ``setup`` names; one view at a time is made with them, whoever asks.

    Raises:
        ValueError, OSError, ImportError: settings that do not go together, weights or networks that cannot be used.
    """
    autoencoder, saved = models.weights(setup.weights)
    network, judge = models.network(setup.network), models.network(setup.judge)
    with models.lock:
        started = time.perf_counter()
        guard = None if setup.guard is None else Guard(judge, setup.guard)
        aug = IDAATransform(autoencoder, **(saved | setup.options(saved) | {"guard": guard}))
        labels = _scores(setup.network, network, x).argmax(1)
        with named(f"the network {setup.network}", x):
            loss_fn = objectives.supervised(network, labels)
            found = aug.explain(x, loss_fn=loss_fn)
        seconds = time.perf_counter() - started
        pair = torch.cat([x, found.views])
        names = dict.fromkeys((setup.judge, setup.network))
        opinions = tuple(_opinion(name, models, _scores(name, models.network(name), pair)) for name in names)
    return Result(
        x[0],
        found.reconstruction[0],
        found.residual[0],
        found.views[0],
        (found.views - x)[0].abs().mean(0),
        found.loss_before.item(),
        found.loss_after.item(),
        opinions,
        tuple(_notes(aug.stats(), (setup.network, setup.judge), models)),
        seconds,
    )


def _scores(name: str, network: Any, images: Tensor) -> Tensor:
    with judging(network) as judge, named(f"the network {name}", images):
        scores = judge(images)
    shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
    if not isinstance(scores, Tensor) or scores.ndim != 2 or len(scores) != len(images) or scores.shape[1] < 2:
        raise ModelError(f"the network {name} gave {shape} for {len(images)} images; it must give scores (B, classes)")
    if not scores.isfinite().all():
        raise ModelError(f"the network {name} gave NaN or infinity; check its weights, and the range that it takes")
    return scores


def _opinion(name: str, models: Models, scores: Tensor) -> Opinion:
    classes = models.classes(name, scores.shape[1])
    shares = scores.float().softmax(1)
    top = dict.fromkeys(shares.topk(min(TOP, len(classes))).indices.flatten().tolist())
    before, after = ({classes[i]: row[i].item() for i in top} for row in shares)
    return Opinion(name, before, after)


def _notes(counts: dict[str, int], names: Sequence[str], models: Models) -> list[str]:
    notes = [
        f"{name} is not trained: no pretrained weights of it are on this machine. What it says means nothing."
        for name in dict.fromkeys(names)
        if not models.is_trained(name)
    ]
    if counts["unchanged"]:
        notes.append("The network's loss has no slope at this picture, so the view is the picture itself.")
    if counts.get("weakened"):
        notes.append("The judge did not know the first view again, so the guard made its step smaller.")
    if counts.get("refused"):
        notes.append("The judge knew none of the weaker views again, so the guard gave the picture back as it was.")
    return notes
