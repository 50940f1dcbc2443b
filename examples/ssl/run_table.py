"""Run a grid of experiments, skip what is done, and write the table and the plots.

    python examples/ssl/run_table.py --scale small --seeds 0 1                     # SimCLR with every view
    python examples/ssl/run_table.py --scale small --views idaa -- --eps 0.3       # the same with another setting
    python examples/ssl/run_table.py --board cifar10-weak --seeds 11 12 13         # equal time, see docs/board.md
    python examples/ssl/run_table.py --board cifar10-paper-resnet18 --seeds 11 --parallel 5  # ten minutes on one H100

What stands behind -- goes to train.py. A cell that is done has a JSON in benchmarks/results/ssl/; one that was
interrupted goes on from its checkpoint in runs/ssl/. Each JSON has the command that makes it again.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path

import board
import board_report
import report
from config import configure
from methods import METHODS

from examples.shared.grid import RESULTS, own_and_rest, run_grid
from examples.shared.views import VIEWS

HERE = Path(__file__).parent


def cells(args: argparse.Namespace, rest: list[str]) -> list[list[str]]:
    """Arguments of train.py for each cell, one whole table for a seed before the next seed."""
    grid = itertools.product(args.seeds, args.data, args.methods, args.views)
    scale = ["--scale", args.scale]
    return [
        ["--method", method, "--view", view, *(["--data", data] if data else []), *scale, "--seed", str(seed), *rest]
        for seed, data, method, view in grid
    ]


def main() -> None:
    """Run, report after each cell; a cell that fails is named and does not stop the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["simclr"])
    parser.add_argument("--views", nargs="+", choices=VIEWS, default=VIEWS)
    parser.add_argument("--data", nargs="+", default=[""], help="default: the scale's")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--scale", choices=("paper", "small", "smoke"), default="paper")
    parser.add_argument("--board", choices=board.SETTINGS, help="methods for the same time, in this setting")
    parser.add_argument("--cells", nargs="+", choices=board.METHODS, help="of the board; default: all of them")
    parser.add_argument("--parallel", type=int, default=1, help="cells that run at a time, on one device")
    parser.add_argument("--dry", action="store_true", help="print what the board's cells compute, and stop")
    parser.add_argument("--rate", type=float, default=250.0, help="of --dry: TFLOP/s of the device, all cells together")
    parser.add_argument("--results", type=Path, help="folder of the JSONs, the table and the plots")
    own, rest = own_and_rest(sys.argv[1:])
    args = parser.parse_args(own)
    results = args.results or RESULTS / ("board" if args.board else "ssl")
    if args.board:
        methods = args.cells or list(board.SETTINGS[args.board].epochs or board.METHODS)
        if args.dry:
            try:
                print(board.planned(args.board, methods, args.seeds, rest, args.rate, args.parallel))
            except ValueError as error:  # of the data
                sys.exit(f"run_table.py: {error}")
            return
        grid = board.cells(args.board, board.epochs_of(args.board, methods, rest, results), args.seeds, rest)
    else:
        grid = cells(args, rest)
    write = board_report.write if args.board else report.write
    here = HERE.relative_to(Path.cwd()) if HERE.is_relative_to(Path.cwd()) else HERE
    run_grid(
        grid,
        [str(here / "train.py")],
        lambda cell: configure(cell).out,
        results,
        write,
        board.kept if args.board else None,
        args.parallel,
    )


if __name__ == "__main__":
    main()
