"""Views that lost their identity, by a frozen judge, are weakened one by one until they have it, or given up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .checks import is_number
from .functional import Views
from .shield import untouched

Judge = Callable[[Tensor], Tensor]


@contextmanager
def judging(judge: Judge) -> Iterator[Judge]:
    """``judge`` without gradients and in eval mode, on copies of images; afterwards it is as it was."""
    with torch.no_grad(), untouched(judge):
        if isinstance(judge, nn.Module):
            judge.eval()
        yield lambda images: judge(images.clone())  # it may normalise in place


class Guard:
    """Keep a view where the cosine of ``judge(x)`` and ``judge(view)`` is at least ``min_similarity``.

    Where it is not, delta is halved, for that row alone, up to ``halvings`` times; a row that never passes comes back
    as x. Reading which rows failed makes the host wait for the device, once a round.

    Args:
        judge: images as the transform takes them to features or logits (B, D). It stays the caller's: in eval mode
            while it judges, never moved, saved, or changed.
        min_similarity: of features, in [-1, 1].
        halvings: at most so many rounds, each one pass of ``decode`` and ``judge`` over the rows that failed.
    """

    def __init__(self, judge: Judge, min_similarity: float, halvings: int = 3) -> None:
        if not callable(judge):
            raise TypeError(f"judge is a {type(judge).__name__}; it must be a callable: images to features (B, D)")
        if not is_number(min_similarity) or not -1 <= min_similarity <= 1:
            raise ValueError(f"min_similarity={min_similarity!r} is a cosine; it must lie in [-1, 1]")
        if type(halvings) is not int or halvings < 0:
            raise ValueError(f"halvings={halvings!r} must be a whole number of at least 0")
        self.judge, self.min_similarity, self.halvings = judge, float(min_similarity), halvings
        self._passes = self._weakened = self._refused = 0

    @torch.no_grad()
    def keep(self, x: Tensor, found: Views) -> Views:
        """``found`` for ``x`` (B, ...), with ``views`` and ``delta`` of the rows that failed made smaller."""
        views, delta = found.views.clone(), found.delta.clone()
        with judging(self.judge) as judge:
            identity = self._features(judge, x)
            failed = self._failed(judge, views, identity).nonzero().flatten()
            first = len(failed)
            for _ in range(self.halvings):
                if not len(failed):
                    break
                delta[failed] /= 2
                views[failed] = found.split.rows(failed).view(delta[failed])
                failed = failed[self._failed(judge, views[failed], identity[failed])]
        views[failed], delta[failed] = x[failed], 0
        self._weakened, self._refused = self._weakened + first - len(failed), self._refused + len(failed)
        return found._replace(views=views, delta=delta)

    def stats(self) -> dict[str, int]:
        """Counts: batches the judge saw, views with a smaller delta, views that came back as x."""
        return {"guard_passes": self._passes, "weakened": self._weakened, "refused": self._refused}

    def __repr__(self) -> str:
        name = getattr(self.judge, "__name__", type(self.judge).__name__)
        return f"Guard({name}, {self.min_similarity}, {self.halvings})"

    def _features(self, judge: Judge, images: Tensor) -> Tensor:
        self._passes += 1
        return judge(images).flatten(1).float()

    def _failed(self, judge: Judge, views: Tensor, identity: Tensor) -> Tensor:
        similarity = F.cosine_similarity(self._features(judge, views), identity)
        return ~(similarity >= self.min_similarity)  # NaN fails
