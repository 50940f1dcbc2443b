"""``idaa check-data``: what a source holds, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .data import choose, load_images
from .folder import Found
from .pictures import shown
from .reading import Part, keep_readable, survey
from .sources import open_source


def check_data(source: str, root: Path = Path("data"), workers: int = 0, exclude: Iterable[Path] = ()) -> Found:
    """Read all that ``load_images(source)`` would, and say what is there; ``print`` shows it in a few lines.

    Pictures that cannot be read are listed in ``bad``, each with file and reason; nothing stops at one.
    """
    found = Found(shown(Path(source).expanduser()))
    opened = open_source(source, found, root, exclude)
    if opened is None:
        return load_images(source).found or found
    train, test = opened
    learn, held = choose(len(train), None if test is None else len(test))
    parts = Part(train, learn), Part(train if test is None else test, held)
    survey(parts, found, None, skip_bad=True)
    for part in parts:
        keep_readable(part, workers, found)
    found.train, found.test = map(len, parts)
    return found
