"""One random draw that is used twice: random augmentation inside a closure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def fixed_randomness(augmentation: Callable[..., Any], generator: torch.Generator | None = None) -> Callable[..., Any]:
    """``augmentation`` with one random draw: each call of what is returned repeats it.

    For random augmentation *inside* the closure, between the attack and the model. The attack then raises the loss of
    the augmented view, by a gradient through the augmentation, and the final view gets the draw that the attack saw:

        crop = fixed_randomness(random)
        hard = aug(x, loss_fn=lambda v: nce(model(crop(v))))
        loss = nce(model(crop(hard)))

    Works for whatever draws from torch's random numbers, which afterwards go on as if it had not been called. The
    gradient needs an augmentation that has one: kornia's, except Equalize and Posterize, or torchvision's crops and
    flips, but not its ColorJitter with hue.

    Args:
        augmentation: of tensors on any device, such as a kornia or torchvision container.
        generator: that the draw comes from; default: torch's global one.
    """
    seed = int(torch.randint(2**63 - 1, (), generator=generator))

    def repeated(*inputs: Any, **options: Any) -> Any:
        devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            return augmentation(*inputs, **options)

    return repeated
