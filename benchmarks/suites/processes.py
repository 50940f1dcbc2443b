"""One process and two, each with as many images.

A process has one core of a CPU, or a GPU of its own. Ideal is an ``efficiency`` of 1: the time of one process. The
transform communicates nothing by itself; the training step averages gradients.
"""

from __future__ import annotations

from collections.abc import Iterator
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel

from .. import harness
from ..workload import Workload
from . import Options

TITLE = "Processes"
STEPS = ("none", "IDAA, grad=")


def worker(rank: int, world: int, options: Options, folder: str) -> None:
    """Time views and steps in step with the other processes; rank 0 writes what it measured."""
    cuda = options.device.startswith("cuda")
    device = f"cuda:{rank}" if cuda else "cpu"
    if cuda:
        torch.cuda.set_device(rank)
    torch.set_num_threads(1)
    distributed.init_process_group(
        "nccl" if cuda else "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world
    )
    work = Workload(options.batch, device, options.dtype)
    work.model = DistributedDataParallel(work.model, broadcast_buffers=False)
    cases = {f"view: {name}": case for name, case in work.views().items()}
    cases |= {f"training step: {view}": work.step(view) for view in STEPS}
    # The same shuffled order everywhere, since harness.measure seeds it: collectives meet.
    measured = harness.measure(cases, options.repeats, device)
    if rank == 0:
        torch.save(measured, f"{folder}/measured.pt")
    distributed.destroy_process_group()


def run(options: Options) -> Iterator[dict[str, Any]]:
    """A row for each case and number of processes."""
    counts = [1, 2] if not options.device.startswith("cuda") else sorted({1, torch.cuda.device_count()})
    alone: dict[str, float] = {}
    for world in counts:
        with TemporaryDirectory() as folder:
            multiprocessing.spawn(worker, (world, options, folder), nprocs=world)
            measured = torch.load(f"{folder}/measured.pt")
        for case, ms in measured.items():
            alone.setdefault(case, ms["median"])
            scaled = {"images_per_second": 1e3 * world * options.batch / ms["median"]}
            scaled["efficiency"] = alone[case] / ms["median"]
            yield {"case": case, "processes": world, "batch": options.batch, "ms": ms} | scaled
