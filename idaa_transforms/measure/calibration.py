"""How large eps may be: the largest one that keeps a given share of the images' identity, with the whole curve."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from ..core.functional import Loss
from ..hub.folder import recommend
from ..util.extras import require
from ..util.provenance import provenance
from .identity import IdentityMeter

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
    run: dict[str, str] = dataclasses.field(default_factory=provenance)

    @property
    def recommended(self) -> float | None:
        """The largest measured value up to which every measured value keeps the share. None where there is none."""
        kept = None
        for row in self.curve:
            if not row[self.measure] >= self.keep:
                break
            kept = row[self.vary]
        return kept

    def __str__(self) -> str:
        """The answer as a sentence."""
        share = f"{self.measure} of at least {self.keep:g}"
        if self.recommended is None:
            first = self.curve[0]
            return (
                f"no {self.vary} keeps {share}: already {first[self.vary]:g} has {first[self.measure]:.3f}; try "
                "smaller values, a lower keep, or look at what the judge makes of the images themselves"
            )
        if self.recommended == self.curve[-1][self.vary]:
            return (
                f"{self.vary} = {self.recommended:g} keeps {share}, as does all that was tried; the limit lies beyond"
            )
        later = [row[self.vary] for row in self.curve if row[self.vary] > self.recommended]
        again = [row[self.vary] for row in self.curve if row[self.vary] > later[0] and row[self.measure] >= self.keep]
        aside = f" ({', '.join(f'{v:g}' for v in again)} would again, and is not trusted)" if again else ""
        return f"{self.vary} = {self.recommended:g} keeps {share}; {later[0]:g} does not{aside}"

    def save(self, folder: str | os.PathLike[str], about: str = "") -> None:
        """Make the recommended value the default of the weights in ``folder``, with the settings it was found for.

        Their config gets the reason as well: the curve, where the numbers come from, and what you say ``about`` judge
        and data. Values given at the call, or to ``from_pretrained``, go before what is saved.
        """
        if self.recommended is None:
            raise ValueError(f"nothing to save: {self}")
        reason = {"answer": str(self), "about": about} | dataclasses.asdict(self)
        recommend(Path(folder), self.settings | {self.vary: self.recommended}, reason)

    def to_json(self) -> str:
        """All of it, with the answer."""
        return json.dumps(dataclasses.asdict(self) | {"recommended": self.recommended, "answer": str(self)}, indent=1)


def calibrate(
    aug: Any,
    loader: Iterable[Any],
    make_loss: Callable[[Tensor], Loss],
    judge: Any,
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
        ValueError: for a loader that can be read only once or is empty, and an unknown measure.
    """
    require("train", "tqdm")
    from tqdm import tqdm

    if iter(loader) is loader:
        raise ValueError("loader can be read only once, and each value needs a pass; give a list or a DataLoader")
    meter = judge if isinstance(judge, IdentityMeter) else IdentityMeter(judge)
    measure = measure or ("prediction_kept" if meter.logits else "retrieved")
    attack = getattr(aug, "attack", aug)
    curve: dict[float, dict[str, float]] = {}
    before = getattr(attack, vary)
    todo = sorted(values or (STEPS if vary == "steps" else [round(before * times, 12) for times in EPS]))
    bar = tqdm(desc=f"calibrate {vary}", total=len(todo) + refine, unit="pass", leave=False)

    def keeps(value: float) -> bool:
        setattr(attack, vary, value)
        bar.set_postfix_str(f"{vary}={value:g}")
        meter.reset()
        x = None
        for batch in loader:
            x = batch[0] if isinstance(batch, tuple | list) else batch
            found = attack.explain(x, loss_fn=make_loss(x))
            losses = found.loss_before, found.loss_after
            meter.update(x, found.views, losses=losses, reconstruction=found.reconstruction)
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
    return Calibration(vary, measure, keep, attack.settings.saved(), [curve[value] for value in sorted(curve)])
