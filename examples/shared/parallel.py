"""Many processes that do exactly what one would.

Features are gathered, so that heads and losses see the global batch on every process and need no code for this; batch
norm in the backbone takes its moments over all processes; and gradients are averaged once, after the last backward
pass. DistributedDataParallel's hooks cannot follow a step with two backward passes through two sets of batch norms.
All works with gloo on CPUs, where torch has no synchronised batch norm, as with nccl.
"""

from __future__ import annotations

from collections.abc import Iterable

import kornia.augmentation as K
import torch
from lightly.utils import dist
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm


def of_all(part: Tensor) -> Tensor:
    """The ``part`` of every process, stacked, with a gradient."""
    return torch.stack(dist.gather(part)) if dist.world_size() > 1 else part[None]


def gather(rows: Tensor) -> Tensor:
    """Rows (b, D) of every process, (world * b, D), with a gradient and in the order of the batch, of which process r
    had rows r, r + world, and so on."""
    return of_all(rows).transpose(0, 1).flatten(0, 1)


def augment_share(augment: nn.Module, x: Tensor, rank: int, world: int) -> Tensor:
    """``augment`` of images (b, C, H, W), rows ``rank``, ``rank + world``, and so on of a batch, as one process would
    augment them within the batch: what is random is drawn for all of it, and costs next to nothing."""
    for one in augment:
        if not isinstance(one, K.IntensityAugmentationBase2D | K.GeometricAugmentationBase2D):
            x = one(x)
            continue
        drawn = one.forward_parameters((world * len(x), *x.shape[1:]))
        shape = torch.tensor(x.shape)
        own = {name: value if name == "order" else value[rank::world] for name, value in drawn.items()}
        x = one(x, params=own | {"forward_input_shape": shape})
    return x


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Every process took the gradient of the same global loss along its own rows: the mean is the whole gradient."""
    if dist.world_size() > 1:
        grads = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([grad.flatten() for grad in grads])
        distributed.all_reduce(flat)
        for grad, mean in zip(grads, (flat / dist.world_size()).split([g.numel() for g in grads]), strict=True):
            grad.copy_(mean.view_as(grad))


class SyncedBatchNorm(_BatchNorm):
    """Batch norm with the moments of all processes' batches, which are of one size."""

    def _check_input_dim(self, x: Tensor) -> None:
        """Any number of dimensions will do."""

    def forward(self, x: Tensor) -> Tensor:
        """(b, C, ...) to the same, by the statistics of world * b rows."""
        if not self.training:
            return super().forward(x)
        dims, shape = [0, *range(2, x.ndim)], [1, -1, *[1] * (x.ndim - 2)]
        rows = x.float()
        own = torch.var_mean(rows, dims, correction=0)
        variances, means = of_all(torch.stack(own)).unbind(1)  # one message, of all processes
        mean = means.mean(0)
        variance = (variances + (means - mean).square()).mean(0)
        rows = rows - mean.view(shape)
        with torch.no_grad():
            self.num_batches_tracked += 1
            n = x.numel() // x.shape[1] * dist.world_size()
            rate = self.momentum or 1 / int(self.num_batches_tracked)  # without momentum the mean of all batches
            self.running_mean.lerp_(mean, rate)
            self.running_var.lerp_(variance * n / (n - 1), rate)
        scale = self.weight * (variance + self.eps).rsqrt()
        return (rows * scale.view(shape) + self.bias.view(shape)).to(x.dtype)


def synchronise(model: nn.Module, device: torch.device | str = "cpu") -> nn.Module:
    """``model`` with batch norms that take the moments of all processes, in place; weights and names stay. On CUDA
    these are torch's, which are fused, and elsewhere :class:`SyncedBatchNorm`."""
    if torch.device(device).type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.__class__ = SyncedBatchNorm
    return model
