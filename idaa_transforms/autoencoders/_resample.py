"""Resample images and signals by one matrix product for each axis.

A product with a fixed matrix has its exact adjoint, the product with the transposed one, adds up in the same order
every time, on GPUs too, and does not care how the sizes relate. That is what a step through it needs;
``torch.nn.functional.interpolate`` on CUDA adds its gradients up atomically, in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


def resample(x: Tensor, size: Sequence[int], adjoint: bool = False) -> Tensor:
    """``x`` (..., H, W) or (..., L) with its last ``len(size)`` axes at ``size``, in float32 at least.

    Cubic, as ``interpolate(mode="bicubic", antialias=True)`` gives to rounding: smooth where it enlarges, and where it
    shrinks each value is an average over what it stands for. Constant images stay constant. An axis that has its size
    already is left alone.

    Args:
        adjoint: instead, U'x for the U that resamples from ``size`` to the size of x: <U y, x> = <y, U'x>. It takes
            gradients back through U, and needs no pass forward.

    Raises:
        ValueError: for an axis of length zero.
    """
    axes = [axis for axis in range(-len(size), 0) if x.shape[axis] != size[axis]]
    for axis in sorted(axes, key=lambda axis: size[axis] / max(x.shape[axis], 1)):  # least work: shrink, then enlarge
        dtype = torch.promote_types(x.dtype, torch.float32)
        old, new, x = x.shape[axis], size[axis], x.to(dtype)
        weights = axis_matrix(new, old, dtype, x.device).T if adjoint else axis_matrix(old, new, dtype, x.device)
        x = x @ weights.T if axis == -1 else weights @ x
    return x


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def axis_matrix(old: int, new: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The (new, old) matrix that resamples an axis; each row sums to one."""
    if old < 1 or new < 1:
        raise ValueError(f"an axis of length {old} cannot be resampled to {new}; both must be at least 1")
    scale = old / new
    centres = (torch.arange(new, dtype=torch.float64, device="cpu") + 0.5) * scale - 0.5
    distances = torch.arange(old, dtype=torch.float64, device="cpu") - centres[:, None]
    weights = _cubic(distances.abs() / max(scale, 1.0))
    return (weights / weights.sum(1, keepdim=True)).to(dtype).to(device, non_blocking=True)


def _cubic(t: Tensor) -> Tensor:
    """The cubic convolution kernel at distances ``t`` >= 0, with a = -1/2, which is exact on parabolas (Keys, 1981)."""
    near, far = (1.5 * t - 2.5) * t * t + 1, ((-0.5 * t + 2.5) * t - 4) * t + 2
    return torch.where(t <= 1, near, torch.where(t < 2, far, 0.0))
