"""Measure what a view costs in identity and gains in hardness, for any transform, with a frozen reference model.

::

    meter = IdentityMeter(reference, logits=True)
    for x, labels in loader:
        views = augment(x)
        meter.update(x, views, labels=labels, losses=(loss_fn(x), loss_fn(views)))
    print(meter.compute())
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..guard import Reference, frozen
from .models import ModelError, load_model, named


class IdentityMeter:
    """Hardness, identity and distance of views, per image and over all batches since :meth:`reset`.

    Args:
        reference: a frozen model, images to features or logits (B, D), or its name, see :func:`.load_model`. Choose one
            that is neither attacked nor trained with the views. It runs in eval mode; its own mode is restored.
        logits: the reference model returns class scores, so predictions and labels are compared as well.
        name: of the reference model, for errors. Default: the name it was loaded by, or its function's or class's.
    """

    def __init__(self, reference: Reference | str, *, logits: bool = False, name: str | None = None) -> None:
        self.reference = load_model(reference, logits) if isinstance(reference, str) else reference
        own = reference if isinstance(reference, str) else getattr(reference, "__name__", type(reference).__name__)
        self._name = f"the reference model {name or own}"
        self.logits = logits
        self.reset()

    def reset(self) -> None:
        """Forget all batches."""
        self._batches: list[dict[str, Tensor]] = []
        self._features: list[tuple[Tensor, Tensor]] = []

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """The reference model's output for ``images`` (B, C, H, W): float (B, D).

        Raises:
            ModelError: the model fails, or does not return one finite row of numbers per image.
        """
        with frozen(self.reference) as reference, named(self._name, images):
            features = reference(images)
        rows = len(images)
        if not isinstance(features, Tensor) or features.ndim < 2 or len(features) != rows:
            got = f"shape {tuple(features.shape)}" if isinstance(features, Tensor) else f"a {type(features).__name__}"
            raise ModelError(f"{self._name} returned {got} for {rows} images; it must return a tensor (B, D)")
        features = features.flatten(1).float()
        if bad := int((~features.isfinite()).any(1).sum()):
            raise ModelError(
                f"{self._name} returned NaN or infinity for {bad} of {rows} images with values from "
                f"{images.min():.3g} to {images.max():.3g}; check its weights and the range it expects"
            )
        return features

    @torch.no_grad()
    def update(
        self,
        x: Tensor,
        views: Tensor,
        *,
        labels: Tensor | None = None,
        losses: tuple[Tensor, Tensor] | None = None,
        features: Tensor | None = None,
    ) -> None:
        """Measure one batch.

        Args:
            x, views: images and the views a transform made of them, both (B, C, H, W).
            labels: (B,), for a reference model with ``logits``.
            losses: of x and of the views, each of shape () or (B,); () counts for every image.
            features: :meth:`features` of x, if they are known already.

        Raises:
            ValueError: images and views differ in shape, or labels come without ``logits``.
            ModelError: see :meth:`features`.
        """
        if x.shape != views.shape:
            raise ValueError(
                f"images have shape {tuple(x.shape)} and their views {tuple(views.shape)}; they must agree"
            )
        if labels is not None and not self.logits:
            raise ValueError("labels need a reference model of classes: IdentityMeter(reference, logits=True)")
        moved = (views - x).flatten(1).float()
        before, after = self.features(x) if features is None else features, self.features(views)
        row = {
            "cosine": F.cosine_similarity(before, after),
            "l2": moved.norm(dim=1),
            "linf": moved.abs().amax(1) if moved.numel() else moved.sum(1),
        }
        if losses is not None:
            clean, hard = (loss.float().expand(len(x)) for loss in losses)
            row |= {"loss_before": clean, "loss_after": hard, "gain": hard - clean}
        if self.logits:
            row["prediction_agreement"] = (before.argmax(1) == after.argmax(1)).float()
        if labels is not None:
            kept = (after.argmax(1) == labels).float()
            row["label_agreement"] = torch.where(before.argmax(1) == labels, kept, torch.nan)
        self._batches.append({name: value.cpu() for name, value in row.items()})
        self._features.append((before.cpu(), after.cpu()))

    def samples(self) -> dict[str, Tensor]:
        """Every measure of :meth:`compute` per image, (N,), in the order the images came."""
        if not self._batches:
            raise ValueError("nothing was measured yet; call update first")
        names = self._batches[0].keys()
        if any(batch.keys() != names for batch in self._batches):
            raise ValueError("some batches came with labels or losses, and some without")
        images, views = (torch.cat(part) for part in zip(*self._features, strict=True))
        rows = {name: torch.cat([batch[name] for batch in self._batches]) for name in names}
        return rows | {"retrieval_at_1": retrieval_at_1(images, views)}

    def compute(self) -> dict[str, float]:
        """Means over all images since :meth:`reset`.

        * ``cosine`` of the reference model's output for image and view;
        * ``retrieval_at_1``: share of views whose nearest image, by that cosine and among all N images, is their own.
          It falls as N grows;
        * ``l2`` and ``linf``: distance of image and view, in units of x;
        * ``loss_before``, ``loss_after`` and their difference ``gain``, if losses were given;
        * with ``logits``, ``prediction_agreement``: share of views that are predicted to have their image's class;
        * with labels, ``label_agreement``: share of views with the right prediction, among images that had it;
        * ``images``: N.
        """
        samples = self.samples()
        means = {name: value.double().nanmean().item() for name, value in samples.items()}  # 19 of 20 is 0.95
        return means | {"images": len(samples["l2"])}


def retrieval_at_1(images: Tensor, views: Tensor, chunk: int = 1024) -> Tensor:
    """For features (N, D) of images and their views: 1 where a view's nearest image is its own, else 0; (N,).

    Nearest by cosine. Where another image is exactly as near, the view counts as matched.
    """
    images, views = F.normalize(images, dim=1), F.normalize(views, dim=1)
    own = torch.arange(len(images)).split(chunk)
    rows = []
    for part, mine in zip(views.split(chunk), own, strict=True):
        similarity = part @ images.T
        rows.append(similarity.gather(1, mine[:, None]).squeeze(1) >= similarity.amax(1))
    return torch.cat(rows).float()
