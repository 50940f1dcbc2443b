"""The ratios that the project aims at, each with what it is divided by, side by side in one run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from torchvision.models import resnet50

from idaa_transforms import IDAATransform, preserve_state
from idaa_transforms._util.precision import has_bfloat16
from idaa_transforms.losses import nt_xent

from .. import harness, workload
from ..workload import Workload
from . import Options, peers, startup

TITLE = "Targets"
Median = Callable[[str], float]


class Target(NamedTuple):
    """What is aimed at, how it follows from the medians, and the most it should be on a CPU and on a GPU."""

    what: str
    value: Callable[[Median], float]
    cpu: float | None
    gpu: float | None


def over(what: str, by: str) -> Callable[[Median], float]:
    """One case over another."""
    return lambda median: median(what) / median(by)


def over_parts(what: str, *more: str) -> Callable[[Median], float]:
    """A view over the sum of its bare parts: E forward, D forward twice, once for its gradient, D backward, and
    ``more``."""
    parts = ("E forward", "D forward", "D forward, recorded", "D backward to z", *more)
    return lambda median: median(what) / sum(map(median, parts))


AUTHORS, ANEW = "authors' order of operations", "IDAA, loss_fn=, anchor encoded anew"
OWN, GRAD = "IDAA, loss_fn=, the step's own anchor", "IDAA, grad="
FIRST, LATER = "IDAA, grad=, first call", "IDAA, grad=, hundredth call"
MODEL = "model forward", "model backward to its input"
FGSM, CLAE = (f"training step on clean and {attack}" for attack in ("torchattacks FGSM", "CLAE, grad="))
RESNET, PRESERVE = "SimCLR step of a ResNet-50 at 64 pixels", "keeping its state"
CALLS = "Python calls in idaa_transforms"
SHARED = "step: IDAA in place of view 1, sharing a forward"
BASE, IMPORT = startup.IMPORTS
TARGETS = [
    Target("views by `loss_fn=` over the authors' order, anchor encoded anew", over(ANEW, AUTHORS), 0.45, 0.25),
    Target("the same with the training step's own anchor", over(OWN, AUTHORS), 0.33, 0.20),
    Target("views by `grad=` over a two-view SimCLR step", over(GRAD, "step: none"), 0.06, 0.05),
    Target("SimCLR step with a third view by `grad=` over plain", over(f"step: {GRAD}", "step: none"), 1.6, 1.55),
    Target("SimCLR step with the view in place of view 1, one forward shared", over(SHARED, "step: none"), 1.45, 1.40),
    Target("views by `loss_fn=` over the sum of their bare parts", over_parts(OWN, *MODEL), 1.05, 1.05),
    Target("views by `grad=` over the sum of their bare parts", over_parts(GRAD), 1.02, 1.02),
    Target("the first view by `grad=` over the hundredth", over(FIRST, LATER), None, None),
    Target("Python calls a view by `grad=`", lambda median: median(CALLS), 60, 60),
    Target("keeping a ResNet-50's state over its SimCLR step", over(PRESERVE, RESNET), None, None),
    Target("the same in ms", lambda median: median(PRESERVE), 3.0, 3.0),
    Target("CLAE by `loss_fn=` over torchattacks' FGSM", over("CLAE, loss_fn=", "torchattacks FGSM"), 0.9, 0.9),
    Target("training step on clean and CLAE by `grad=` over the same with FGSM", over(CLAE, FGSM), 0.9, 0.9),
    Target(f"`{IMPORT}` over `{BASE}`", over(IMPORT, BASE), 1.05, None),
]


def cases(work: Workload) -> workload.Cases:
    """Everything on one workload but the peers."""
    views = {name: case for name, case in work.views().items() if not name.startswith("CLAE")}
    fresh = lambda: IDAATransform(work.idaa.autoencoder, work.idaa.eps).to(work.x.device)  # noqa: E731
    later = fresh()
    for _ in range(98):
        later(work.x[:1], grad=work.gradient[:1])
    unused = [fresh() for _ in range(100)]
    return {
        AUTHORS: work.authors_views,
        ANEW: lambda: work.idaa(work.x, loss_fn=work.nce_anew),
        **views,
        FIRST: lambda: unused.pop()(work.x, grad=work.gradient),
        LATER: lambda: later(work.x, grad=work.gradient),
        **{f"step: {view}": work.step(view) for view in ("none", GRAD, SHARED.removeprefix("step: "))},
        **work.parts(),
    }


def preserving(options: Options) -> workload.Cases:
    """What an attack does to keep a ResNet-50 as it was, by a new closure each time, as in a training loop."""
    model = resnet50(num_classes=64).to(options.device).train()
    images = workload.batch_of(options.batch, 64).to(options.device)

    def step() -> None:
        model.zero_grad()
        nt_xent(model(images), model(images.flip(-1))).mean().backward()

    def preserve() -> None:
        with preserve_state(lambda views: model(views)):
            pass

    return {RESNET: step, PRESERVE: preserve}


def python_calls(work: Workload) -> int:
    """Of functions of the package, in a view by ``grad=``."""
    count = 0

    def profile(frame: Any, event: str, _: Any) -> None:
        nonlocal count
        count += event == "call" and "idaa_transforms" in frame.f_globals.get("__name__", "")

    work.views()[GRAD]()
    sys.setprofile(profile)
    work.views()[GRAD]()
    sys.setprofile(None)
    return count


def run(options: Options) -> Iterator[dict[str, Any]]:
    """Rows for the VAE in the dtype of the run and, where that is float32 and the device has it, in bfloat16 beside it.
    What has no VAE in it is timed once, and so is the authors' order, which has theirs in the dtype of the run."""
    plain = Workload(options.batch, options.device, options.dtype)
    both = {(options.dtype, name): case for name, case in (cases(plain) | preserving(options)).items()}
    if options.dtype == "float32" and has_bfloat16(options.device):
        short = cases(Workload(options.batch, options.device, options.dtype, vae_dtype="bfloat16"))
        alone = (AUTHORS, "step: none", *MODEL)
        both |= {("bfloat16", name): case for name, case in short.items() if name not in alone}
    other = peers.cases(Workload(options.batch, options.device, options.dtype))
    both |= {(options.dtype, name): other[name] for name in ("CLAE, loss_fn=", "torchattacks FGSM", CLAE, FGSM)}
    for (dtype, name), ms in harness.measure(both, options.repeats, options.device).items():
        yield {"case": name, "vae_dtype": dtype, "batch": options.batch, "ms": ms}
    yield {"case": CALLS, "vae_dtype": options.dtype, "count": python_calls(plain)}
    for row in startup.run(options, {name: startup.CASES[name] for name in startup.IMPORTS}):
        yield row | {"vae_dtype": options.dtype}


def table(rows: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    """What was aimed at beside what was measured, as Markdown."""
    first = rows[0]["vae_dtype"]
    times = {(row["vae_dtype"], row["case"]): row["ms"]["median"] if "ms" in row else row["count"] for row in rows}
    medians: dict[str, Median] = {}
    for dtype in dict.fromkeys(row["vae_dtype"] for row in rows):
        medians[f"VAE in {dtype}"] = lambda case, dtype=dtype: times.get((dtype, case)) or times[first, case]
    return beside(TARGETS, medians, settings["device"])


def beside(aims: Sequence[Target], medians: dict[str, Median], device: str) -> str:
    """``aims`` beside what was measured, as Markdown. An aim that an older run did not measure is left out."""
    lines = []
    for target in aims:
        try:
            found = [target.value(median) for median in medians.values()]
        except KeyError:
            continue
        aim = target.cpu if device == "cpu" else target.gpu
        size = min(found) if aim is None else aim
        digits = 3 if size < 0.05 else 2 if size < 10 else 0
        cells = [f"{value:.{digits}f}" for value in found]
        missed = [" (missed)" if aim is not None and float(cell) > aim else "" for cell in cells]
        aimed = "-" if aim is None else f"{aim:.{digits}f}"
        lines.append([target.what, aimed, *map("".join, zip(cells, missed, strict=True))])
    return harness.table(["ratio of medians", "target", *medians], lines)
