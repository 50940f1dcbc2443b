"""Halve delta until a reference model accepts the view, else return x."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ._core.checks import is_number
from .functional import Views
from .preserve import preserve_state

Reference = Callable[[Tensor], Tensor]


@contextmanager
def frozen(reference: Reference) -> Iterator[Reference]:
    """``reference`` without gradients and in eval mode, on copies of images; afterwards it is as it was."""
    with torch.no_grad(), preserve_state(reference):
        if isinstance(reference, nn.Module):
            reference.eval()
        yield lambda images: reference(images.clone())  # it may normalise in place


class Guard:
    """Keep a view where a reference model says that it still shows its image.

    It says so where the cosine of ``reference(x)`` and ``reference(view)`` is at least ``min_similarity``. Elsewhere
    delta is halved, for that row alone, up to ``halvings`` times; a row that never passes comes back as x. Reading
    which rows failed makes the host wait for the device, once a round.

    Args:
        reference: images as the transform takes them to features or logits (B, D). It stays the caller's: in eval mode
            while it is asked, never moved, saved, or changed.
        min_similarity: of features, in [-1, 1].
        halvings: at most so many rounds, each one pass of ``decode`` and ``reference`` over the rows that failed.
    """

    def __init__(self, reference: Reference, min_similarity: float, halvings: int = 3) -> None:
        if not callable(reference):
            raise TypeError(
                f"reference is a {type(reference).__name__}; it must be a callable: images to features (B, D)"
            )
        if not is_number(min_similarity) or not -1 <= min_similarity <= 1:
            raise ValueError(f"min_similarity={min_similarity!r} is a cosine; it must lie in [-1, 1]")
        if type(halvings) is not int or halvings < 0:
            raise ValueError(f"halvings={halvings!r} must be a whole number of at least 0")
        self.reference, self.min_similarity, self.halvings = reference, float(min_similarity), halvings
        self._passes = self._weakened = self._refused = 0

    @torch.no_grad()
    def keep(self, x: Tensor, found: Views) -> Views:
        """``found`` for ``x`` (B, ...), with ``views`` and ``delta`` of the rows that failed made smaller."""
        views, delta = found.views.clone(), found.delta.clone()
        with frozen(self.reference) as reference:
            identity = self._features(reference, x)
            failed = self._failed(reference, views, identity).nonzero().flatten()
            first = len(failed)
            for _ in range(self.halvings):
                if not len(failed):
                    break
                delta[failed] /= 2
                views[failed] = found.split.rows(failed).view(delta[failed])
                failed = failed[self._failed(reference, views[failed], identity[failed])]
        views[failed], delta[failed] = x[failed], 0
        self._weakened, self._refused = self._weakened + first - len(failed), self._refused + len(failed)
        return replace(found, views=views, delta=delta)

    def stats(self) -> dict[str, int]:
        """Counts: batches the reference saw, views with a smaller delta, views that came back as x."""
        return {"guard_passes": self._passes, "weakened": self._weakened, "refused": self._refused}

    def __repr__(self) -> str:
        name = getattr(self.reference, "__name__", type(self.reference).__name__)
        return f"Guard({name}, {self.min_similarity}, {self.halvings})"

    def _features(self, reference: Reference, images: Tensor) -> Tensor:
        self._passes += 1
        return reference(images).flatten(1).float()

    def _failed(self, reference: Reference, views: Tensor, identity: Tensor) -> Tensor:
        similarity = F.cosine_similarity(self._features(reference, views), identity)
        return ~(similarity >= self.min_similarity)  # NaN fails


def check_guard(name: str, value: Any) -> Guard | None:
    """The setting of a transform: a Guard, or None."""
    if value is not None and not isinstance(value, Guard):
        raise TypeError(
            f"{name} is a {type(value).__name__}; say which reference model and how similar: "
            "guard=Guard(reference, 0.95), with Guard from idaa_transforms"
        )
    return value
