"""Contrastive losses for closures. Embeddings need no normalisation beforehand."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def nt_xent(a: Tensor, b: Tensor, temperature: float = 0.5) -> Tensor:
    """The normalised-temperature cross-entropy of SimCLR (Chen et al., ICML 2020) between two sets of embeddings.

    Each of the 2B rows has to find its partner among all others, by cosine similarity over ``temperature``.

    Shape:
        (B, D) and (B, D) to (B,), the mean of a pair's two directions. ``nt_xent(a, b).mean()`` is the usual loss.
    """
    rows = F.normalize(torch.cat([a, b]), dim=1)
    similarity = rows @ rows.T / temperature
    similarity = similarity.masked_fill(torch.eye(len(rows), dtype=torch.bool, device=rows.device), float("-inf"))
    partner = torch.arange(len(rows), device=rows.device).roll(len(a))
    return F.cross_entropy(similarity, partner, reduction="none").view(2, -1).mean(0)
