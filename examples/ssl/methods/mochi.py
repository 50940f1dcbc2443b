"""MoCHi: Kalantidis et al., NeurIPS 2020. MoCo v2, and for each query harder negatives that are mixed from its hardest
ones (section 4 there). All else is MoCo's."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from idaa_transforms.functional import Loss

from .base import Features, View
from .moco import MoCo

WARM_UP = 0.05  # of the run without mixing: 10 of 200 epochs


class MoCHi(MoCo):
    """Mixes of two hard negatives, and of a hard negative with the query itself."""

    # N, s and s' of the paper: 1024, 1024 and 128 for a queue of 16,384, here in proportion to ours.
    hard, pairs, with_query = 256, 256, 32

    def compare(self, queries: Tensor, keys: Tensor) -> Tensor:
        """MoCo's, with negatives of each query's own beside the queue."""
        if self.done < WARM_UP:
            return super().compare(queries, keys)
        return self._with(self.harder(queries), queries, keys)

    def attack(self, features: Features, anchor: View) -> Loss:
        """The views as queries, against the harder negatives of the anchor, which stay."""
        if self.done < WARM_UP:
            return super().attack(features, anchor)
        negatives = self.harder(self.embed(anchor.features))
        return lambda v: self._with(negatives, self.embed(features(v)), anchor.target)

    @torch.no_grad()
    def harder(self, queries: Tensor) -> Tensor:
        """Negatives for each query (B, D), (B, pairs + with_query, D)."""
        q = F.normalize(queries, dim=1)[:, None]
        draw = self.among_hardest(q)
        mixed = torch.lerp(draw(self.pairs), draw(self.pairs), uniform(q, self.pairs))
        return torch.cat([mixed, torch.lerp(draw(self.with_query), q, uniform(q, self.with_query, 0.5))], 1)

    def among_hardest(self, q: Tensor) -> Callable[[int], Tensor]:
        """For queries (B, 1, D) of length 1 a function that draws ``count`` of the hardest of each, (B, count, D)."""
        hardest = (q[:, 0] @ self.queue.T).topk(self.hard).indices
        drawn = lambda count: torch.randint(self.hard, (len(q), count), device=q.device)  # noqa: E731
        return lambda count: self.queue[hardest.gather(1, drawn(count))]

    def _with(self, negatives: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
        q, keys, negatives = (F.normalize(rows, dim=-1) for rows in (queries, keys, negatives))
        own = torch.einsum("bd,bnd->bn", q, negatives)
        scores = torch.cat([(q * keys).sum(1, keepdim=True), q @ self.queue.T, own], 1) / self.temperature
        return F.cross_entropy(scores, torch.zeros(len(q), dtype=torch.int64, device=q.device), reduction="none")


def uniform(q: Tensor, count: int, high: float = 1.0) -> Tensor:
    """Numbers from 0 to ``high`` for each of ``count`` negatives of each query, (B, count, 1)."""
    return high * torch.rand(len(q), count, 1, device=q.device)
