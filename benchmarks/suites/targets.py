"""The ratios that the project aims at, each with what it is divided by, side by side in one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from idaa_transforms.util.precision import has_bfloat16

from .. import harness, workload
from ..workload import Workload
from . import Options, peers, startup

TITLE = "Targets"
Median = Callable[[str], float]


class Target(NamedTuple):
    """A ratio: what it is of, how it follows from the medians, and the most it should be on a CPU and on a GPU."""

    what: str
    ratio: Callable[[Median], float]
    cpu: float | None
    gpu: float | None


def over(what: str, by: str) -> Callable[[Median], float]:
    """One case over another."""
    return lambda median: median(what) / median(by)


def over_parts(what: str, *more: str) -> Callable[[Median], float]:
    """A view over the sum of its bare parts: E forward, D forward twice and backward once, and ``more``."""
    parts = ("E forward", "D forward", "D forward", "D backward to z", *more)
    return lambda median: median(what) / sum(map(median, parts))


AUTHORS, ANEW = "authors' order of operations", "IDAA, loss_fn=, anchor encoded anew"
OWN, GRAD = "IDAA, loss_fn=, the step's own anchor", "IDAA, grad="
MODEL = "model forward", "model backward to its input"
TARGETS = [
    Target("views by `loss_fn=` over the authors' order, anchor encoded anew", over(ANEW, AUTHORS), 0.45, 0.25),
    Target("the same with the training step's own anchor", over(OWN, AUTHORS), 0.33, 0.20),
    Target("views by `grad=` over a two-view SimCLR step", over(GRAD, "step: none"), 0.06, 0.05),
    Target(
        "SimCLR step with a third view by `grad=` over plain SimCLR", over("step: IDAA, grad=", "step: none"), 1.6, 1.55
    ),
    Target(
        "SimCLR step with the view in place of view 1, one forward shared, over plain SimCLR",
        over("step: IDAA in place of view 1, sharing a forward", "step: none"),
        1.45,
        1.40,
    ),
    Target("views by `loss_fn=` over the sum of their bare parts", over_parts(OWN, *MODEL), 1.05, 1.05),
    Target("views by `grad=` over the sum of their bare parts", over_parts(GRAD), 1.05, 1.05),
    Target("CLAE by `loss_fn=` over torchattacks' FGSM", over("CLAE, loss_fn=", "torchattacks FGSM"), 0.9, 0.9),
    Target(
        "training step on clean and CLAE by `grad=` over the same with FGSM",
        over("training step on clean and CLAE, grad=", "training step on clean and torchattacks FGSM"),
        0.9,
        0.9,
    ),
    Target(
        "`import idaa_transforms` over `import torch, torchvision`",
        over("import idaa_transforms", "import torch, torchvision"),
        1.1,
        None,
    ),
]
PEERS = (
    "CLAE, loss_fn=",
    "torchattacks FGSM",
    *(f"training step on clean and {a}" for a in ("CLAE, grad=", "torchattacks FGSM")),
)


def cases(work: Workload) -> workload.Cases:
    """Everything on one workload but the peers."""
    views = {name: case for name, case in work.views().items() if not name.startswith("CLAE")}
    steps = ("none", "IDAA, grad=", "IDAA in place of view 1, sharing a forward")
    return {
        AUTHORS: work.authors_views,
        ANEW: lambda: work.idaa(work.x, loss_fn=work.nce_anew),
        **views,
        **{f"step: {view}": work.step(view) for view in steps},
        **work.parts(),
    }


def run(options: Options) -> Iterator[dict[str, Any]]:
    """Rows for the VAE in the dtype of the run and, where that is float32 and the device has it, in bfloat16 beside it.
    What has no VAE in it is timed once, and so is the authors' order, which has theirs in the dtype of the run."""
    plain = Workload(options.batch, options.device, options.dtype)
    both = {(options.dtype, name): case for name, case in cases(plain).items()}
    if options.dtype == "float32" and has_bfloat16(options.device):
        short = cases(Workload(options.batch, options.device, options.dtype, vae_dtype="bfloat16"))
        both |= {
            ("bfloat16", name): case for name, case in short.items() if name not in (AUTHORS, "step: none", *MODEL)
        }
    other = peers.cases(Workload(options.batch, options.device, options.dtype))
    both |= {(options.dtype, name): other[name] for name in PEERS}
    names = {f"{name} | {dtype}": (name, dtype) for dtype, name in both}
    timed = {label: both[dtype, name] for label, (name, dtype) in names.items()}
    measured = harness.rows(timed, options.repeats, options.device, memory_too=False, batch=options.batch)
    for row in measured:
        name, dtype = names[row["case"]]
        yield row | {"case": name, "vae_dtype": dtype}
    for row in startup.run(options, startup.IMPORTS):
        yield row | {"vae_dtype": options.dtype}


def ratios(rows: list[dict[str, Any]]) -> dict[str, list[float]]:
    """For each dtype of the VAE, the ratio of every target."""
    first = rows[0]["vae_dtype"]
    times = {(row["vae_dtype"], row["case"]): row["ms"]["median"] for row in rows}
    found = {}
    for dtype in dict.fromkeys(row["vae_dtype"] for row in rows):
        median = lambda case, dtype=dtype: times.get((dtype, case), times[first, case])  # noqa: E731
        found[dtype] = [target.ratio(median) for target in TARGETS]
    return found


def table(rows: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    """What was aimed at beside what was measured, as Markdown."""
    found = {f"VAE in {dtype}": column for dtype, column in ratios(rows).items()}
    return beside(TARGETS, found, settings["device"])


def beside(aims: Sequence[Target], found: dict[str, list[float]], device: str) -> str:
    """``aims`` beside the ratios of each column of ``found``, as Markdown."""
    lines = []
    for i, target in enumerate(aims):
        aim = target.cpu if device == "cpu" else target.gpu
        of = [column[i] for column in found.values()]
        digits = 2 if (min(of) if aim is None else aim) >= 0.05 else 3
        cells = [f"{ratio:.{digits}f}" for ratio in of]
        missed = [" (missed)" if aim is not None and float(cell) > aim else "" for cell in cells]
        lines.append(
            [target.what, "-" if aim is None else f"{aim:.{digits}f}", *map("".join, zip(cells, missed, strict=True))]
        )
    return harness.table(["ratio of medians", "target", *found], lines)
