"""What tests/test_distributed.py runs in two processes, and in one on the joined batch: writes a dict of tensors."""

import os
import sys
import warnings
from contextlib import nullcontext
from datetime import timedelta

import torch
import torch.distributed as dist
from conftest import tiny_vae
from lightly.loss import NTXentLoss
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.nn.functional import all_gather
from torch.nn.parallel import DistributedDataParallel

from idaa_transforms import IDAATransform
from idaa_transforms.batchnorm import branch, convert_dual_batchnorm
from idaa_transforms.losses import nt_xent

BATCH = 8
STEPS = 3


def network():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 5))
    return body.double()


def transform(**options):
    return IDAATransform(tiny_vae().double(), **options)


def images():
    generator = torch.Generator().manual_seed(3)
    return torch.rand(2, BATCH, 3, 16, 16, generator=generator, dtype=torch.float64)


def joined(tensor):
    """The rows of all ranks, with a gradient to those of this one."""
    if not dist.is_initialized():
        return tensor
    with warnings.catch_warnings():  # its successor is newer than the oldest torch that is supported
        warnings.simplefilter("ignore", FutureWarning)
        return torch.cat(all_gather(tensor))


def gathered_nt_xent(mine, **options):
    """Views by a closure that gathers the embeddings of all ranks, as SimCLR's loss does on several GPUs."""
    x1, x2 = images()
    model = network().eval()
    anchor = model(x2).detach()
    loss_fn = lambda views: nt_xent(joined(model(views)), anchor).mean()  # noqa: E731
    return joined(transform(**options)(x1[mine], loss_fn=loss_fn))


def gathered_by_lightly(mine):
    x1, x2 = images()
    model = network().eval()
    anchor = model(x2[mine]).detach()
    criterion = NTXentLoss(temperature=0.5, gather_distributed=dist.is_initialized())
    return joined(transform()(x1[mine], loss_fn=lambda views: criterion(model(views), anchor)))


def a_rank_that_draws_no_image(mine, rank):
    """p is 1 on rank 0 and 0 elsewhere: ranks without an image meet the others in the closure, at every step."""
    x1, x2 = images()
    model = network().eval()
    anchor = model(x2).detach()
    aug = transform(p=float(rank == 0), steps=3)
    loss_fn = lambda views: nt_xent(joined(model(views)), anchor).mean()  # noqa: E731
    return joined(aug(x1[mine], loss_fn=loss_fn))


def trained(mine, wrap, accumulate=1, dual=False):
    """Parameters after some steps of training on images and hard views; the closure calls what ``wrap`` made."""
    x1, x2 = (x[mine] for x in images())
    model = network().eval()  # batch statistics are those of a rank
    model = wrap(convert_dual_batchnorm(model) if dual else model)
    optimiser, aug = torch.optim.SGD(model.parameters(), lr=0.05), transform()
    for _ in range(STEPS):
        parts = list(zip(x1.chunk(accumulate), x2.chunk(accumulate), strict=True))
        for i, (a, b) in enumerate(parts):
            last = i == len(parts) - 1
            with model.no_sync() if isinstance(model, DistributedDataParallel) and not last else nullcontext():
                target = model(b)

                def loss_fn(views, anchor=target.detach()):  # noqa: B008
                    with branch(model, "adversarial") if dual else nullcontext():
                        return (model(views) - anchor).square().sum(1)

                hard = aug(a, loss_fn=loss_fn)
                with branch(model, "adversarial") if dual else nullcontext():
                    moved = model(hard)
                loss = target.square().sum(1) + (moved - target).square().sum(1)
                (loss.mean() / accumulate).backward()
        optimiser.step()
        optimiser.zero_grad()
    return torch.cat([getattr(p, "full_tensor", lambda p=p: p)().detach().flatten() for p in model.parameters()])


def sharded(model):
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for layer in model:
        if list(layer.parameters()):
            fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def main(out):
    several = "RANK" in os.environ
    if several:
        dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    rank, size = (dist.get_rank(), dist.get_world_size()) if several else (0, 1)
    share = BATCH // size
    mine = slice(rank * share, (rank + 1) * share)
    ddp = lambda **options: lambda model: DistributedDataParallel(model, **options) if several else model  # noqa: E731
    found = {
        "images": images()[0],
        "gathered NT-Xent": gathered_nt_xent(mine),
        "gathered NT-Xent, three steps in l2": gathered_nt_xent(mine, eps=0.1, steps=3, norm="l2"),
        "lightly's gathered NT-Xent": gathered_by_lightly(mine),
        "DDP": trained(mine, ddp()),
        "DDP, static graph": trained(mine, ddp(static_graph=True)),
        "DDP, unused parameters": trained(mine, ddp(find_unused_parameters=True)),
        "DDP, accumulated under no_sync": trained(mine, ddp(), accumulate=2),
        "DDP, dual batch norm": trained(mine, ddp(), dual=True),
        "FSDP2": trained(mine, sharded if several else ddp()),
    }
    if several:
        found["a rank that draws no image"] = a_rank_that_draws_no_image(mine, rank)
        for name in [key for key in found if "DDP" in key]:
            ranks = [torch.empty_like(found[name]) for _ in range(size)]
            dist.all_gather(ranks, found[name])
            assert all(torch.equal(ranks[0], other) for other in ranks), f"{name}: the ranks went apart"
    if rank == 0:
        torch.save(found, out)
    if several:
        dist.barrier()
        sys.stdout.flush()
        os._exit(0)  # gloo's threads now and then abort a process that ends in the usual way
