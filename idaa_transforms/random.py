"""Free random augmentations of whole batches, and a random draw that can be repeated."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2


class _RandomTransform(v2.Transform):
    """Changes each sample of a batch with probability ``p``. A subclass says how in :meth:`change`."""

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"p is a probability in [0, 1], got {p}")
        self.p = p

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Change a batch of images or signals; masks, boxes and other tv_tensors pass."""
        if isinstance(inpt, tv_tensors.TVTensor) and not isinstance(inpt, tv_tensors.Image | tv_tensors.Video):
            return inpt
        if not isinstance(inpt, Tensor) or not inpt.is_floating_point():
            kind = inpt.dtype if isinstance(inpt, Tensor) else type(inpt).__name__
            cure = "use v2.PILToTensor, v2.ToDtype(torch.float32, scale=True) and a batch"
            raise TypeError(f"{type(self).__name__} takes a batch of float tensors, got {kind}; {cure}")
        x = inpt.as_subclass(Tensor) if isinstance(inpt, tv_tensors.TVTensor) else inpt
        if x.ndim != 4 and (x.ndim != 3 or isinstance(inpt, tv_tensors.TVTensor)):
            shape = tuple(x.shape)
            raise ValueError(f"{type(self).__name__} takes images (B, C, H, W) or signals (B, C, L), got {shape}")
        # Half precision has too few numbers between 0 and 1 to draw from.
        views = self.change(x.float() if x.dtype in (torch.float16, torch.bfloat16) else x)
        if self.p < 1:
            views = torch.where(_one_each(x) < self.p, views, x)
        views = torch.empty_like(x).copy_(views)  # in the dtype and the memory format of x
        return tv_tensors.wrap(views, like=inpt) if isinstance(inpt, tv_tensors.TVTensor) else views

    def change(self, x: Tensor) -> Tensor:
        """``x`` with every sample changed."""
        raise NotImplementedError


class RandomQuantize(_RandomTransform):
    """Randomized quantization (Wu et al., ICCV 2023): the values of each channel in a few random bins.

    Each channel of each sample gets random bins between its least and its largest value, and all values of a bin become
    one random value of that bin. It works for any kind of channel, and is a good first augmentation for data that has
    none of its own: put it last, after crops and flips.

    Args:
        bins: number of bins, at least 1; fewer disturb more. The paper has 8 for images.
        p: probability of a change, sample by sample.

    Shape:
        Images (B, C, H, W) or signals (B, C, L), float of any range, on any device, to the same shape, dtype and
        memory format. Values stay between the least and the largest of their channel. In containers, labels, masks and
        boxes pass.

    Raises:
        TypeError: for inputs that are no float tensors.
        ValueError: for other shapes, ``bins`` and ``p``.

    Example:
        >>> random = v2.Compose([v2.RandomHorizontalFlip(), RandomQuantize(bins=8)])
        >>> views = random(x)
    """

    def __init__(self, bins: int = 8, *, p: float = 1.0) -> None:
        super().__init__(p)
        if not isinstance(bins, int) or bins < 1:
            raise ValueError(f"bins is a whole number of at least 1, got {bins}")
        self.bins = bins

    def change(self, x: Tensor) -> Tensor:
        """``x`` quantized."""
        flat = x.flatten(2).contiguous()
        low, high = flat.amin(2, keepdim=True), flat.amax(2, keepdim=True)
        draw = partial(torch.rand, *flat.shape[:2], device=x.device, dtype=x.dtype)
        inner = draw(self.bins - 1).sort(2).values
        edges = torch.cat([torch.zeros_like(low), inner, torch.ones_like(low)], 2) * (high - low) + low
        values = torch.lerp(edges[..., :-1], edges[..., 1:], draw(self.bins))
        values = values.clamp(low, high)  # which rounding may leave
        return values.gather(2, torch.searchsorted(edges[..., 1:-1].contiguous(), flat)).view(x.shape)


class MixupNoise(_RandomTransform):
    """Mixup noise (DACL; Verma et al., ICML 2021): a little of another sample of the batch in each.

    x' = (1 - s) x + s x_j, where x_j is a random other sample of the batch, or now and then x itself, and s is uniform
    in [0, ``max_share``]. The label, or the positive pair, stays that of x.

    Args:
        max_share: the most of another sample, in [0, 1]. The paper's lambda is 1 - s, and its alpha 1 - ``max_share``.
        p: probability of a change, sample by sample.

    Shape:
        Images (B, C, H, W) or signals (B, C, L), float of any range, on any device, to the same shape, dtype and
        memory format. In containers, labels, masks and boxes pass.

    Raises:
        TypeError: for inputs that are no float tensors.
        ValueError: for other shapes, ``max_share`` and ``p``.

    Example:
        >>> views = MixupNoise(max_share=0.6)(x)
    """

    def __init__(self, max_share: float = 0.6, *, p: float = 1.0) -> None:
        super().__init__(p)
        if not 0 <= max_share <= 1:
            raise ValueError(f"max_share lies in [0, 1], got {max_share}")
        self.max_share = max_share

    def change(self, x: Tensor) -> Tensor:
        """``x`` with shares of other samples."""
        share = self.max_share * _one_each(x)
        return torch.lerp(x, x[torch.randperm(len(x), device=x.device)], share)


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


def _one_each(x: Tensor) -> Tensor:
    """A number in [0, 1) for each sample, shaped to broadcast."""
    dtype = torch.float32 if x.dtype in (torch.float16, torch.bfloat16) else x.dtype
    return torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device, dtype=dtype)
