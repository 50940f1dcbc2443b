"""The tables of docs/paper.md: every table of the paper, what was run here beside it, and what a run would take."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from benchmarks import estimate
from benchmarks.harness import table
from examples.detection import report as coco
from examples.semi import report as semi
from examples.shared.table import read_runs

RESULTS = Path(__file__).parent / "results"
TORCHRUN = "torchrun --nproc-per-node 8 examples/ssl/train.py --recipe imagenet --data imagenet"
CIFAR = ("CIFAR-10", "CIFAR-100")
# Yang et al., ICML 2022: kNN on CIFAR-10 and CIFAR-100, linear on CIFAR-10 and CIFAR-100, per cent, mean of their runs,
# each the best epoch on the test set.
SSL = {
    ("plain", "none"): (82.78, 54.73, 79.65, 51.82),
    ("plain", "clae"): (83.09, 55.28, 79.94, 52.14),
    ("plain", "idaa"): (86.00, 58.64, 82.83, 56.12),
    ("uel", "none"): (83.63, 55.23, 80.63, 52.99),
    ("uel", "clae"): (84.00, 55.96, 80.94, 54.27),
    ("uel", "idaa"): (86.69, 59.04, 83.65, 57.25),
    ("simsiam", "none"): (88.22, 57.13, 89.84, 62.76),
    ("simsiam", "clae"): (85.59, 53.88, 87.77, 60.89),
    ("simsiam", "idaa"): (89.08, 58.19, 90.99, 65.21),
    ("simclr", "none"): (80.79, 41.11, 86.40, 57.81),
    ("simclr", "clae"): (80.27, 43.57, 85.25, 57.69),
    ("simclr", "idaa"): (83.41, 46.78, 88.07, 60.90),
}


class ImageNet(NamedTuple):
    """A row of the table of ImageNet: a ResNet-50, top-1 and top-5 in per cent, and who says so."""

    method: str
    view: str
    epochs: int
    top1: str
    top5: str
    source: str


SIMSIAM, MOCO = "Chen and He, CVPR 2021, batch 4096", "Chen et al., 2020"
IMAGENET = (
    ImageNet("simsiam", "none", 100, "68.1", "88.2", "IDAA"),
    ImageNet("simsiam", "idaa", 100, "69.0", "88.8", "IDAA"),
    ImageNet("simsiam", "none", 200, "69.8", "89.2", "IDAA"),
    ImageNet("simsiam", "idaa", 200, "70.6", "89.7", "IDAA"),
    ImageNet("simclr", "none", 100, "66.5", "-", SIMSIAM),
    ImageNet("simclr", "none", 200, "68.3", "-", SIMSIAM),
    ImageNet("moco", "none", 200, "67.5", "-", MOCO),
)


def section(page: Path, heading: str = "") -> str:
    """The first table below ``heading`` in a Markdown page, as it stands."""
    text = page.read_text()
    lines = iter(text[text.index(heading) :].splitlines())
    first = next(line for line in lines if line.startswith("|"))
    return "\n".join([first, *takewhile(lambda line: line.startswith("|"), lines)])


def as_far_as_run(text: str) -> str:
    """A Markdown table without the columns in which nothing was run."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    kept = [i for i, column in enumerate(zip(*rows[2:], strict=True)) if not set(column) <= {"not run", "-"}]
    return table([rows[0][i] for i in kept], [[row[i] for i in kept] for row in rows[2:]])


def fixmatch() -> str:
    """The paper's and two libraries', and ours where they were run."""
    return as_far_as_run(semi.beside_the_paper(read_runs(RESULTS / "semi")))


def ssl() -> str:
    """The paper's grid."""
    header = ["method", "view", *(f"{measure}, {data}" for measure in ("kNN", "linear") for data in CIFAR)]
    return table(header, [[*names, *(f"{value:.2f}" for value in values)] for names, values in SSL.items()])


def detection() -> str:
    """The paper's rows on COCO and others', with the commands."""
    return as_far_as_run(coco.beside_the_paper(read_runs(RESULTS / "detection")))


def imagenet() -> str:
    """Methods and views on ImageNet, with the commands."""
    lines = []
    for row in IMAGENET:
        passes = estimate.PASSES_WITH_TARGET if row.method == "moco" else estimate.PASSES
        replace = " --pair replace" if row.method == "simsiam" and row.view == "idaa" else ""
        if replace:  # in place of view 1 the hard view is no third one to learn from
            passes = passes | {"idaa": passes["idaa"] - 2}
        work = estimate.IMAGENET._replace(passes=passes)
        command = f"--method {row.method} --view {row.view}{replace} --epochs {row.epochs}"
        batch = " --batch-size 4096" if row.source == SIMSIAM else ""
        hours = f"{estimate.hours(work, row.view) * row.epochs / 100:.0f}"
        lines.append([row.method, f"`{row.view}`", str(row.epochs), row.top1, row.top5, row.source])
        lines[-1] += [f"`{TORCHRUN} {command}{batch}`", hours]
    header = ["method", "view", "epochs", "top-1", "top-5", "source", "command", "GPU hours"]
    return table(header, lines)


def hours() -> str:
    """The commands that run the tables, and what one run of each would take."""
    wide, narrow = (partial(estimate.hours, estimate.fixmatch(name)) for name in ("wrn-28-8", "wrn-28-2"))
    ssl = "python examples/ssl/run_table.py --data cifar10 cifar100 --views none clae idaa --methods"
    fix = "python -m examples.semi.run_table --labels 400 2500 10000 --views none clae idaa"
    rows: list[tuple[str, str, Callable[[str], float], int]] = [
        ("Plain, UEL, SimCLR, SimSiam", f"{ssl} plain uel simclr simsiam", partial(estimate.hours, estimate.SSL), 8),
        ("MoCo (not in its tables)", f"{ssl} moco", partial(estimate.hours, estimate.SSL), 2),
        ("FixMatch, WRN-28-8", fix, wide, 3),
        ("FixMatch, WRN-28-2", f"{fix} -- --backbone wrn-28-2", narrow, 3),
    ]
    lines = []
    for name, command, each, cells in rows:
        costs = [each(view) for view in ("none", "clae", "idaa")]
        lines.append([name, f"`{command}`", *(f"{cost:.1f}" for cost in costs), f"{cells * sum(costs):.0f}"])
    return table(["table", "command", "hours of a run: `none`", "`clae`", "`idaa`", "hours, one seed of all"], lines)


TABLES: dict[str, Callable[[], str]] = {
    "paper-ssl": ssl,
    "paper-fixmatch": fixmatch,
    "paper-detection": detection,
    "paper-imagenet": imagenet,
    "paper-hours": hours,
    "semi-small": lambda: section(RESULTS / "semi" / "table.md", "## cifar10, 400 labels, --scale small"),
}
