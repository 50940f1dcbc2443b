"""One step of training: the random views of a batch, the view beside them, the gradients and what follows them."""

from __future__ import annotations

from typing import Any

import controls
import kornia.augmentation as K
import torch
from config import OF_VAE, Config
from methods import View
from network import Model
from torch import Tensor, nn

from examples.shared.parallel import average_gradients
from idaa_transforms import CLAETransform, IDAATransform


def backward(
    model: Model, attack: Any, x1: Tensor, x2: Tensor, more: list[Tensor], eps: float
) -> tuple[Tensor, Tensor, list[View]]:
    """The gradients of one step. x1, x2 and, where further views come from random ones, ``more`` are random views.
    Returns the loss of the two, the loss with the further ones (the same where there are none), and the two as the
    network saw them."""
    config, loss = model.config, model.method.loss
    a, b = model(x1.requires_grad_(config.view == "idaa-grad")), model(x2)
    clean = extra = loss(a, b)
    if config.view == "idaa-grad":  # the step's own gradient, of x1 alone; the whole step goes back once x' is there
        (slope,) = torch.autograd.grad(clean, x1, retain_graph=True)
        more = [attack(x1.detach(), grad=slope, eps=eps)]
    elif config.view in ("idaa", "clae"):
        more = [attack((more or [x1])[0], loss_fn=model.closure(a if config.anchor == "same" else b), eps=eps)]
    elif config.view == "latent":
        more = [controls.random_step(attack, x1, eps)]

    if not more:
        clean.backward()
    elif config.pair == "replace":
        extra = loss(model(more[0], hard=True), b)
        extra.backward()
    else:
        extra = torch.stack([loss(a, model(view, hard=True)) for view in more]).mean()
        (clean + config.alpha * extra).backward()
    return clean.detach(), extra.detach(), [a.detach(), b.detach()]


def random_views(model: Model, augment: nn.ModuleList, x: Tensor, part: slice) -> tuple[list[Tensor], list[Tensor]]:
    """The two views of a step and the random ones beside them, normalised; of a batch the ``part`` of this process."""
    counts = zip(augment, model.config.views, strict=True)
    whole, small = ([model.normalise(one(x)[part]) for _ in range(count)] for one, count in counts)
    if model.config.view == "hvp":
        return controls.hardest_pair(model, whole), []
    return whole[:2], whole[2:] + small


def update(
    model: Model,
    attack: Any,
    augment: nn.ModuleList,
    optimiser: torch.optim.Optimizer,
    x: Tensor,
    eps: float,
    part: slice = slice(None),
) -> Tensor:
    """One step of training on images ``x`` (B, 3, H, W) in [0, 1]: its two losses, (2,)."""
    two, more = random_views(model, augment, x, part)
    optimiser.zero_grad()
    clean, extra, seen = backward(model, attack, *two, more, eps)
    average_gradients(model.parameters())
    optimiser.step()
    with torch.no_grad():
        model.method.update(seen)
        model.follow()
    return torch.stack([clean, extra])


def make_attack(config: Config, model: Model) -> Any:
    """The transform that makes adversarial views of normalised images; None where views are random."""
    settings: dict[str, Any] = {"mean": model.mean, "std": model.std, "steps": config.steps, "start": config.start}
    settings["step_size"] = config.step_size or None
    if config.view == "clae":
        return CLAETransform(config.clae_eps, **settings).to(config.device)
    if config.view in OF_VAE:
        idaa = IDAATransform.from_pretrained(config.weights, config.eps, **settings)
        idaa = idaa.to(config.device, torch.bfloat16 if config.bf16 else torch.float32)
        return idaa.to(memory_format=torch.channels_last)
    return None


def augmentations(config: Config, size: torch.Size) -> nn.ModuleList:
    """Two that make random views of a batch (B, 3, H, W) in [0, 1], on its device: whole ones, and small crops."""
    half = tuple(n // 2 for n in size)
    crops = ((tuple(size), (config.crop, 1.0)), (half, (min(0.05, config.crop / 2), config.crop)))
    disturb = [controls.Disturb(how, getattr(config, how)) for how in controls.DISTURB if getattr(config, how)]
    return nn.ModuleList(
        nn.Sequential(
            K.RandomResizedCrop(out, scale=scale, cropping_mode="resample"),
            K.RandomHorizontalFlip(),
            K.ColorJitter(*config.jitter, p=config.jitter_p),
            K.RandomGrayscale(p=config.gray),
            *disturb,
        )
        for out, scale in crops
    )
