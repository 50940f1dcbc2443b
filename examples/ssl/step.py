"""One step of training: the random views of a batch, the view beside them, the gradients and what follows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import controls
import kornia.augmentation as K
import torch
from config import OF_VAE, Config
from methods import View
from network import Model
from torch import Tensor, nn
from torch.nn import functional as F

from examples.shared.parallel import average_gradients
from idaa_transforms import CLAETransform, IDAATransform, preserve_state
from idaa_transforms.training.signals import SignalAugmentation


def backward(
    model: Model, attack: Any, x1: Tensor, x2: Tensor, more: list[Tensor], eps: float
) -> tuple[Tensor, Tensor, list[View]]:
    """The gradients of one step. x1, x2 and, where further views come from random ones, ``more`` are random views.
    Returns the loss of the two, the loss with the further ones (the same where there are none), and the two as the
    network saw them."""
    config, loss = model.config, model.method.loss
    if config.view == "idaa-grad" and config.pair == "replace":
        return in_place(model, attack, x1, x2, eps)
    if config.view == "idaa-grad" and config.pair == "both":
        return both(model, attack, x1, x2, eps)
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


def see(model: Model, leaf: Tensor) -> View:
    """For the gradient that an attack follows: whole, or at half the resolution, a quarter of the cost (of a signal,
    half)."""
    halve = F.avg_pool2d if leaf.ndim == 4 else F.avg_pool1d
    with preserve_state(model):
        return model(halve(leaf, 2)) if model.config.coarse else model(leaf)


def in_place(model: Model, attack: Any, x1: Tensor, x2: Tensor, eps: float) -> tuple[Tensor, Tensor, list[View]]:
    """The hard view in place of x1: backward of loss(x', x2) alone."""
    loss = model.method.loss
    b, leaf = model(x2), x1.detach().requires_grad_()
    clean = loss(see(model, leaf), b)
    (slope,) = torch.autograd.grad(clean, leaf, retain_graph=True)
    a = model(attack(leaf.detach(), grad=slope, eps=eps), hard=True)
    total = loss(a, b)
    total.backward()
    return clean.detach(), total.detach(), [a.detach(), b.detach()]


def both(model: Model, attack: Any, x1: Tensor, x2: Tensor, eps: float) -> tuple[Tensor, Tensor, list[View]]:
    """Both views hard, from one gradient: backward of loss(x1', x2') alone."""
    loss = model.method.loss
    leaves = [x.detach().requires_grad_() for x in (x1, x2)]
    clean = loss(*(see(model, leaf) for leaf in leaves))
    slopes = torch.autograd.grad(clean, leaves)
    a, b = (model(x, hard=True) for x in attack(torch.cat([x1, x2]).detach(), grad=torch.cat(slopes), eps=eps).chunk(2))
    total = loss(a, b)
    total.backward()
    return clean.detach(), total.detach(), [a.detach(), b.detach()]


def random_views(model: Model, augment: nn.ModuleList, x: Tensor, part: slice) -> tuple[list[Tensor], list[Tensor]]:
    """The two views of a step and the random ones beside them, normalised; of a batch the ``part`` of this process."""
    counts = zip(augment, model.config.views, strict=True)
    whole, small = ([model.normalise(one(x)[part]) for _ in range(count)] for one, count in counts)
    return sorted_views(model, whole, small)


def sorted_views(model: Model, whole: list[Tensor], small: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Of normalised random views, whole ones and small crops, the two of a step and those beside them."""
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
    """One step of training on images ``x`` (B, C, H, W) in [0, 1], or signals (B, C, L): its two losses, (2,)."""
    return learn(model, attack, optimiser, [random_views(model, augment, x, part)], eps)


def learn(
    model: Model,
    attack: Any,
    optimiser: torch.optim.Optimizer,
    parts: Iterable[tuple[list[Tensor], list[Tensor]]],
    eps: float,
) -> Tensor:
    """One step by the mean gradient of ``parts`` of a batch, each of two views and more, which are made one after the
    other; mostly the batch is one part. Returns its two losses, (2,)."""
    optimiser.zero_grad()
    done = [backward(model, attack, *two, more, eps) for two, more in parts]
    if len(done) > 1:
        torch._foreach_div_([p.grad for p in model.parameters() if p.grad is not None], len(done))
    average_gradients(model.parameters())
    optimiser.step()
    with torch.no_grad():
        for *_, seen in done:
            model.method.update(seen)
        model.follow()
    return torch.stack([torch.stack([clean, extra]) for clean, extra, _ in done]).mean(0)


def make_attack(config: Config, model: Model) -> Any:
    """The transform that makes adversarial views of normalised images; None where views are random."""
    settings: dict[str, Any] = {"mean": model.mean, "std": model.std, "steps": config.steps, "start": config.start}
    settings["step_size"] = config.step_size or None
    if config.view == "clae":
        return CLAETransform(config.clae_eps, signals=config.signals, **settings).to(config.device)
    if config.view in OF_VAE:
        idaa = IDAATransform.from_pretrained(config.weights, config.eps, **settings)
        idaa = idaa.to(config.device, torch.bfloat16 if config.bf16 else torch.float32)
        return idaa.to(memory_format=torch.channels_last)
    return None


def augmentations(
    config: Config, shape: Sequence[int], std: Sequence[float] = (1.0,), crop: bool = True
) -> nn.ModuleList:
    """Two that make random views of a batch of ``shape`` (C, H, W), in [0, 1], or (C, L), on its device: whole ones,
    and small crops. ``std`` of each channel is the unit of a signal's noise. Parts that do nothing are left out, and
    the crops of images that are crops already, without ``crop``."""
    color = [K.ColorJitter(*config.jitter, p=config.jitter_p)] if any(config.jitter) else []
    color += [controls.RandAugment(config.randaugment)] if config.randaugment else []
    color += [K.RandomGrayscale(p=config.gray)] if config.gray else []
    if config.blur:
        kernel = max(3, shape[-1] // 20 * 2 + 1)  # a tenth of the image, and odd
        color += [K.RandomGaussianBlur((kernel, kernel), (0.1, 2.0), p=config.blur)]
    disturb = [controls.Disturb(how, getattr(config, how)) for how in controls.DISTURB if getattr(config, how)]
    if len(shape) == 2:
        window = SignalAugmentation(std, config.crop, gain=0, noise=0)
        return nn.ModuleList([nn.Sequential(window, *disturb), nn.Identity()])
    flip = [K.RandomHorizontalFlip()] if config.flip else []
    size, half = tuple(shape[1:]), tuple(n // 2 for n in shape[1:])
    crops = zip((size, half), config.crops, strict=True)
    cut = [
        [K.RandomResizedCrop(out, scale=scale, cropping_mode="resample")] if crop and scale[0] < 1 else []
        for out, scale in crops
    ]
    return nn.ModuleList(nn.Sequential(*first, *flip, *color, *disturb) for first in cut)
