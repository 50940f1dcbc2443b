"""The tables of docs/paper.md: every table of the paper, what was run here beside it, and what a run would take."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import estimate
from benchmarks.harness import table
from examples.detection import report as coco
from examples.semi import report as semi
from examples.shared.table import read_runs
from examples.transfer.sets import MEAN_PER_CLASS, PAPERS

RESULTS = Path(__file__).parent / "results"
NOT_RUN = "not run"
# Yang et al., ICML 2022: top-1 and top-5 on ImageNet, ResNet-50, batch 256.
IMAGENET = {
    ("none", 100): (68.1, 88.2),
    ("idaa", 100): (69.0, 88.8),
    ("none", 200): (69.8, 89.2),
    ("idaa", 200): (70.6, 89.7),
}


def section(page: Path, heading: str) -> str:
    """The first table below ``heading`` in a Markdown page, as it stands."""
    lines = page.read_text().partition(f"{heading}\n")[2].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    end = next((i for i in range(start, len(lines)) if not lines[i].startswith("|")), len(lines))
    return "\n".join(lines[start:end])


def fixmatch() -> str:
    """The paper's, two libraries' and ours."""
    return semi.beside_the_paper(read_runs(RESULTS / "semi"))


def transfer() -> str:
    """The paper's eight sets."""
    runs = [run for run in read_runs(RESULTS / "transfer") if run["config"]["scale"] == "paper"]
    lines = []
    for name in PAPERS:
        done = {run["backbone"]["name"]: run["sets"][name]["score"] for run in runs if name in run["sets"]}
        here = ", ".join(f"{backbone} {100 * score:.1f}" for backbone, score in done.items())
        lines.append([name, "mean per class" if name in MEAN_PER_CLASS else "top-1", here or NOT_RUN])
    return table(["set", "accuracy", "here"], lines)


BACKBONES = {  # how they were trained, in the headings of the page of transfer
    ("crop 0.08", "epochs 3.0"): "The paper's random augmentation",
    ("crop 0.4", "epochs 3.0"): "Crops from 0.4 of the area and flips alone",
    ("crop 0.4", "epochs 5.0"): "The same for five epochs, which take as long as three of `idaa-grad`",
}


def transfer_small() -> str:
    """What was run at small scale, a table for each way to train the backbones."""
    page, parts = RESULTS / "transfer" / "table.md", []
    headings = [line for line in page.read_text().splitlines() if line.startswith("## ")]
    for words, name in BACKBONES.items():
        (heading,) = (line for line in headings if all(f" {word}" in re.split("[,;]", line) for word in words))
        parts += [f"{name}:", section(page, heading)]
    return "\n\n".join(parts)


def detection() -> str:
    """The paper's rows on COCO and others', with the commands."""
    return coco.beside_the_paper(read_runs(RESULTS / "detection"))


def imagenet() -> str:
    """SimSiam on ImageNet."""
    lines = []
    for (view, epochs), numbers in IMAGENET.items():
        # In place of view 1 the hard view is no third one to learn from.
        learned = estimate.IMAGENET._replace(passes=estimate.IMAGENET.passes | {"idaa": 10})
        hours = estimate.hours(learned, view) * epochs / 100
        words = f"--view {view}" + " --pair replace" * (view == "idaa") + f" --epochs {epochs}" * (epochs != 100)
        start = "torchrun --nproc-per-node 8 examples/ssl/train.py --recipe imagenet --data imagenet --method simsiam"
        accuracy = [f"{number:.1f}" for number in numbers]
        lines.append([f"`{view}`", str(epochs), *accuracy, NOT_RUN, f"`{start} {words}`", f"{hours:.0f}"])
    return table(["SimSiam with view", "epochs", "top-1", "top-5", "here", "command", "GPU hours"], lines)


def hours() -> str:
    """The commands that run the tables, and what one run of each would take."""
    wide, narrow = (partial(estimate.hours, estimate.fixmatch(name)) for name in ("wrn-28-8", "wrn-28-2"))
    ssl = "python examples/ssl/run_table.py --data cifar10 cifar100 --views none clae idaa --methods"
    fix = "python -m examples.semi.run_table --labels 400 2500 10000 --views none clae idaa"
    rows: list[tuple[str, str, Callable[[str], float], int]] = [
        ("Plain, UEL, SimCLR, SimSiam", f"{ssl} plain uel simclr simsiam", partial(estimate.hours, estimate.SSL), 8),
        ("MoCo, SwAV (not in its tables)", f"{ssl} moco swav", partial(estimate.hours, estimate.SSL), 4),
        ("FixMatch, WRN-28-8", fix, wide, 3),
        ("FixMatch, WRN-28-2", f"{fix} -- --backbone wrn-28-2", narrow, 3),
    ]
    lines = []
    for name, command, each, cells in rows:
        costs = [each(view) for view in ("none", "clae", "idaa")]
        lines.append([name, f"`{command}`", *(f"{cost:.1f}" for cost in costs), f"{cells * sum(costs):.0f}"])
    return table(["table", "command", "hours of a run: `none`", "`clae`", "`idaa`", "hours, one seed of all"], lines)


TABLES: dict[str, Callable[[], str]] = {
    "paper-ssl": lambda: section(RESULTS / "ssl" / "table.md", "## Beside the paper"),
    "paper-fixmatch": fixmatch,
    "paper-transfer": transfer,
    "transfer-small": transfer_small,
    "paper-detection": detection,
    "paper-imagenet": imagenet,
    "paper-hours": hours,
    "semi-small": lambda: section(RESULTS / "semi" / "table.md", "## cifar10, 400 labels, --scale small"),
}
