"""How large eps may be: the largest one that keeps a given share of the images' identity, with the whole curve."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from torch import Tensor

from .._util.extras import require
from .._util.provenance import provenance
from ..functional import Loss
from ..guard import Reference as Judge
from ..hub.folder import recommend
from ..transforms import AdversarialTransform as Attack
from .confidence import MARGIN, images_needed, wilson
from .identity import SHARES, IdentityMeter, mean_colour

EPS = (0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0)  # in units of the transform's own, whatever its norm and scale
STEPS = (1, 2, 3, 5, 8)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What :func:`calibrate` found."""

    vary: Literal["eps", "steps"]
    measure: str  # the column of the curve that has to stay
    keep: float  # at this share at least
    settings: dict[str, Any]  # of the transform
    curve: list[dict[str, float]]  # one row a value of ``vary``, ascending: the value, and the meter's means there
    explained: float = 1.0  # share of the pixels' variance, within each image, that the reconstructions have
    run: dict[str, str] = dataclasses.field(default_factory=provenance)

    @property
    def images(self) -> int:
        """How many images were measured."""
        return int(self.curve[0]["images"])

    @property
    def plausible(self) -> bool:
        """Whether the autoencoder explains at least half of the pixels' variance; an eps for another means nothing."""
        return self.explained >= 0.5

    @property
    def recommended(self) -> float | None:
        """The largest measured value up to which every measured value keeps the share.

        None where there is none, and for an autoencoder that is not :attr:`plausible`.
        """
        kept = None
        for row in self.curve if self.plausible else ():
            if not row[self.measure] >= self.keep:
                break
            kept = row[self.vary]
        return kept

    @property
    def unlimited(self) -> bool:
        """Whether all that was tried keeps the share, so that the limit lies beyond."""
        return self.recommended == self.curve[-1][self.vary]

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of the share that the recommended value keeps; None where the measure is no share."""
        if self.recommended is None or self.measure not in SHARES:
            return None
        return wilson(self._kept, self.images)

    @property
    def _kept(self) -> float:
        return next(row[self.measure] for row in self.curve if row[self.vary] == self.recommended)

    def __str__(self) -> str:
        """The answer as a sentence."""
        share = f"{self.measure} of at least {self.keep:g}"
        if not self.plausible:
            return (
                f"no {self.vary} is recommended: the weights explain {100 * max(0, self.explained):.3g} % of the "
                "variance of these images' pixels, under half of it, and views vary nothing but what is explained; "
                "train on images like these, or take other weights"
            )
        if self.recommended is None:
            first = self.curve[0]
            return (
                f"no {self.vary} keeps {share}: already {first[self.vary]:g} has {first[self.measure]:.3g}; try "
                "smaller values, a lower keep, or look at what the judge makes of the images themselves"
            )
        low, high = self.interval or (0, 0)
        known = f", 95 % interval {low:.3f} to {high:.3f}" if self.interval else ""
        answer = f"{self.vary} = {self.recommended:g} keeps {share} ({self._kept:.3g}{known})"
        if self.unlimited:
            return f"{answer}, as does all that was tried; the limit lies beyond"
        later = [row[self.vary] for row in self.curve if row[self.vary] > self.recommended]
        again = [row[self.vary] for row in self.curve if row[self.vary] > later[0] and row[self.measure] >= self.keep]
        aside = f" ({', '.join(f'{v:g}' for v in again)} would again, and is not trusted)" if again else ""
        return f"{answer}; {later[0]:g} does not{aside}"

    def save(self, folder: str | os.PathLike[str], about: str = "") -> None:
        """Make the recommended value the default of the weights in ``folder``, with the settings it was found for.

        Their config gets the reason as well: the curve, where the numbers come from, and what you say ``about`` judge
        and data. Values given at the call, or to ``from_pretrained``, go before what is saved.

        Raises:
            ValueError: there is nothing to recommend, or too few images say so. What is saved is a promise, so the
                share has to be known to within 0.03 (the half width of its 95 % interval). For that
                ``keep=0.95`` needs 215 images, ``keep=0.9`` 388, and ``keep=1`` 61: see
                :func:`~idaa_transforms.measure.confidence.images_needed`. Measures that are no share need as many.
        """
        if self.recommended is None:
            raise ValueError(f"nothing to save: {self}")
        if self.images < images_needed(self.keep):
            raise ValueError(
                f"{too_few(self.images, self.keep)}, or set it yourself: "
                f"from_pretrained(..., {self.vary}={self.recommended:g})"
            )
        reason = {"answer": str(self), "about": about} | dataclasses.asdict(self)
        recommend(Path(folder), self.settings | {self.vary: self.recommended}, reason)

    def to_json(self) -> str:
        """All of it, with the answer."""
        return json.dumps(dataclasses.asdict(self) | {"recommended": self.recommended, "answer": str(self)}, indent=1)


def too_few(images: int, keep: float) -> str:
    """What to say of so few ``images``."""
    return (
        f"{images} images are too few to save what keeps a share of {keep:g}: they do not tell it to within "
        f"{MARGIN:g}; give {images_needed(keep)} or more"
    )


def even(images: Tensor, batch_size: int) -> Sequence[Tensor]:
    """``images`` in batches of at most ``batch_size`` and almost the same size: a contrastive loss depends on it, and
    one image left over would have nothing to differ from."""
    return images.tensor_split(-(-len(images) // batch_size))


class HoldsAttack(Protocol):
    """A transform around an attack, such as those of ``idaa_transforms.kornia``."""

    attack: Attack


def calibrate(
    aug: Attack | HoldsAttack,
    loader: Iterable[Any],
    make_loss: Callable[[Tensor], Loss],
    judge: IdentityMeter | Judge | str,
    keep: float = 0.95,
    *,
    vary: Literal["eps", "steps"] = "eps",
    values: Sequence[float] | None = None,
    measure: str | None = None,
    refine: int = 3,
) -> Calibration:
    """The largest eps (or number of steps at the transform's eps) at which views keep their identity.

    Measures each of ``values``, then bisects ``refine`` times between the last that keeps and the first that does not.

    Args:
        aug: a transform of this library, also of ``idaa_transforms.kornia``; its other settings stay as they are.
        loader: batches x (B, C, H, W), or tuples that begin with x, the same at each pass: a list or a DataLoader.
        make_loss: from x to the closure to raise: ``lambda x: objectives.simclr(model, model(flip(x)))``.
        judge: an :class:`IdentityMeter`, or what makes one.
        keep: the share to keep.
        measure: which of the meter's. Default: ``"prediction_kept"`` for a judge of classes, else ``"retrieved"``.
        values: of eps or steps to try, each one pass over the loader. Default: from a fifth of the transform's own eps
            to ten times of it; 1 to 8 steps.

    Raises:
        ValueError: for a loader that can be read only once or is empty, an unknown measure, and a judge that fails.
    """
    require("train", "tqdm")
    from tqdm import tqdm

    if iter(loader) is loader:
        raise ValueError("loader can be read only once, and each value needs a pass; give a list or a DataLoader")
    meter = judge if isinstance(judge, IdentityMeter) else IdentityMeter(judge)
    measure = measure or ("prediction_kept" if meter.logits else "retrieved")
    attack = aug if isinstance(aug, Attack) else aug.attack
    residual, variance = 0.0, sys.float_info.min  # sums of squares, of all passes
    curve: dict[float, dict[str, float]] = {}
    before = getattr(attack, vary)
    todo = sorted(values or (STEPS if vary == "steps" else [round(before * times, 12) for times in EPS]))
    bar = tqdm(desc=f"calibrate {vary}", total=len(todo) + refine, unit="pass", leave=False)

    def keeps(value: float) -> bool:
        setattr(attack, vary, value)
        bar.set_postfix_str(f"{vary}={value:g}")
        nonlocal residual, variance
        meter.reset()
        x = None
        for batch in loader:
            x = batch[0] if isinstance(batch, tuple | list) else batch
            found = attack.explain(x, loss_fn=make_loss(x))
            losses = found.loss_before, found.loss_after
            meter.update(x, found.views, losses=losses, reconstruction=found.reconstruction)
            residual += found.residual.float().square().sum().item()
            variance += (x.float() - mean_colour(x.float())).square().sum().item()
        if x is None:
            raise ValueError("loader is empty; it must give batches of images at each pass")
        curve[value] = {vary: value} | meter.compute()
        bar.update()
        if measure not in curve[value]:
            raise ValueError(f"measure={measure!r} is not one of {[name for name in curve[value] if name != vary]}")
        return curve[value][measure] >= keep

    try:
        failed = [value for value in todo if not keeps(value)]
        high = min(failed, default=todo[-1])
        low = max((value for value in todo if value < high), default=0)
        for _ in range(refine if failed else 0):
            middle = (low + high) / 2 if vary == "eps" else (low + high) // 2
            if middle in (low, high) or not middle:
                break
            low, high = (middle, high) if keeps(middle) else (low, middle)
    finally:
        setattr(attack, vary, before)
        bar.close()
    rows = [curve[value] for value in sorted(curve)]
    return Calibration(vary, measure, keep, attack._saved(), rows, explained=1 - residual / variance)
