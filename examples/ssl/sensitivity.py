"""The paper's Figures 5 and 6: what accuracy depends on, one setting at a time.

    python examples/ssl/sensitivity.py --figure batch --scale small --seeds 0 1    # half a minute a run on one core
    python examples/ssl/sensitivity.py --figure beta                               # the paper's scale, on a GPU
    python examples/ssl/sensitivity.py --figure depth --list                       # the commands alone

SimCLR on CIFAR-10 with every view at every value, all else as usual; figures.py has the values. Beta and z need a VAE
for each value, which is trained first. What is done is not done again, and what was interrupted goes on. The JSONs, a
table and the figures are in benchmarks/results/sensitivity.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

import sensitivity_report
from figures import AXES, OF_VAE, SCALES, VIEWS, cells, vae

from examples.shared.grid import RESULTS, run_grid
from examples.shared.images import HUB

HERE = Path(__file__).parent


def vaes(scale: str, axis: str) -> list[tuple[Path, list[str]]]:
    """Folders of the VAEs that an axis needs, and the commands that train them."""
    file = Path("data/cifar10.npz")
    start = [
        sys.executable,
        "-m",
        "idaa_transforms.cli",
        "train-vae",
        str(file) if file.exists() else HUB["cifar10"],
    ]
    wanted = [vae(scale, axis, value) for value in SCALES[scale].values[axis]] if axis in OF_VAE else []
    return [(Path(folder), [*start, *options]) for folder, options in wanted]


def main() -> None:
    """Train VAEs and networks, report after each; a run that fails is named and does not stop the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figure", choices=AXES, required=True)
    parser.add_argument("--scale", choices=SCALES, default="paper")
    parser.add_argument("--views", nargs="+", choices=[*VIEWS, "idaa"], default=VIEWS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--results", type=Path, default=RESULTS / "sensitivity")
    parser.add_argument("--list", action="store_true", help="print the commands and run none")
    args = parser.parse_args()
    here = HERE.relative_to(Path.cwd()) if HERE.is_relative_to(Path.cwd()) else HERE
    program, first = [str(here / "train.py")], vaes(args.scale, args.figure)
    grid = [cell.run(seed) for seed in args.seeds for cell in cells(args.scale, args.figure, args.views)]
    if args.list:
        commands = [*(command for _, command in first), *([sys.executable, *program, *options] for options in grid)]
        print("\n".join(shlex.join(["python", *command[1:]]) for command in commands))
        return
    for folder, command in first:
        if (folder / "model.safetensors").exists():
            continue
        if subprocess.run(command, check=False).returncode not in (0, 3):  # 3: weights that explain little
            sys.exit(f"failed: {shlex.join(command)}")
    run_grid(grid, program, lambda options: options[-1], args.results, sensitivity_report.write)


if __name__ == "__main__":
    main()
