"""SynCo: Giakoumoglou and Stathaki, 2024 (arXiv 2410.02401). MoCHi with six ways to make negatives of the hardest ones
(section 3 there), three of which move them by very little."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .mochi import MoCHi, uniform

STEP = 0.01  # sigma, delta and eta there


class SynCo(MoCHi):
    """Hard negatives n on the way to the query q, beyond n seen from q, between two of them, and after a small step
    anywhere, along the gradient of the cosine, and along the signs of that."""

    many, few = 64, 16  # of each of the first three, and of the others: a quarter of the paper's, as in MoCHi

    @torch.no_grad()
    def harder(self, queries: Tensor) -> Tensor:
        """Negatives for each query (B, D), (B, 3 many + 3 few, D)."""
        q = F.normalize(queries, dim=1)[:, None]
        draw = self.among_hardest(q)
        between = torch.lerp(draw(self.many), q, uniform(q, self.many, 0.5))
        n = draw(self.many)
        beyond = n + uniform(q, self.many, 0.5) * (n - q)
        mixed = torch.lerp(draw(self.many), draw(self.many), uniform(q, self.many))
        noisy, steep, signed = draw(self.few), draw(self.few), draw(self.few)
        noisy = noisy + STEP * torch.randn_like(noisy)
        steep, signed = steep + STEP * gradient(q, steep), signed + STEP * gradient(q, signed).sign()
        return torch.cat([between, beyond, mixed, noisy, steep, signed], 1)


def gradient(q: Tensor, n: Tensor) -> Tensor:
    """Of the cosine of q and n, both of length 1, along n."""
    return q - (q * n).sum(-1, keepdim=True) * n
