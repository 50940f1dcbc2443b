"""What a view costs in identity and gains in hardness, measured by a frozen judge. For any transform, not only ours.

::

    meter = IdentityMeter(judge, logits=True)
    for x, labels in loader:
        views = augment(x)
        meter.update(x, views, labels=labels, losses=(loss_fn(x), loss_fn(views)))
    print(meter.compute())
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..guard import Reference as Judge
from ..guard import frozen as judging
from ..preserve import preserve_state as untouched
from .models import ModelError, load_model, named

SHARES = ("prediction_kept", "label_kept", "retrieved")
"""Measures that are 0 or 1 for an image, so that their mean is a share of the images."""


class IdentityMeter:
    """Hardness, identity and distance of views, per sample and over all batches since :meth:`reset`.

    Args:
        judge: a frozen model, images to features or logits (B, D): best one that is neither attacked nor trained with
            the views. Or its name, see :func:`.load_model`. It is left as it was, in whatever mode.
        logits: the judge's output is a score for each class, so that predictions and labels are compared as well.
        lpips: a perceptual distance of two batches in [-1, 1], such as ``lpips.LPIPS(net="alex")`` of the package
            lpips (extra ``lpips``); then x is taken to be in [0, 1].
        name: of the judge, in errors. Default: what it was loaded by, or that of the function or class.
    """

    def __init__(
        self,
        judge: Judge | str,
        *,
        logits: bool = False,
        lpips: Callable[[Tensor, Tensor], Tensor] | None = None,
        name: str | None = None,
    ) -> None:
        self.judge = load_model(judge, logits) if isinstance(judge, str) else judge
        own = judge if isinstance(judge, str) else getattr(judge, "__name__", type(judge).__name__)
        self._name = f"the judge {name or own}"
        self.logits, self.lpips = logits, lpips
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self._batches: list[dict[str, Tensor]] = []
        self._features: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def update(
        self,
        x: Tensor,
        views: Tensor,
        *,
        labels: Tensor | None = None,
        losses: tuple[Tensor, Tensor] | None = None,
        reconstruction: Tensor | None = None,
    ) -> None:
        """Measure one batch.

        Args:
            x, views: images and what a transform made of them, (B, C, H, W) both.
            labels: (B,), for a judge of logits.
            losses: of x and of the views, each of shape () or (B,); () counts for each image.
            reconstruction: G(x), for the energy shares.

        What ``aug.explain`` returns has both: ``loss_before`` and ``loss_after``, and ``reconstruction``.

        Raises:
            ValueError: images and views of different shapes, and labels for a judge without classes.
            ModelError: the judge raises, or what it returns is not one finite row of numbers for each image.
        """
        if x.shape != views.shape:
            raise ValueError(
                f"images have shape {tuple(x.shape)} and their views {tuple(views.shape)}; they must agree"
            )
        if labels is not None and not self.logits:
            raise ValueError("labels need a judge of classes: IdentityMeter(judge, logits=True)")
        moved = (views - x).flatten(1).float()
        with judging(self.judge) as judge:
            before, after = self._ask(judge, x), self._ask(judge, views)
        row = {
            "cosine": F.cosine_similarity(before, after),
            "l2": moved.norm(dim=1),
            "linf": moved.abs().amax(1) if moved.numel() else moved.sum(1),
        }
        if losses is not None:
            clean, hard = (loss.float().expand(len(x)) for loss in losses)
            row |= {"loss_before": clean, "loss_after": hard, "gain": hard - clean}
        if self.logits:
            row["prediction_kept"] = (before.argmax(1) == after.argmax(1)).float()
        if labels is not None:
            kept = (after.argmax(1) == labels).float()
            row["label_kept"] = torch.where(before.argmax(1) == labels, kept, torch.nan)
        if self.lpips is not None:
            with untouched(self.lpips):
                row["lpips"] = self.lpips(2 * x - 1, 2 * views - 1).flatten()
        if reconstruction is not None:
            row |= energies(x, reconstruction)
        self._batches.append({name: value.cpu() for name, value in row.items()})
        self._features.append((before.cpu(), after.cpu()))

    def _ask(self, judge: Judge, images: Tensor) -> Tensor:
        with named(self._name, images):
            features = judge(images)
        rows = len(images)
        if not isinstance(features, Tensor) or features.ndim < 2 or len(features) != rows:
            got = f"shape {tuple(features.shape)}" if isinstance(features, Tensor) else f"a {type(features).__name__}"
            raise ModelError(f"{self._name} gave {got} for {rows} images; it must give a tensor (B, D), a row an image")
        features = features.flatten(1).float()
        if bad := int((~features.isfinite()).any(1).sum()):
            raise ModelError(
                f"{self._name} gave NaN or infinity for {bad} of {rows} images with values from {images.min():.3g} to "
                f"{images.max():.3g}; check its weights, and the range that it takes"
            )
        return features

    def samples(self) -> dict[str, Tensor]:
        """Every measure, each (N,), in the order images came; see :meth:`compute`."""
        if not self._batches:
            raise ValueError("nothing was measured yet; call update first")
        names = self._batches[0].keys()
        if any(batch.keys() != names for batch in self._batches):
            raise ValueError("some batches came with labels, losses or reconstruction, and some without")
        images, views = (torch.cat(part) for part in zip(*self._features, strict=True))
        return {name: torch.cat([batch[name] for batch in self._batches]) for name in names} | {
            "retrieved": retrieved(images, views)
        }

    def compute(self) -> dict[str, float]:
        """Means over all images since :meth:`reset`.

        ``cosine``: of the judge's output for x and view. ``retrieved``: share of views whose nearest image, by cosine,
        among all N images is their own; it falls as N grows. ``l2``, ``linf``: how far the view is from x, in units of
        x. And where there was what they need: ``loss_before``, ``loss_after``, ``gain``; ``prediction_kept``: the
        judge says the same class; ``label_kept``: it says the label, among images where it did before; ``lpips``;
        ``energy_g``, ``energy_r``: see ``energies``. ``images``: N.
        """
        samples = self.samples()
        means = {name: value.double().nanmean().item() for name, value in samples.items()}  # 19 of 20 is 0.95
        return means | {"images": len(samples["l2"])}


def retrieved(images: Tensor, views: Tensor, chunk: int = 1024) -> Tensor:
    """For features (N, D) of images and their views: 1 where the view's nearest image is its own, else 0; (N,).

    By cosine. Where another image is exactly as near, which of them is first is chance, and it counts as found.
    """
    images, views = F.normalize(images, dim=1), F.normalize(views, dim=1)
    own = torch.arange(len(images)).split(chunk)
    rows = []
    for part, mine in zip(views.split(chunk), own, strict=True):
        similarity = part @ images.T
        rows.append(similarity.gather(1, mine[:, None]).squeeze(1) >= similarity.amax(1))
    return torch.cat(rows).float()


def energies(x: Tensor, reconstruction: Tensor) -> dict[str, Tensor]:
    """``|G(x)|^2`` and ``|R(x)|^2`` over ``|x|^2``, each (B,), all without the mean colour of x.

    A grey patch has the mean colour as well. They need not add up to 1: G and R are not orthogonal.
    """
    x, g = x.float(), reconstruction.float()
    colour = mean_colour(x)
    whole = (x - colour).flatten(1).square().sum(1).clamp_min(torch.finfo(torch.float32).tiny)
    parts = {"energy_g": g - colour, "energy_r": x - g}
    return {name: part.flatten(1).square().sum(1) / whole for name, part in parts.items()}


def mean_colour(x: Tensor) -> Tensor:
    """The mean of each channel of images (..., C, H, W) or signals (B, C, L), in a shape to be subtracted from them."""
    return x.mean(-1 if x.ndim == 3 else (-2, -1), keepdim=True)
