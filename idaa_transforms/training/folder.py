"""Which files below a folder are pictures, and what was found there."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .pictures import ENDINGS, shown

_SYSTEM = {"__macosx", "__pycache__", "@eadir", "$recycle.bin", "system volume information", "lost+found", "thumbs.db"}
_OURS = ("checkpoint.pt", "report.json", "model.safetensors")
"""A folder with one of these is the output of a command: weights, a training run, or a report."""
_OUR_PICTURES = {"progress.png", "samples.png", "views.png", "curves.png", "bound.png"}


@dataclass
class Found:
    """What a source holds, in a few lines: ``print(found)``."""

    name: str
    train: int = 0
    test: int = 0
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    """(height, width) as stored, of what was looked at."""
    modes: Counter[str] = field(default_factory=Counter)
    """Pillow's names of pixels (RGB, L, I;16), or numpy's of an array's."""
    channels: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    skipped: list[tuple[Path, str]] = field(default_factory=list)
    """What is no picture, and why."""
    bad: list[str] = field(default_factory=list)
    """Pictures that cannot be read: file and reason."""

    def __str__(self) -> str:
        sizes = Counter({f"{h}x{w}": count for (h, w), count in self.sizes.items()})
        left_out = Counter(reason for _, reason in self.skipped)
        rows = {
            "images": f"{self.train:,} to train on, {self.test:,} to test on",
            "sizes": _most(sizes),
            "pixels": _most(self.modes),
            "channels": str(self.channels or ""),
            "classes": _most(self.classes),
            "left out": ", ".join(f"{count:,} {reason}" for reason, count in left_out.most_common()),
            "unreadable": f"{len(self.bad):,}" if self.bad else "",
        }
        lines = [f"{name:10} {value}" for name, value in rows.items() if value]
        return "\n".join([self.name, *lines, *(f"  {line}" for line in self.bad)])


def _most(counts: Counter[str], many: int = 6) -> str:
    shown = [f"{name} ({count:,})" for name, count in counts.most_common(many)]
    return ", ".join(shown) + (f" and {len(counts) - many:,} others" if len(counts) > many else "")


def find_pictures(folder: Path, found: Found, exclude: Iterable[Path] = ()) -> list[Path]:
    """The pictures in ``folder`` and in all folders below, sorted.

    Links are followed, each folder is read once, and none that ``folder`` itself is in. What is left out goes to
    ``found.skipped``: what is hidden or the system's, what is no file, files with other endings, folders that are the
    output of a command of ours, and those in ``exclude``. Folders that may not be opened go to ``found.bad``.
    """
    outputs = {Path(path).resolve() for path in exclude}
    seen = {_identity(parent) for parent in folder.resolve().parents}
    files: list[Path] = []
    folders, links = [folder], deque[Path]()
    while folders or links:  # links last: a folder's own place goes before a link to it
        place = folders.pop() if folders else links.popleft()
        try:
            identity, entries = _identity(place), sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError as error:
            found.bad.append(f"{shown(place)}: {error.strerror}")
            continue
        names = {entry.name for entry in entries}
        ours = not names.isdisjoint(_OURS)
        if place.resolve() in outputs or (ours and place != folder):
            found.skipped.append((place, "output of a command"))
            continue
        if identity in seen:
            found.skipped.append((place, "link to a folder that is read anyway"))
            continue
        seen.add(identity)
        for entry in entries:
            path = Path(entry.path)
            if reason := _no_picture(entry, ours):
                found.skipped.append((path, reason))
            elif not entry.is_dir():
                files.append(path)
            elif entry.is_symlink():
                links.append(path)
            else:
                folders.append(path)
    return sorted(files)


def _no_picture(entry: os.DirEntry[str], ours: bool) -> str:
    """Why this is neither a picture nor a folder to look into; "" if it is."""
    if entry.name.startswith("."):
        return "hidden"
    if entry.name.lower() in _SYSTEM:
        return "of the system"
    try:
        if entry.is_dir():
            return ""
        is_file = entry.is_file()
    except OSError:  # links in a circle
        is_file = False
    ending = os.path.splitext(entry.name)[1].lower()
    if ending not in ENDINGS:
        return f"with the ending {ending!r}"
    if not is_file:
        return "with a picture's name that are no files"
    return "output of a command" if ours and entry.name in _OUR_PICTURES else ""


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def split_folder(folder: Path, found: Found, exclude: Iterable[Path]) -> list[tuple[Path, list[Path]]]:
    """The folders ``train`` and ``test`` (or ``val``) in ``folder``, or ``folder`` itself, each with its pictures."""
    exclude = list(exclude)
    tests = [folder / name for name in ("test", "val") if (folder / name).is_dir()]
    if not tests or not (folder / "train").is_dir():
        parts = [folder]
    else:
        parts = [folder / "train", tests[0]]
        found.skipped += [(path, "beside train and test") for path in sorted(folder.iterdir()) if path not in parts]
    pictures = [(part, find_pictures(part, found, exclude)) for part in parts]
    for part, files in pictures:
        if not files and not found.bad:
            left_out = Counter(reason for _, reason in found.skipped).most_common(3)
            skipped = "".join(f", {count:,} left out {reason}" for reason, count in left_out)
            raise ValueError(f"no pictures in {shown(part)}; looked for {', '.join(ENDINGS)}{skipped}")
    return pictures


def class_names(folder: Path, files: list[Path]) -> list[str]:
    """Of each picture, the folder directly in ``folder`` that it is from; "" if it is from none."""
    parts = [file.relative_to(folder).parts for file in files]
    return [part[0] if len(part) > 1 else "" for part in parts]
