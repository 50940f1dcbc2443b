"""One step of training: the random views of a batch, the view beside them, the gradients and what follows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import kornia.augmentation as K
import torch
from config import BY_GRADIENT, OF_VAE, Config
from methods import View
from network import Model
from torch import Tensor, nn
from torch.nn import functional as F

from examples.shared.parallel import average_gradients
from idaa_transforms import CLAETransform, IDAATransform, preserve_state
from idaa_transforms.random import MixupNoise, RandomQuantize
from idaa_transforms.training.augmentation import SignalAugmentation


def backward(
    model: Model, attack: Any, x1: Tensor, x2: Tensor, more: list[Tensor]
) -> tuple[Tensor, Tensor, list[View]]:
    """The gradients of one step. x1, x2 and, where the third view is random, the one of ``more`` are random views.
    Returns the loss of the two, the loss with the third (the same where there is none), and the two as the network saw
    them."""
    config, loss = model.config, model.method.loss
    if config.pair == "both":
        return both(model, attack, x1, x2)
    by_gradient = config.view in BY_GRADIENT or (config.view == "latent" and config.matched)
    a, b = model(x1.requires_grad_(by_gradient)), model(x2)
    clean = extra = loss(a, b)
    if by_gradient:  # the step's own gradient, of x1 alone; the whole step goes back once x' is there
        (g,) = torch.autograd.grad(clean, x1, retain_graph=True)
        more = [attack(x1.detach(), grad=g)]
    elif config.view in ("idaa", "clae"):
        more = [attack(x1, loss_fn=model.closure(a))]
    if config.view == "latent":
        more = [random_step(attack, x1, *more)]

    if not more:
        clean.backward()
    elif config.pair == "replace":
        extra = loss(model(more[0], hard=True), b)
        extra.backward()
    else:
        extra = loss(a, model(more[0], hard=True))
        (clean + config.alpha * extra).backward()
    return clean.detach(), extra.detach(), [a.detach(), b.detach()]


def see(model: Model, leaf: Tensor) -> View:
    """For the gradient that an attack follows: whole, or at half the resolution, a quarter of the cost (of a signal,
    half)."""
    halve = F.avg_pool2d if leaf.ndim == 4 else F.avg_pool1d
    with preserve_state(model):
        return model(halve(leaf, 2)) if model.config.coarse else model(leaf)


def both(model: Model, attack: Any, x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor, list[View]]:
    """Both views hard, from one gradient: backward of loss(x1', x2') alone."""
    loss = model.method.loss
    leaves = [x.detach().requires_grad_() for x in (x1, x2)]
    clean = loss(*(see(model, leaf) for leaf in leaves))
    gs = torch.autograd.grad(clean, leaves)
    a, b = (model(x, hard=True) for x in attack(torch.cat([x1, x2]).detach(), grad=torch.cat(gs)).chunk(2))
    total = loss(a, b)
    total.backward()
    return clean.detach(), total.detach(), [a.detach(), b.detach()]


@torch.no_grad()
def random_step(attack: IDAATransform, x: Tensor, like: Tensor | None = None) -> Tensor:
    """IDAA's view of ``x`` with the signs of its step drawn instead of those that raise the loss. With the views
    ``like`` each change is made as long in the pixels (L2) as theirs."""
    z = attack.codec.encode(x)
    step = attack.eps * attack.autoencoder.latent_scale * torch.randn_like(z).sign()
    change = attack.codec.decode(z + step, x.shape) - attack.codec.decode(z, x.shape)
    if like is None:
        return x + change
    longer = (like - x).flatten(1).norm(dim=1) / change.flatten(1).norm(dim=1).clamp(min=1e-6)
    return torch.addcmul(x, change, longer.view(-1, *[1] * (x.ndim - 1)))


def random_views(model: Model, augment: nn.ModuleList, x: Tensor, part: slice) -> tuple[list[Tensor], list[Tensor]]:
    """The two views of a step and the random one beside them, normalised; of a batch the ``part`` of this process."""
    place, look = augment
    crops = [place(x) for _ in range(model.config.crops)]
    crops += crops[:1] if model.config.view == "same-crop" else []
    views = [model.normalise(look(crop)[part]) for crop in crops]
    return views[:2], views[2:]


def update(
    model: Model,
    attack: Any,
    augment: nn.ModuleList,
    optimiser: torch.optim.Optimizer,
    x: Tensor,
    part: slice = slice(None),
) -> Tensor:
    """One step of training on images ``x`` (B, C, H, W) in [0, 1], or signals (B, C, L): its two losses, (2,)."""
    return learn(model, attack, optimiser, *random_views(model, augment, x, part))


def learn(model: Model, attack: Any, optimiser: torch.optim.Optimizer, two: list[Tensor], more: list[Tensor]) -> Tensor:
    """One step on two random views and, where the third one is random, that one: its two losses, (2,)."""
    optimiser.zero_grad()
    clean, extra, seen = backward(model, attack, *two, more)
    average_gradients(model.parameters())
    optimiser.step()
    with torch.no_grad():
        model.method.update(seen)
        model.follow()
    return torch.stack([clean, extra])


def make_attack(config: Config, model: Model) -> Any:
    """The transform that makes adversarial views of normalised images; None where views are random."""
    settings: dict[str, Any] = {"mean": model.mean, "std": model.std}
    if config.view.startswith("clae"):
        return CLAETransform(config.clae_eps, signals=config.signals, **settings).to(config.device)
    if config.view in OF_VAE:
        idaa = IDAATransform.from_pretrained(config.weights, config.eps, **settings)
        idaa = idaa.to(config.device, torch.bfloat16 if config.bf16 else torch.float32)
        return idaa.to(memory_format=torch.channels_last)
    return None


def augmentations(config: Config, shape: Sequence[int], std: Sequence[float] = (1.0,)) -> nn.ModuleList:
    """Two that make random views of a batch of ``shape`` (C, H, W), in [0, 1], or (C, L), on its device, one after the
    other: where the view lies in the image, then how it looks. ``std`` of each channel is the unit of a signal's noise.
    Parts that do nothing are left out."""
    color = [K.ColorJitter(*config.jitter, p=config.jitter_p)] if any(config.jitter) else []
    color += [K.RandomGrayscale(p=config.gray)] if config.gray else []
    if config.blur:
        kernel = max(3, shape[-1] // 20 * 2 + 1)  # a tenth of the image, and odd
        color += [K.RandomGaussianBlur((kernel, kernel), (0.1, 2.0), p=config.blur)]
    disturb: list[nn.Module] = [MixupNoise(config.mixup)] if config.mixup else []
    disturb += [RandomQuantize(config.quantize)] if config.quantize else []
    if len(shape) == 2:
        window = SignalAugmentation(std, config.crop, gain=0, noise=0)
        return nn.ModuleList([nn.Sequential(window), nn.Sequential(*disturb)])
    place = [K.RandomResizedCrop(tuple(shape[1:]), scale=(config.crop, 1.0), cropping_mode="resample")]
    place = (place if config.crop < 1 else []) + ([K.RandomHorizontalFlip()] if config.flip else [])
    return nn.ModuleList([nn.Sequential(*place), nn.Sequential(*color, *disturb)])
