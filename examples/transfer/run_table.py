"""Evaluate every backbone on every set, skip what is done, and write the table.

    python -m examples.transfer.run_table --backbones runs/ssl/* --scale small --sets cifar100 eurosat
    python -m examples.transfer.run_table --backbones resnet50 runs/ssl/simclr-idaa-cifar10-paper-s0

What stands behind -- goes to evaluate.py. A backbone that is done has a JSON in benchmarks/results/transfer/.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from examples.shared.grid import RESULTS, own_and_rest, run_grid

from . import evaluate, report, sets

AT_HAND = ("cifar100", "flowers5", "dtd10", "eurosat", "clothing128")


def main() -> None:
    """Run, report after each backbone; one that fails is named and does not stop the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", required=True, help="folders of runs, checkpoints, names of timm")
    parser.add_argument("--sets", nargs="+", help=f"default: {' '.join(sets.PAPERS)}; small: {' '.join(AT_HAND)}")
    parser.add_argument("--scale", choices=evaluate.SCALES, default="paper")
    parser.add_argument("--results", type=Path, default=RESULTS / "transfer", help="folder of the JSONs and the table")
    own, rest = own_and_rest(sys.argv[1:])
    args = parser.parse_args(own)
    chosen = args.sets or (sets.PAPERS if args.scale == "paper" else AT_HAND)
    cells = [["--backbone", each, "--sets", *chosen, "--scale", args.scale, *rest] for each in args.backbones]
    program = ["-m", "examples.transfer.evaluate"]
    run_grid(cells, program, lambda cell: evaluate.configure(cell).out, args.results, report.write)


if __name__ == "__main__":
    main()
