"""Run a grid of FixMatch, skip what is done, and write the table.

    python -m examples.semi.run_table --scale small --views none third idaa-grad --seeds 0 1 2    # minutes on a CPU
    python -m examples.semi.run_table --views none clae idaa --labels 400 2500 10000              # the paper's; a GPU

What stands behind -- goes to train.py. A cell that is done has a JSON in benchmarks/results/semi/; one that was
interrupted goes on from its checkpoint in runs/semi/.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

from examples.shared.grid import RESULTS, own_and_rest, run_grid

from . import report
from .config import SCALES, VIEWS, configure


def main() -> None:
    """Run, report after each cell; a cell that fails is named and does not stop the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", nargs="+", choices=VIEWS, default=VIEWS)
    parser.add_argument("--labels", nargs="+", type=int, help="default: the scale's")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--scale", choices=SCALES, default="paper")
    parser.add_argument("--results", type=Path, default=RESULTS / "semi", help="folder of the JSONs and the table")
    own, rest = own_and_rest(sys.argv[1:])
    args = parser.parse_args(own)
    some = [["--labels", str(count)] for count in args.labels] if args.labels else [[]]
    cells = [
        ["--view", view, "--scale", args.scale, *labels, "--seed", str(seed), *rest]
        for seed, labels, view in itertools.product(args.seeds, some, args.views)
    ]
    program = ["-m", "examples.semi.train"]
    run_grid(cells, program, lambda cell: configure(cell).out, args.results, report.write)


if __name__ == "__main__":
    main()
