"""Table and plots from the JSONs of runs."""

from __future__ import annotations

from pathlib import Path


def write(results: Path) -> None:
    """Nothing yet: the JSONs are what counts."""
