"""Run a table: backbones by seeds. What is done is skipped, what was interrupted goes on.

    python -m examples.detection.run_table --backbones "runs/ssl/simclr-none-cifar10-small-s{seed}" --scale small

In a name {seed} is the seed, so that each run starts from a backbone of its own; quote it for the
shell. The shape of the first one is also trained from scratch, unless --no-scratch is said. What stands behind -- goes
to train.py. Each JSON in benchmarks/results/detection/ has the command that makes it again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from examples.shared.grid import RESULTS, own_and_rest, run_grid

from . import report
from .config import SCALES, configure


def cells(args: argparse.Namespace, rest: list[str]) -> list[list[str]]:
    """Arguments of train.py for each cell, one whole table for a seed before the next seed."""
    scratch = [(args.backbones[0], ["--scratch"])] if args.scratch else []
    starts = [*scratch, *((name, []) for name in args.backbones)]
    scale = ["--scale", args.scale]
    return [
        ["--backbone", name.replace("{seed}", str(seed)), *more, *scale, "--seed", str(seed), *rest]
        for seed in args.seeds
        for name, more in starts
    ]


def main() -> None:
    """Run, report after each cell; a cell that fails is named and does not stop the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=["resnet50.tv_in1k"], help="runs of examples/ssl, or of timm")
    parser.add_argument("--scratch", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--scale", choices=SCALES, default="paper")
    parser.add_argument("--results", type=Path, default=RESULTS / "detection", help="folder of the JSONs and the table")
    own, rest = own_and_rest(sys.argv[1:])
    args = parser.parse_args(own)
    program = ["-m", "examples.detection.train"]
    run_grid(cells(args, rest), program, lambda cell: configure(cell).out, args.results, report.write)


if __name__ == "__main__":
    main()
