"""Find the largest eps that keeps a given share of the images' identity."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._util.extras import require
from .._util.provenance import provenance
from ..functional import Loss
from ..guard import Reference
from ..hub.folder import recommend
from ..preserve import preserve_state
from ..transforms import AdversarialTransform as Attack
from .confidence import MARGIN, images_needed, wilson
from .identity import IdentityMeter

EPS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # multiples of the transform's own eps, whatever its norm and unit


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What :func:`calibrate` found."""

    measure: str  # what is kept: ``"prediction_agreement"`` or ``"retrieval_at_1"``
    keep: float  # at this share or above
    settings: dict[str, Any]  # of the transform
    curve: list[dict[str, float]]  # for each eps, ascending: eps and the meter's means
    explained: float = 1.0  # share of the pixels' variance, within each image, that the reconstructions have
    run: dict[str, str] = dataclasses.field(default_factory=provenance)

    @property
    def images(self) -> int:
        """How many images were measured."""
        return int(self.curve[0]["images"])

    @property
    def plausible(self) -> bool:
        """Whether the autoencoder explains at least half of the pixels' variance; below that, no eps means much."""
        return self.explained >= 0.5

    @property
    def recommended(self) -> float | None:
        """The largest measured eps up to which every measured eps keeps the share.

        None if there is none, or if the autoencoder is not :attr:`plausible`.
        """
        kept = None
        for row in self.curve if self.plausible else ():
            if not row[self.measure] >= self.keep:
                break
            kept = row["eps"]
        return kept

    @property
    def unlimited(self) -> bool:
        """Whether every eps that was tried keeps the share, so the limit is larger."""
        return self.recommended == self.curve[-1]["eps"]

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the share that the recommended eps keeps."""
        kept = [row[self.measure] for row in self.curve if row["eps"] == self.recommended]
        return wilson(kept[0], self.images) if kept else None

    def __str__(self) -> str:
        """The answer as a sentence."""
        share = f"{self.measure} of at least {self.keep:g}"
        if not self.plausible:
            return (
                f"no eps is recommended: the weights explain {100 * max(0, self.explained):.3g} % of the variance of "
                "these images' pixels, and views change only what is explained; train on images like these, or use "
                "other weights"
            )
        if not self.interval:
            first = self.curve[0]
            return (
                f"no eps keeps {share}: the smallest, {first['eps']:g}, has {first[self.measure]:.3g}; try smaller "
                "values, a lower keep, or another reference model"
            )
        low, high = self.interval
        answer = f"eps = {self.recommended:g} keeps {share} (95 % interval {low:.3f} to {high:.3f})"
        if self.unlimited:
            return f"{answer}; it is the largest that was tried, so the limit is larger"
        later = [row for row in self.curve if row["eps"] > (self.recommended or 0)]
        again = [f"{row['eps']:g}" for row in later[1:] if row[self.measure] >= self.keep]
        aside = f" (larger ones that do are not trusted: {', '.join(again)})" if again else ""
        return f"{answer}; {later[0]['eps']:g} does not{aside}"

    def save(self, folder: str | os.PathLike[str], about: str = "") -> None:
        """Make the recommended eps the default of the weights in ``folder``, with the settings it was found for.

        The reason is saved too: the curve, where the numbers come from, and what you say ``about`` reference model and
        data. Arguments of ``from_pretrained`` and of a call override what is saved.

        Raises:
            ValueError: there is nothing to recommend, or the share is not known to within 0.03 (half its 95 %
                interval): ``keep=0.95`` needs 215 images, 0.9 needs 388, and 1 needs 61; see
                ``idaa_transforms.measure.confidence.images_needed``.
        """
        if self.recommended is None:
            raise ValueError(f"nothing to save: {self}")
        if self.images < images_needed(self.keep):
            raise ValueError(
                f"{too_few(self.images, self.keep)}, or set it yourself: from_pretrained(..., eps={self.recommended:g})"
            )
        reason = {"answer": str(self), "about": about} | dataclasses.asdict(self)
        recommend(Path(folder).expanduser(), self.settings | {"eps": self.recommended}, reason)

    def to_json(self) -> str:
        """All of it, with the answer."""
        return json.dumps(dataclasses.asdict(self) | {"recommended": self.recommended, "answer": str(self)}, indent=1)


def too_few(images: int, keep: float) -> str:
    """The error for too few ``images``."""
    return (
        f"{images} images are too few to save what keeps a share of {keep:g}: they tell it less precisely than to "
        f"{MARGIN:g}; use {images_needed(keep)} or more"
    )


def even(images: Tensor, batch_size: int) -> Sequence[Tensor]:
    """Split ``images`` into batches of at most ``batch_size`` and almost equal size, since a contrastive loss depends
    on the size: one image left over would have no negatives."""
    return images.tensor_split(-(-len(images) // batch_size))


def calibrate(
    aug: Any,
    loader: Iterable[Any],
    make_loss: Callable[[Tensor], Loss],
    reference: IdentityMeter | Reference | str,
    keep: float = 0.95,
    *,
    values: Sequence[float] | None = None,
    refine: int = 7,
) -> Calibration:
    """Find the largest eps at which views keep their identity.

    Identity is the meter's ``prediction_agreement`` for a reference model of classes, else ``retrieval_at_1``. One pass
    over the loader measures ``values``; a second one measures ``refine`` values between the last that keeps the share
    and the first that does not.

    Args:
        aug: a transform of this library, also of ``idaa_transforms.kornia``; its other settings stay as they are.
        loader: batches x (B, C, H, W), or tuples that begin with x: a list or a DataLoader.
        make_loss: from x to the closure to maximise: ``lambda x: objectives.simclr(model, model(flip(x)))``.
        reference: an :class:`IdentityMeter`, or the reference model for one.
        keep: the share to keep.
        values: eps to try. Default: 1/4, 1/2, 1, 2, 4 and 8 times the transform's own.

    Raises:
        ValueError: the loader can be read only once or is empty, or the reference model fails.
    """
    if iter(loader) is loader:
        raise ValueError("loader can be read only once, and two passes are needed; give a list or a DataLoader")
    meter = reference if isinstance(reference, IdentityMeter) else IdentityMeter(reference)
    measure = "prediction_agreement" if meter.logits else "retrieval_at_1"
    attack: Attack = getattr(aug, "attack", aug)
    values = sorted(values or [_rounded(attack.eps * times) for times in EPS])
    curve, explained = _pass(attack, loader, make_loss, meter, values)
    high = next((value for value in values if not curve[value][measure] >= keep), None)
    if high is not None:
        low = max((value for value in values if value < high), default=0)
        between = {_rounded(low + (high - low) * i / (refine + 1)) for i in range(1, refine + 1)} - {low, high}
        curve |= _pass(attack, loader, make_loss, meter, sorted(between))[0] if between else {}
    rows = [curve[value] for value in sorted(curve)]
    return Calibration(measure, keep, attack._saved(), rows, explained)


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _pass(
    attack: Attack,
    loader: Iterable[Any],
    make_loss: Callable[[Tensor], Loss],
    meter: IdentityMeter,
    values: Sequence[float],
) -> tuple[dict[float, dict[str, float]], float]:
    """One pass over the loader: the meter's means for each eps, and the share of variance that is explained."""
    require("train", "tqdm")
    from tqdm import tqdm

    meters = {value: copy.copy(meter) for value in values}
    for each in meters.values():
        each.reset()
    images, residual, variance = 0, 0.0, sys.float_info.min  # the last two are sums of squares
    for batch in tqdm(loader, desc="calibrate", unit="batch", leave=False):
        x = batch[0] if isinstance(batch, tuple | list) else batch
        loss_fn, features = make_loss(x), meter.features(x)
        with torch.no_grad(), preserve_state(loss_fn):
            before = loss_fn(x)
        for value, views, rest in _views(attack, x, loss_fn, values):
            with torch.no_grad(), preserve_state(loss_fn):
                after = loss_fn(views)
            meters[value].update(x, views, losses=(before, after), features=features)
            if value == values[0]:
                residual += rest.float().square().sum().item()
        images += len(x)
        variance += (x.float() - x.float().mean(tuple(range(2, x.ndim)), keepdim=True)).square().sum().item()
    if not images:
        raise ValueError("loader is empty; it must give batches of images at each pass")
    return {value: {"eps": value} | each.compute() for value, each in meters.items()}, 1 - residual / variance


def _views(attack: Attack, x: Tensor, loss_fn: Loss, values: Sequence[float]) -> Iterator[tuple[float, Tensor, Tensor]]:
    """Views of ``x`` at each eps, and the residual R(x)."""
    one_step = attack.steps == 1 and not attack.random_start and attack.step_size is None
    if one_step and attack.target_gain is None and attack.guard is None:
        # A single step from zero has the same direction at every eps: one gradient is enough for all of them.
        found = attack.explain(x, loss_fn=loss_fn, eps=values[-1])
        residual = found.residual
        for value in values:
            with torch.no_grad():
                views = found.split.view(found.delta * (value / values[-1]))
            yield value, views, residual
        return
    for value in values:
        explained = attack.explain(x, loss_fn=loss_fn, eps=value)
        yield value, explained.views, explained.residual
