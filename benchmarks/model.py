"""What a hard view has to cost: the work of its operators, over the rates that this machine reaches in the same run.

A roofline (Williams et al., CACM 2009), operator by operator: each takes as long as its FLOPs at the peak rate, or as
its bytes at the memory's, whichever is longer. Tensors that stay within the caches can be faster than that.

``python -m benchmarks.model`` measures, writes ``results/speed/<device>-model.json`` and prints it as tables.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from . import harness
from .suites import Options
from .workload import DTYPES, Cases, Workload

TITLE = "Cost model"
SIMCLR = "SimCLR step, two random views"
STEPS = {SIMCLR: "none", "SimCLR step with IDAA, grad=": "IDAA, grad="}
# x' = x - D(z) + D(z + delta) with z = E(x) and delta along the gradient of <grad, D(z)>; a closure's is the model's.
IDAA, MODEL = ["E forward", *["D forward"] * 2, "D backward to z"], ["model forward", "model backward to its input"]
VIEWS = {"IDAA, loss_fn=, the step's own anchor": IDAA + MODEL, "IDAA, grad=": IDAA}
aten = torch.ops.aten
ALLOCATE = {aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided}
OVERWRITE = {aten.copy_, aten.fill_, aten.zero_}


class Work(TorchDispatchMode):
    """FLOPs and bytes of each operator that runs within, below autograd: of backward passes too.

    FLOPs are those of torch's own formulas: of matrix products and convolutions; all else is 0. Bytes are what eager,
    unfused operators read and write: every tensor given, and every tensor returned or written in place, once each, and
    of an expanded one what is stored. Views, metadata and bare allocations move nothing. Not counted: what a kernel
    moves within itself (other layouts, workspaces). Counted too much: what a kernel is given and leaves alone, such as
    the images in the backward of a convolution to its images only.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operators: list[tuple[int, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        flops = flop_registry.get(func.overloadpacket, lambda *_, **__: 0)
        self.operators.append((flops(*args, **kwargs, out_val=out), _moved(func, args, kwargs, out)))
        return out


def _moved(func: Any, args: Any, kwargs: Any, out: Any) -> int:
    given = _tensors((args, kwargs))
    storages = {tensor.untyped_storage()._cdata for tensor in given}  # a view lies in one of them
    written = [tensor for tensor in _tensors(out) if tensor.untyped_storage()._cdata not in storages]
    for argument, value in zip(func._schema.arguments, args, strict=False):  # defaults have no value here
        if argument.alias_info and argument.alias_info.is_write:
            written += _tensors(value)
    if not written or func.overloadpacket in ALLOCATE:
        return 0
    read = _tensors((args[1:], kwargs)) if func.overloadpacket in OVERWRITE else given
    return sum(min(tensor.nbytes, tensor.untyped_storage().nbytes()) for tensor in read + written)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def work_of(case: Callable[[], Any]) -> Tensor:
    """What one call of ``case`` does: FLOPs and bytes (operators, 2), float64, which holds them exactly."""
    with Work() as work:
        case()
    return torch.tensor(work.operators, dtype=torch.float64).view(-1, 2)


def large(device: str, dtype: str) -> Cases:
    """What reaches this machine's peak rates. On CUDA, convolutions in float32 use TF32 by torch's default, the
    model's as well, and matrix products do not: hence both."""
    scale, kind = 1 if device == "cpu" else 8, {"device": device, "dtype": DTYPES[dtype]}
    matrix, weight = torch.randn(1024 * scale, 1024 * scale, **kind), torch.randn(128, 128, 3, 3, **kind)
    images, source = torch.randn(16 * scale, 128, 32, 32, **kind), torch.ones(2**26 * scale, **kind)
    target = torch.empty_like(source)
    return {
        "matrix product": lambda: matrix @ matrix,
        "3x3 convolution": lambda: F.conv2d(images, weight, padding=1),
        "copy": lambda: target.copy_(source),  # of much more than caches hold
    }


def run(options: Options) -> Iterator[dict[str, Any]]:
    """A row with the machine's rates, then one for each part, view (``parts_ms`` is the sum of its measured parts) and
    training step, side by side. By the fastest of the repeats: whatever else the machine does can only slow things."""
    setting = (options.batch, options.device, options.dtype)
    load, trained = Workload(*setting), Workload(*setting)  # a step writes to weights that graphs of parts hold
    rates, composed = large(*setting[1:]), {f"view: {name}": parts for name, parts in VIEWS.items()}
    cases = rates | load.parts() | {f"view: {name}": load.views()[name] for name in VIEWS}
    cases |= {name: trained.step(view) for name, view in STEPS.items()}
    ms = harness.measure(cases, options.repeats, options.device)
    work = {name: work_of(case) for name, case in cases.items()}
    work |= {view: torch.cat([work[part] for part in parts]) for view, parts in composed.items()}  # by the formula
    reached = {name: work[name].sum(0) / ms[name]["min"] for name in rates}  # FLOPs and bytes a millisecond
    peak, axes = torch.stack([*reached.values()]).amax(0), {"batch": options.batch, "dtype": options.dtype}
    gflop_s = {name: rate[0].item() / 1e6 for name, rate in reached.items() if rate[0]}
    yield {"case": "machine", **axes, "gflop_s": gflop_s, "gb_s": peak[1].item() / 1e6}
    for name in list(cases)[len(rates) :]:
        flops, moved = work[name].sum(0).tolist()
        floor = (work[name] / peak).amax(1).sum().item()
        row = {"case": name, **axes, "gflop": flops / 1e9, "mib": moved / harness.MIB, "predicted_ms": floor}
        parts = {"parts_ms": sum(ms[part]["min"] for part in composed[name])} if name in composed else {}
        yield row | {"ms": ms[name]} | parts


def table(rows: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    """What :func:`run` yields, once or several times, as Markdown."""
    starts = [i for i, row in enumerate(rows) if row["case"] == "machine"]
    return "\n\n".join(_table(rows[i:j]) for i, j in itertools.pairwise([*starts, None]))


def _table(rows: list[dict[str, Any]]) -> str:
    machine, *rows = rows
    simclr = next(row["gflop"] for row in rows if row["case"] == SIMCLR)
    rates = ", ".join(f"{rate:.0f} GFLOP/s in a {name}" for name, rate in machine["gflop_s"].items())
    lines = []
    for row in rows:
        ms, parts = row["ms"]["min"], row.get("parts_ms")
        ratios = [f"{ms / row['predicted_ms']:.2f}", f"{ms / parts:.2f}" if parts else ""]
        numbers = [f"{number:.2f}" for number in (row["gflop"], row["mib"], row["predicted_ms"], ms)]
        lines.append([row["case"], *numbers, *ratios, f"{row['gflop'] / simclr:.1%}"])
    title = f"Batch {machine['batch']}, {machine['dtype']}: {rates}, {machine['gb_s']:.0f} GB/s in a copy.\n\n"
    header = ["part", "GFLOP", "MiB moved", "predicted ms", "measured ms", "measured / predicted"]
    return title + harness.table([*header, "measured / sum of measured parts", "of a SimCLR step's FLOPs"], lines)


def main() -> None:
    """Measure, save and print every batch in every dtype."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=["float32"])
    parser.add_argument("--repeats", type=int, default=Options.repeats)
    args = parser.parse_args()
    each = [Options(args.device, dtype, batch, repeats=args.repeats) for dtype in args.dtype for batch in args.batch]
    rows, settings = [row for options in each for row in run(options)], {"suite": "model", **vars(args)}
    harness.save(f"speed/{args.device.split(':')[0]}-model", settings, rows)
    print(table(rows, settings))


if __name__ == "__main__":
    main()
