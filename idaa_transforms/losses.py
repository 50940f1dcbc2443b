"""Contrastive losses, per sample. Embeddings (B, D) need no normalisation beforehand; other shapes are a ValueError."""

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
    rows = F.normalize(torch.cat(_pairs(a, b)), dim=1)
    similarity = rows @ rows.T / temperature
    similarity = similarity.masked_fill(torch.eye(len(rows), dtype=torch.bool, device=rows.device), float("-inf"))
    partner = torch.arange(len(rows), device=rows.device).roll(len(a))
    return F.cross_entropy(similarity, partner, reduction="none").view(2, -1).mean(0)


def info_nce(queries: Tensor, keys: Tensor, temperature: float = 0.1, queue: Tensor | None = None) -> Tensor:
    """One-directional InfoNCE (van den Oord et al., 2018): each query has to find its own key.

    Among the other keys of the batch (the "Plain" method of the IDAA paper), or with ``queue`` (K, D) among its rows,
    as MoCo does (He et al., CVPR 2020). The queue is read only.

    Shape:
        (B, D) and (B, D) to (B,).
    """
    queries, keys = (F.normalize(rows, dim=1) for rows in _pairs(queries, keys))
    if queue is None:
        return F.cross_entropy(queries @ keys.T / temperature, _count(queries), reduction="none")
    positive = (queries * keys).sum(1, keepdim=True)
    scores = torch.cat([positive, queries @ F.normalize(queue, dim=1).T], dim=1)
    return F.cross_entropy(scores / temperature, torch.zeros_like(_count(queries)), reduction="none")


def instance_spreading(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """UEL, unsupervised embedding learning (Ye et al., CVPR 2019): partners attract, every other instance spreads.

    With P_ij the softmax of x_i x_j / T over j != i among the 2B rows: -log P_i,partner - sum over the others of
    log(1 - P_ij), where the second factor of each product is held fixed (IDAA paper, settings of its baselines).

    Shape:
        (B, D) and (B, D) to (B,), the mean over a pair's two rows.
    """
    rows = F.normalize(torch.cat(_pairs(a, b)), dim=1)
    n = len(rows)
    own = torch.eye(n, dtype=torch.bool, device=rows.device)
    partner = own.roll(len(a), dims=1)
    log_p = (rows @ rows.detach().T / temperature).masked_fill(own, float("-inf")).log_softmax(1)
    others = torch.log1p(-log_p.exp().clamp(max=1 - 1e-6)).masked_fill(own | partner, 0.0).sum(1)
    return -(log_p[partner] + others).view(2, -1).mean(0)


def _pairs(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(
            f"embeddings have shapes {tuple(a.shape)} and {tuple(b.shape)}; both must be (B, D), row i of one the "
            "partner of row i of the other"
        )
    return a, b


def _count(rows: Tensor) -> Tensor:
    return torch.arange(len(rows), device=rows.device)
