"""Every cell of a table, each in a process of its own: what it leaves in memory goes with it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from idaa_transforms._util.files import write_whole

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
EVERY = 10.0  # seconds between two looks at cells that run side by side


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
    aside: bool = False,
) -> bool:
    """Run one cell unless its result is there.

    Args:
        program: a script, or ``-m`` and a module, that leaves ``folder``/result.json.
        arguments: of it.
        folder: of the run; its name is the name of the result.
        results: where results are kept.
        keep: what of a result; all, where it is not said.
        aside: what the run prints goes to ``folder``.out.

    Returns:
        Whether the result is there.
    """
    result = results / f"{folder.name}.json"
    if result.exists():
        print(f"done already: {result.name}")
        return True
    folder.parent.mkdir(parents=True, exist_ok=True)
    with printed(folder).open("w") if aside else nullcontext() as out:
        command = [sys.executable, *program, *arguments]
        done = subprocess.run(command, check=False, stdout=out, stderr=out).returncode == 0
    if done:
        text = (folder / "result.json").read_text()
        write_whole(result, json.dumps(keep(json.loads(text)), indent=1) + "\n" if keep else text)
    return done


def printed(folder: Path) -> Path:
    """The file with what a run in ``folder`` prints, where it runs beside others."""
    return folder.with_name(f"{folder.name}.out")


def progress(folders: Iterable[Path]) -> str:
    """A line for each run: its bar, which says how far it is and how long the rest will take."""
    lines = []
    for folder in folders:
        if printed(folder).exists():
            bars = re.findall(r"[^\r\n]*%\|[^\r\n]*", printed(folder).read_text(errors="replace"))
            lines.append(f"  {folder.name:50s} {bars[-1] if bars else 'starting'}")
    return "\n".join(lines)


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
    others. Where several run at a time, a table of their progress is printed every few seconds.

    Args:
        cells: arguments of ``program``, a list for each cell.
        program, results, keep: see :func:`run_cell`.
        folder: of the run, from the arguments.
        report: writes the table of ``results``, once there is one.
    """
    failed, aside = [], parallel > 1
    with ThreadPoolExecutor(parallel) as pool:
        places = [(cell, Path(folder(cell))) for cell in cells]
        running = {pool.submit(run_cell, program, *place, results, keep, aside): place for place in places}
        left = set(running)
        while left:
            ended, left = wait(left, EVERY if aside else None, FIRST_COMPLETED)
            for future in ended:
                cell, place = running[future]
                if not future.result():
                    failed.append(" ".join(cell) + (f"\n{printed(place).read_text()[-500:]}" if aside else ""))
                if any(results.glob("*.json")):
                    report(results)
            print(f"{len(running) - len(left)} of {len(running)} cells are done", flush=True)
            if aside and left:
                print(progress(running[future][1] for future in left if future.running()), flush=True)
    if failed:
        sys.exit("failed:\n" + "\n".join(failed))
