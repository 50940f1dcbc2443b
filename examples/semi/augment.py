"""FixMatch's weak and strong random views of batches: each image has operations and strengths of its own."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import v2


def weak(x: Tensor) -> Tensor:
    """Images (B, C, H, W) flipped at random and moved by up to an eighth, edges reflected."""
    count, _, height, width = x.shape
    pad = min(height, width) // 8
    padded = F.pad(x, [pad] * 4, mode="reflect").movedim(1, 3)
    down, right = (torch.randint(0, 2 * pad + 1, (count, 1), device=x.device) for _ in range(2))
    rows = down + torch.arange(height, device=x.device)
    columns = right + torch.arange(width, device=x.device)
    moved = padded[torch.arange(count, device=x.device)[:, None, None], rows[:, :, None], columns[:, None]].movedim(
        3, 1
    )
    return torch.where(torch.rand(count, 1, 1, 1, device=x.device) < 0.5, moved.flip(3), moved)


def _affine(make: Callable[[Tensor], list[list[Tensor | float]]]) -> Callable[[Tensor, Tensor], Tensor]:
    """A change of place by matrices (2, 3) of the amount, in units of half the image."""

    def change(x: Tensor, amount: Tensor) -> Tensor:
        rows = [torch.stack([torch.zeros_like(amount) + cell for cell in row], 1) for row in make(amount)]
        grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, padding_mode="zeros", align_corners=False)

    return change


def _cells(amount: Tensor) -> Tensor:
    return amount.view(-1, 1, 1, 1)


def _grey(x: Tensor) -> Tensor:
    return v2.functional.rgb_to_grayscale(x, num_output_channels=3) if x.shape[1] == 3 else x


def _sharpness(x: Tensor, factor: Tensor) -> Tensor:
    kernel = x.new_tensor([[1, 1, 1], [1, 5, 1], [1, 1, 1]]).div(13).expand(x.shape[1], 1, 3, 3)
    soft = x.clone()
    soft[..., 1:-1, 1:-1] = F.conv2d(x, kernel, groups=x.shape[1])
    return torch.lerp(soft, x, _cells(factor))


def _posterize(x: Tensor, bits: Tensor) -> Tensor:
    step = _cells(2 ** (8 - bits.floor()))
    return ((x * 255).round() / step).floor() * step / 255


def _equalize(x: Tensor, _: Tensor) -> Tensor:
    return v2.functional.equalize((x * 255).round().byte()) / 255


# What is done, and the range of its amount: those of FixMatch (Sohn et al., NeurIPS 2020, table 12).
OPERATIONS: list[tuple[Callable[[Tensor, Tensor], Tensor], float, float]] = [
    (lambda x, _: x, 0, 0),
    (lambda x, _: v2.functional.autocontrast(x), 0, 0),
    (_equalize, 0, 0),
    (lambda x, a: x * _cells(a), 0.05, 0.95),  # brightness
    (lambda x, a: torch.lerp(_grey(x), x, _cells(a)), 0.05, 0.95),  # colour
    (lambda x, a: torch.lerp(_grey(x).mean((1, 2, 3), keepdim=True), x, _cells(a)), 0.05, 0.95),  # contrast
    (_sharpness, 0.05, 0.95),
    (_posterize, 4, 8),
    (lambda x, a: torch.where(x < _cells(a), x, 1 - x), 0, 1),  # solarize
    (_affine(lambda a: [[a.cos(), a.sin(), 0.0], [-a.sin(), a.cos(), 0.0]]), -math.pi / 6, math.pi / 6),  # rotate
    (_affine(lambda a: [[1.0, a, 0.0], [0.0, 1.0, 0.0]]), -0.3, 0.3),  # shear
    (_affine(lambda a: [[1.0, 0.0, 0.0], [a, 1.0, 0.0]]), -0.3, 0.3),
    (_affine(lambda a: [[1.0, 0.0, 2 * a], [0.0, 1.0, 0.0]]), -0.3, 0.3),  # move
    (_affine(lambda a: [[1.0, 0.0, 0.0], [0.0, 1.0, 2 * a]]), -0.3, 0.3),
]


def strong(x: Tensor, operations: int = 2) -> Tensor:
    """RandAugment and Cutout on weak views (B, C, H, W) in [0, 1]: for each image, operations in turn, each drawn from
    all with a random amount, and a grey square of up to half the image."""
    count, _, height, width = x.shape
    x = x.clone()
    for _ in range(operations):
        chosen, amounts = torch.randint(len(OPERATIONS), (count,)), torch.rand(count)
        for i, (change, low, high) in enumerate(OPERATIONS):
            rows = (chosen == i).nonzero().flatten().to(x.device)
            if len(rows):
                amount = low + (high - low) * amounts[chosen == i].to(x)
                x[rows] = change(x[rows], amount).clamp(0, 1)
    side, down, right = torch.rand(3, count, 1, 1, 1, device=x.device)
    rows = torch.arange(height, device=x.device).view(-1, 1) / height
    columns = torch.arange(width, device=x.device) / width
    inside = ((rows - down).abs() < side / 4) & ((columns - right).abs() < side / 4)
    return torch.where(inside, torch.full_like(x, 0.5), x)
