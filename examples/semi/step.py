"""One step of FixMatch, with the view beside its weak and strong ones."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from examples.shared.backbones import build_backbone, statistics_of
from examples.shared.parallel import average_gradients, gather, synchronise
from idaa_transforms import CLAETransform, IDAATransform
from idaa_transforms.batchnorm import branch, convert_dual_batchnorm
from idaa_transforms.losses import info_nce

from .augment import strong, weak
from .config import Config
from .fixmatch import contrast, guess, strong_loss


class Batch(NamedTuple):
    """Images in [0, 1]. The true labels of the unlabelled ones are for the log alone."""

    labelled: Tensor  # (B, 3, H, W)
    labels: Tensor  # (B,)
    unlabelled: Tensor  # (mu B, 3, H, W)
    truth: Tensor  # (mu B,)


class Model(nn.Module):
    """Backbone and classifier. In a run of many processes each sees its share of the images, and gets everybody's
    features."""

    def __init__(self, config: Config, classes: int, size: int) -> None:
        super().__init__()
        self.config = config
        self.backbone = build_backbone(config.backbone, config.backbone_options, size <= 64, maxpool=size > 64)
        self.head = nn.Linear(self.backbone.num_features, classes)
        if distributed.is_initialized():
            synchronise(self.backbone)
        self.dual = config.dual_bn and config.view != "none"
        if self.dual:
            convert_dual_batchnorm(self.backbone)
        self.mean, self.std = statistics_of(config.data)

    def normalise(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to what the network takes."""
        mean, std = (x.new_tensor(v).view(-1, 1, 1) for v in (self.mean, self.std))
        return (x - mean) / std

    def encode(self, x: Tensor) -> Tensor:
        """Normalised images (b, 3, H, W) to features (b, width) in float32, of this process alone."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bool(self.config.bf16)):
            return self.backbone(x).float()

    def forward(self, x: Tensor, hard: bool = False) -> Tensor:
        """Features of everybody's images; of further views with the batch norms for them."""
        with branch(self, "adversarial") if hard and self.dual else nullcontext():
            return gather(self.encode(x))


def make_attack(config: Config, model: Model) -> Any:
    """The transform that makes adversarial views of normalised images; None where there are none."""
    statistics = {"mean": model.mean, "std": model.std}
    if config.view == "clae":
        return CLAETransform(config.clae_eps, **statistics).to(config.device)
    if config.view in ("idaa", "idaa-grad"):
        idaa = IDAATransform.from_pretrained(config.weights, config.eps, **statistics)
        return idaa.to(config.device, torch.bfloat16 if config.bf16 else torch.float32)
    return None


def adversarial(model: Model, attack: Any, seen: Tensor, weak_features: Tensor, strong_features: Tensor) -> Tensor:
    """Weak views ``seen``, normalised, made hard to tell apart by their features.

    Args:
        seen: those of this process; for ``idaa-grad`` they require a gradient.
        weak_features: everybody's features of them.
        strong_features: everybody's features of the strong views.
    """
    config = model.config
    if config.view == "idaa-grad":  # the slope that the step's own features have: of the weak view against the strong
        loss = info_nce(weak_features, strong_features.detach(), config.temperature).sum()
        (slope,) = torch.autograd.grad(loss, seen, retain_graph=True)
        return attack(seen.detach(), grad=slope)
    anchor = weak_features.detach()
    return attack(seen, loss_fn=lambda views: info_nce(model(views, hard=True), anchor, config.temperature).sum())


def update(model: Model, attack: Any, optimiser: torch.optim.Optimizer, batch: Batch, part: slice) -> Tensor:
    """One step of training, by the ``part`` of the batch that is this process's. Returns the losses of labelled images,
    of strong views and of further ones, the share of images that are sure, and of those that are sure and right."""
    config = model.config
    labelled, soft = weak(batch.labelled)[part], weak(batch.unlabelled)[part]
    hard = strong(weak(batch.unlabelled))[part]
    another = weak(batch.unlabelled)[part] if config.view == "third" else None
    seen = model.normalise(soft).requires_grad_(config.view == "idaa-grad")
    optimiser.zero_grad()
    features = model(torch.cat([model.normalise(labelled), seen, model.normalise(hard)]))
    count = len(batch.labels), len(batch.truth), len(batch.truth)
    own, logits, strong_logits = model.head(features).split(count)
    guessed = guess(logits, config.tau)
    losses = [F.cross_entropy(own, batch.labels), strong_loss(strong_logits, guessed)]
    total, extra = sum(losses), torch.zeros_like(losses[0])
    if config.view != "none":
        _, weak_features, strong_features = features.split(count)
        if another is None:
            views = adversarial(model, attack, seen, weak_features, strong_features)
        else:
            views = model.normalise(another)
        extra = contrast(model(views, hard=True), weak_features, guessed.sure, config.temperature)
        total = total + config.alpha * extra
    total.backward()
    average_gradients(model.parameters())
    optimiser.step()
    right = (guessed.labels == batch.truth) * guessed.sure
    return torch.stack([*losses, extra, guessed.sure.mean(), right.mean()]).detach()
