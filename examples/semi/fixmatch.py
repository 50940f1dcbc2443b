"""FixMatch (Sohn et al., NeurIPS 2020) and what the paper adds to it: losses, and the average that is tested."""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from idaa_transforms.losses import info_nce


class Guess(NamedTuple):
    """Labels that the network gives itself."""

    labels: Tensor  # (B,)
    sure: Tensor  # (B,), 1 where the confidence is at least tau, else 0


def guess(logits: Tensor, tau: float) -> Guess:
    """Labels of weak views, from their ``logits`` (B, K), without a gradient."""
    confidence, labels = logits.detach().softmax(1).max(1)
    return Guess(labels, (confidence >= tau).float())


def strong_loss(logits: Tensor, guessed: Guess) -> Tensor:
    """Cross-entropy of strong views' ``logits`` (B, K) with the labels guessed: the mean over all images,
    of which those that are not sure count as 0."""
    return (F.cross_entropy(logits, guessed.labels, reduction="none") * guessed.sure).mean()


def contrast(views: Tensor, weak: Tensor, sure: Tensor, temperature: float) -> Tensor:
    """The paper's term: each of the further ``views`` has to find its own weak view, by features (B, D), among those of
    all others; the weak ones are held fixed, and what is not sure counts as 0."""
    return (info_nce(views, weak.detach(), temperature) * sure).mean()


def learning_rate(lr: float, step: int, steps: int) -> float:
    """Cosine, 7/16 of half a period: from ``lr`` to a fifth of it."""
    return lr * math.cos(7 * math.pi * step / (16 * steps))


class Average(nn.Module):
    """The exponential moving average of a model, which is what is tested. Buffers are those of the model itself."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        self.model, self.decay = copy.deepcopy(model).requires_grad_(False), decay

    @torch.no_grad()
    def follow(self, model: nn.Module) -> None:
        """After a step of ``model``."""
        for mean, new in zip(self.model.parameters(), model.parameters(), strict=True):
            mean.lerp_(new, 1 - self.decay)
        for kept, new in zip(self.model.buffers(), model.buffers(), strict=True):
            kept.copy_(new)
