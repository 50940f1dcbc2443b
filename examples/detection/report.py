"""Table from the JSONs of runs, beside the numbers of the paper and of the literature.

    python -m examples.detection.report benchmarks/results/detection

run_table.py does this after each cell.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

from examples.shared.table import Run, grouped, interval, markdown, origins, read_runs, seconds, spread, told

from .config import configure

METRICS = {"box_AP": "box AP", "box_AP50": "AP50", "box_AP75": "AP75"}
METRICS |= {"mask_AP": "mask AP", "mask_AP50": "mask AP50", "mask_AP75": "mask AP75"}
PLANNED = ("scratch", "simclr, none", "simclr, third", "simclr, idaa-grad")
GRID = (
    "A row that says not run takes about four minutes of a core for each seed: `python -m examples.detection.run_table "
    '--scale small --seeds 0 1 2 --backbones "runs/ssl/simclr-none-cifar10-small-s{seed}" '
    '"runs/ssl/simclr-third-cifar10-small-s{seed}" "runs/ssl/simclr-idaa-grad-cifar10-small-s{seed}"`, after '
    "examples/ssl/run_table.py has made these."
)
IMAGENET = "SSL-RUN"


class Published(NamedTuple):
    """A row of a table on COCO val2017 with a ResNet-50, per cent."""

    neck: str
    backbone: str
    box: float
    mask: float
    source: str
    options: str  # that run it here


# 1x, after 200 epochs of pretraining on ImageNet.
PUBLISHED = (
    Published("c4", "supervised", 38.2, 33.3, "MoCo", "--backbone resnet50.tv_in1k --norm frozen --freeze 2"),
    Published("c4", "MoCo", 38.5, 33.6, "MoCo", f"--backbone {IMAGENET}"),
    Published("c4", "SimSiam", 37.9, 33.2, "IDAA", f"--backbone {IMAGENET}"),
    Published("c4", "SimSiam + IDAA", 38.7, 33.9, "IDAA", f"--backbone {IMAGENET}"),
    Published("fpn", "random", 32.8, 29.9, "InfoMin", "--backbone resnet50 --scratch"),
    Published("fpn", "supervised", 39.7, 35.9, "InfoMin", "--backbone resnet50.tv_in1k"),
    Published("fpn", "MoCo", 39.4, 35.6, "InfoMin", f"--backbone {IMAGENET}"),
    Published("fpn", "InfoMin", 40.6, 36.7, "InfoMin", f"--backbone {IMAGENET}"),
)
# Eight V100 at detectron2's seconds for an iteration of 16 images, 0.58 and 0.26 by its model zoo, rounded here.
HOURS = {"c4": 8 * 0.58 * 90_000 / 3600, "fpn": 8 * 0.26 * 90_000 / 3600}
PLAIN = "simclr, none"  # what the others are compared with, seed by seed
ABOUT = (
    "Average precision in per cent after the last iteration, mean ± standard deviation over seeds, on all images of "
    "val/ unless the settings say otherwise. Over none: mean difference to it, seed by seed, ± half of its 95 % "
    "interval (Student's t). `training, s` is processor time where there is no GPU. The JSON of each "
    "run beside this file has its command, commit, machine, hours and every setting, of the backbone too."
)
BESIDE = (
    "Mask R-CNN with a ResNet-50 on COCO, 1x schedule. Published numbers: IDAA is Yang et al., ICML 2022; MoCo is He "
    "et al., CVPR 2020; InfoMin is Tian et al., NeurIPS 2020. Hours are estimated for V100 from the speed that "
    "detectron2 states for eight of them, without pretraining. SSL-RUN is a ResNet-50 pretrained on ImageNet for 200 "
    "epochs, by examples/ssl or from elsewhere."
)


def start_of(run: Run) -> str:
    """What the backbone was before."""
    config, backbone = run["config"], run["backbone"]
    if config["scratch"]:
        return "scratch"
    return f"{backbone['method']}, {backbone['view']}" if "method" in backbone else Path(config["backbone"]).name


def settings(run: Run) -> str:
    """What a run was told beyond the axes of the table."""
    config = run["config"]
    axes = ["--scale", config["scale"], "--data", config["data"], "--neck", config["neck"], "--model", config["model"]]
    usual = vars(configure(axes))
    return told(config, usual, ("backbone", "scratch"))


def measured(runs: list[Run], planned: tuple[str, ...] = ()) -> str:
    """The table of one set, scale, model and neck; of ``planned`` backbones also those that were not run."""
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in sorted(runs, key=lambda run: (settings(run), start_of(run) != "scratch", run["config"]["seed"])):
        groups.setdefault((start_of(run), settings(run)), []).append(run)
    names = [name for name in METRICS if not runs or name in runs[0]["metrics"]]
    over = [name for name in ("box_AP", "mask_AP") if name in names]
    plain = {other: {run["config"]["seed"]: run for run in same} for (s, other), same in groups.items() if s == PLAIN}
    lines = []
    for (start, other), same in groups.items():
        seeds = " ".join(str(run["config"]["seed"]) for run in same)
        numbers = [spread([run["metrics"][name] for run in same]) for name in names]
        pairs = [(run, plain[other][seed]) for run in same if (seed := run["config"]["seed"]) in plain.get(other, {})]
        gains = [interval([a["metrics"][name] - b["metrics"][name] for a, b in pairs]) for name in over if pairs]
        gains = gains if pairs and start != PLAIN else ["-"] * len(over)
        lines.append([start, other, seeds, *numbers, *gains, spread([seconds(run) for run in same], 1, ".0f")])
    missing = [start for start in planned if (start, "") not in groups]
    lines += [[start, "", *["not run"] * (len(names) + len(over) + 2)] for start in missing]
    header = ["backbone", "settings", "seeds", *(METRICS[name] for name in names)]
    header += [*(f"{METRICS[name]} over none" for name in over), "training, s"]
    return markdown(header, lines)


def beside_the_paper(runs: list[Run]) -> str:
    """What was published, what was run here and, where nothing was, how it would be run."""
    ours = [run for run in runs if run["config"]["scale"] == "paper" and run["config"]["data"] == "coco"]
    lines = []
    for row in PUBLISHED:
        options = configure([*row.options.split(), "--neck", row.neck])
        name = lambda run, wanted=options: run["config"]["backbone"] == wanted.backbone  # noqa: E731
        same = [run for run in ours if name(run) and run["config"]["neck"] == row.neck and not settings(run)]
        here = [spread([run["metrics"][kind] for run in same]) if same else "not run" for kind in ("box_AP", "mask_AP")]
        program = "torchrun --nproc-per-node 8 -m examples.detection.train"
        command = f"`{program} --neck {row.neck} {row.options}`"
        numbers = [f"{row.box:.1f}", here[0], f"{row.mask:.1f}", here[1]]
        lines.append([row.neck.upper(), row.backbone, row.source, *numbers, command, f"{HOURS[row.neck]:.0f}"])
    header = ["", "backbone", "source", "box AP", "here", "mask AP", "here", "command", "GPU hours"]
    return markdown(header, lines)


def write(results: Path) -> None:
    """table.md in the folder of the JSONs."""
    runs = read_runs(results)
    parts = ["# Results of examples/detection", ABOUT]
    groups = grouped(runs, "data", "scale", "model", "neck")
    small = groups.pop(("nuclei", "small", "mask", "fpn"), [])
    parts += [
        "## nuclei, mask, fpn, --scale small",
        measured(small, PLANNED),
        GRID,
        *([origins(small)] if small else []),
    ]
    for (data, scale, model, neck), group in sorted(groups.items()):
        parts += [f"## {data}, {model}, {neck}, --scale {scale}", measured(group), origins(group)]
    parts += ["## Beside the paper", BESIDE, beside_the_paper(runs)]
    (results / "table.md").write_text("\n\n".join(parts) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
