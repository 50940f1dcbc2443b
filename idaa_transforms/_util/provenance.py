"""Where a number comes from: the command, commit, machine and date of a run."""

from __future__ import annotations

import datetime
import os
import platform
import shlex
import subprocess
import sys
from functools import partial
from pathlib import Path

import torch

from .._version import __version__


def provenance() -> dict[str, str]:
    """Command, commit (or release), machine, versions and date of this process, as strings.

    Of absolute paths, and of those in the home folder or above the working one, the command has the last part only:
    the rest is nobody else's.
    """
    program, *arguments = map(_without_place, sys.argv)
    spec = getattr(sys.modules["__main__"], "__spec__", None)  # of what `python -m` runs
    start = ["python", "-m", spec.name] if spec and spec.origin == sys.argv[0] else ["python", program]
    if Path(program).name in ("idaa", "cli.py", "__main__.py"):
        start = ["idaa"]
    return {
        "command": shlex.join([*start, *arguments]),
        "commit": _commit(),
        "machine": _machine(),
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }


def _without_place(argument: str) -> str:
    option, equals, value = argument.partition("=") if argument.startswith("-") else ("", "", argument)
    local = Path(value).is_absolute() or value.startswith(("~", ".."))
    return f"{option}{equals}{Path(value).name if local else value}"


def _commit(root: Path = Path(__file__).parents[2]) -> str:
    """The commit of the code; ``-dirty`` where tracked files differ from it, other than results of earlier runs."""
    if not (root / ".git").exists():
        return f"release {__version__}"
    git = partial(subprocess.run, cwd=root, capture_output=True, encoding="utf-8", errors="replace", check=False)
    status = ["git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)benchmarks/results"]
    try:
        commit, changed = git(["git", "rev-parse", "--short", "HEAD"]).stdout.strip(), git(status)
    except OSError:  # no git here
        return f"release {__version__}"
    return commit + ("-dirty" if changed.stdout.strip() else "") if commit else f"release {__version__}"


def _machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text("utf-8", errors="replace").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        cpu = names[0] if names else cpu
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{cpu}, {cores} cores, {gpu}"
