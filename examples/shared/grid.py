"""Every cell of a table, each in a process of its own: what it leaves in memory goes with it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def own_and_rest(words: list[str]) -> tuple[list[str], list[str]]:
    """What stands before and behind ``--`` on a command line."""
    cut = words.index("--") if "--" in words else len(words)
    return words[:cut], words[cut + 1 :]


def run_cell(
    program: list[str],
    arguments: list[str],
    folder: Path,
    results: Path,
    keep: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> bool:
    """Run one cell unless its result is there.

    Args:
        program: a script, or ``-m`` and a module, that leaves ``folder``/result.json.
        arguments: of it.
        folder: of the run; its name is the name of the result.
        results: where results are kept.
        keep: what of a result; all, where it is not said.

    Returns:
        Whether the result is there.
    """
    result = results / f"{folder.name}.json"
    if result.exists():
        print(f"done already: {result.name}")
        return True
    done = subprocess.run([sys.executable, *program, *arguments], check=False).returncode == 0
    if done:
        results.mkdir(parents=True, exist_ok=True)
        text = (folder / "result.json").read_text()
        result.write_text(json.dumps(keep(json.loads(text)), indent=1) + "\n" if keep else text)
    return done


def run_grid(
    cells: Iterable[list[str]],
    program: list[str],
    folder: Callable[[list[str]], str],
    results: Path,
    report: Callable[[Path], object],
    keep: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    parallel: int = 1,
) -> None:
    """Run the cells, so many at a time, and report after each. One that fails is named in the end and does not stop the
    others.

    Args:
        cells: arguments of ``program``, a list for each cell.
        program, results, keep: see :func:`run_cell`.
        folder: of the run, from the arguments.
        report: writes the table of ``results``, once there is one.
    """
    failed = []
    with ThreadPoolExecutor(parallel) as pool:
        running = {pool.submit(run_cell, program, cell, Path(folder(cell)), results, keep): cell for cell in cells}
        for done, future in enumerate(as_completed(running), 1):
            if not future.result():
                failed.append(running[future])
            print(f"{done} of {len(running)} cells are done: {Path(folder(running[future])).name}", flush=True)
            if any(results.glob("*.json")):
                report(results)
    if failed:
        sys.exit("failed:\n" + "\n".join(" ".join(cell) for cell in failed))
