"""Run a grid of experiments, skip what is done, and write the table and the plots.

    python examples/ssl/run_table.py --scale small --seeds 0 1                     # SimCLR with every view
    python examples/ssl/run_table.py --scale small --views idaa -- --eps 0.3       # the same with another setting
    python examples/ssl/run_table.py --board cifar10-crops --seeds 10 11 12        # equal time, see docs/board.md
    python examples/ssl/run_table.py --methods plain simsiam --data cifar10 cifar100 --views none idaa    # on a GPU

What stands behind -- goes to train.py. A cell that is done has a JSON in benchmarks/results/ssl/; one that was
interrupted goes on from its checkpoint in runs/ssl/. Each JSON has the command that makes it again.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
from pathlib import Path

import board
import board_report
import report
from config import VIEWS, configure
from methods import METHODS

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "benchmarks" / "results" / "ssl"


def cells(args: argparse.Namespace, rest: list[str]) -> list[list[str]]:
    """Arguments of train.py for each cell, one whole table for a seed before the next seed."""
    grid = itertools.product(args.seeds, args.data, args.methods, args.views)
    scale = ["--scale", args.scale]
    return [
        ["--method", method, "--view", view, *(["--data", data] if data else []), *scale, "--seed", str(seed), *rest]
        for seed, data, method, view in grid
    ]


def run(arguments: list[str], results: Path) -> bool:
    """Train and evaluate one cell unless it is done. A process of its own: what it leaves in memory goes with it."""
    folder = Path(configure(arguments).out)
    result = results / f"{folder.name}.json"
    if result.exists():
        print(f"done already: {result.name}")
        return True
    script = HERE.relative_to(Path.cwd()) if HERE.is_relative_to(Path.cwd()) else HERE
    done = subprocess.run([sys.executable, str(script / "train.py"), *arguments], check=False).returncode == 0
    if done:
        results.mkdir(parents=True, exist_ok=True)
        result.write_text((folder / "result.json").read_text())
    return done


def main() -> None:
    """Run, report after each cell; a cell that fails is named and does not stop the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["simclr"])
    parser.add_argument("--views", nargs="+", choices=VIEWS, default=VIEWS)
    parser.add_argument("--data", nargs="+", default=[""], help="default: the scale's")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--scale", choices=("paper", "small", "smoke"), default="paper")
    parser.add_argument("--board", choices=board.RUNGS, help="every arm for the same time, on this rung")
    parser.add_argument("--arms", nargs="+", choices=board.ARMS, default=list(board.ARMS), help="of the board")
    parser.add_argument("--results", type=Path, help="folder of the JSONs, the table and the plots")
    own = sys.argv[1:]
    cut = own.index("--") if "--" in own else len(own)
    args = parser.parse_args(own[:cut])
    results = args.results or (RESULTS.with_name("ssl-board") if args.board else RESULTS)
    rest = own[cut + 1 :]
    grid = board.cells(args.board, args.arms, args.seeds, results) if args.board else cells(args, rest)
    failed = []
    for cell in grid:
        if not run(cell, results):
            failed.append(cell)
        if args.board:
            board_report.write(results)
        elif any(results.glob("*.json")):
            report.write(results)
    if failed:
        sys.exit("failed:\n" + "\n".join(" ".join(cell) for cell in failed))


if __name__ == "__main__":
    main()
