"""Pictures of a folder, of shards, of parquet or of the Hub, as one kind of data set; none is read before it is needed.

All end as a table of the library ``datasets``, which reads shards, parquet and the Hub. A folder is listed here: the
library's imagefolder takes ``Train`` for a class, drops all classes but one that is called ``train``, follows no links,
finds nothing below a name with a bracket, and lists 2,000 files a second.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from .._util.extras import require
from .decode import FORMATS, one_line, read_picture, shown

HELD_OUT = 20
"""Where there is no test set, every so many-th image becomes one."""
CURE = "; skip_bad=True (--skip-bad) leaves out what cannot be read"
ENDINGS = frozenset(end for end, kind in Image.registered_extensions().items() if kind in FORMATS)
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
"""The words, in any case, by which folders and files are told apart; the same as on the Hub."""

BUILDERS = {".tar": "webdataset", ".parquet": "parquet"}


class Pictures(Dataset[Any]):
    """Rows of a data set with pictures, each as (uint8 (C, H, W), label), decoded when it is asked for and transformed;
    or, not ``labelled``, the image alone.

    Args:
        table: of ``datasets``, with the one column of pictures, not decoded.
        labels: int64 (N,), -1 where there is none.
        name: of the source, for errors.
    """

    channels: int | None = None
    transform: Any = None
    labelled = True

    def __init__(self, table: Any, labels: Tensor, name: str, rows: Tensor | None = None) -> None:
        self.table, self.name, self._labels = table, name, labels
        self.rows = torch.arange(len(labels)) if rows is None else rows

    def only(self, rows: list[int]) -> Pictures:
        """Of these rows."""
        return Pictures(self.table, self._labels, self.name, self.rows[rows])

    @property
    def labels(self) -> Tensor:
        """Of each row, int64 (N,)."""
        return self._labels[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Any:
        file, content = self.raw(i)
        image = read_picture(file, self.channels, content)
        with one_line(file):
            image = self.transform(image) if self.transform else image
        return (image, int(self._labels[self.rows[i]])) if self.labelled else image

    def raw(self, i: int) -> tuple[Path, bytes | None]:
        """The file of picture ``i``, or its place in the data set and its content."""
        row = int(self.rows[i])
        value = next(iter(self.table[row].values()))
        if value is None:
            raise ValueError(f"{self.name}[{row}]: there is no picture")
        if value["bytes"] is None:
            return Path(value["path"]), None
        return Path(f"{self.name}[{row}]" + (f" ({value['path']})" if value["path"] else "")), value["bytes"]

    def fingerprint(self) -> str:
        """Of the number of pictures and, evenly spread, of 256 of them the content and label."""
        digest = hashlib.sha256(str(len(self)).encode())
        for i in range(0, len(self), max(1, len(self) // 256)):
            file, content = self.raw(i)
            with one_line(file):
                digest.update(file.read_bytes() if content is None else content)
            digest.update(str(int(self.labels[i])).encode())
        return digest.hexdigest()


class Told(Dataset[Any]):
    """An item, or the reason why it cannot be read: an exception would bring its worker's traceback along."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, i: int) -> Any:
        try:
            return self.inner[i]
        except ValueError as error:
            return str(error)


def collate(items: list[Any]) -> Any:
    """A batch, or the reason why one of its items cannot be read, as of :class:`Told`."""
    return next((item for item in items if isinstance(item, str)), None) or default_collate(items)


def open_pictures(
    source: str, split: str | None = None, column: str | None = None, revision: str | None = None
) -> tuple[Pictures, Pictures]:
    """The pictures of ``source`` to train on and to test on; none is read yet.

    Args:
        source: a folder of pictures, however nested, of shards (tar files in webdataset's layout) or of parquet; one
            such file; or a data set of the Hub, ``org/name`` or ``org/name/subset``. ``train`` beside ``validation`` or
            ``test`` (and the other words of ``SPLITS``) are told apart. Labels are the folders directly in these, in
            alphabetical order, ``.cls`` in shards, or else the first column of classes.
        split: to use, of which every twentieth picture is then tested on. Default: train; and test, or validation where
            there is no test set or its labels are hidden.
        column: that holds the pictures. Default: the first that does.
        revision: branch, tag or commit on the Hub.

    Raises:
        ValueError: there is no such source; one line.
    """
    train, test, apart = parts_of(source, split, column, revision)
    learn, held = choose(len(train), len(test) if apart else None)
    return train.only(learn), test.only(held)


def choose(
    train: int, test: int | None, only: str | None = None, limit: int | None = None
) -> tuple[list[int], list[int]]:
    """Which rows of the training part to train on, and which to test on: of the test part, or of the training part
    where there is none."""
    everything = range(train if test is None else test)
    held = list(everything[::HELD_OUT] if test is None and only != "all" else everything)
    learn = [] if only else [i for i in range(train) if test is not None or i % HELD_OUT]
    if limit is not None and limit < len(held):
        drawn = torch.randperm(len(held), generator=torch.Generator().manual_seed(0))[:limit]
        held = [held[i] for i in drawn.tolist()]
    return learn, held


def parts_of(
    source: str, split: str | None, column: str | None, revision: str | None
) -> tuple[Pictures, Pictures, bool]:
    """Training part, test part, and whether these are apart."""
    found = _open(source, split, revision)
    parts = {name: _pictures(table, column, source) for name, table in found.items()}
    tests = [parts[name] for name in ("test", "validation") if name in parts]
    first = parts.get("train", next(iter(parts.values())))
    if not tests or "train" not in parts:
        return first, first, False
    labelled = [part for part in tests if len(part.labels) and part.labels.max() >= 0]
    return first, (labelled or tests)[0], True


def _open(source: str, split: str | None, revision: str | None) -> dict[str, Any]:
    """The tables of a source by split: all, or the one that is asked for."""
    require("train", "numpy", "datasets")
    import datasets

    path, options = Path(source).expanduser(), {"split": split, "revision": revision}
    if path.exists():
        files = [path] if path.is_file() else _files(path)
        if pictures := [file for file in files if file.suffix.lower() in ENDINGS]:
            found = _folder(path, pictures)
            if split and split not in found:
                raise ValueError(f"{shown(path)} has no split {split!r}; it has {', '.join(found)}")
            return {name: table for name, table in found.items() if split in (None, name)}
        kind = next((end for end in BUILDERS if any(file.suffix.lower() == end for file in files)), None)
        if kind is None:
            raise ValueError(f"no pictures in {shown(path)}; looked for {', '.join(sorted({*ENDINGS, *BUILDERS}))}")
        named: dict[str, list[str]] = {}
        for file in (file for file in files if file.suffix.lower() == kind):
            named.setdefault(_split_of(file.relative_to(path.parent)), []).append(glob.escape(str(file.absolute())))
        place, options["data_files"], options["revision"] = [BUILDERS[kind]], named, None  # type: ignore[assignment]
    elif "/" in source.strip("/."):
        place = ["/".join(source.split("/")[:2]), *source.split("/")[2:3]]
    else:
        raise ValueError(f"{source!r} is no file or folder; a data set of the Hub is called org/name")
    try:
        loaded = datasets.load_dataset(*place, **options)
    except Exception as error:  # of the Hub, of pyarrow, of tarfile, and so on
        cause = error.__cause__ or error
        reason = " ".join(str(cause).split())[:300] or type(cause).__name__
        here = "cannot be read" if path.exists() else "is no file or folder, and no data set of the Hub that answers"
        raise ValueError(f"{source!r} {here} ({reason})") from error
    return {split: loaded} if split else dict(loaded)


def _files(folder: Path) -> list[Path]:
    """All files below ``folder``, sorted; links are followed, each folder once; what is hidden is left out."""
    seen: set[str] = set()
    files: list[Path] = []
    for place, folders, names in os.walk(folder, followlinks=True):
        known = os.path.realpath(place) in seen
        seen.add(os.path.realpath(place))
        folders[:] = [] if known else [n for n in folders if not n.startswith((".", "__", "@"))]
        files += [] if known else [Path(place, n) for n in names if not n.startswith(".") and Path(place, n).is_file()]
    return sorted(files)


def _folder(folder: Path, pictures: list[Path]) -> dict[str, Any]:
    """Training folders beside validation or test folders, or else all as one; the folders in these are the classes."""
    import datasets

    splits: dict[str, list[tuple[Path, str]]] = {}
    ways = [file.relative_to(folder).parts for file in pictures]
    words = {word: name for name, words in SPLITS.items() for word in words}
    apart = {words[way[0].lower()] for way in ways if len(way) > 1 and way[0].lower() in words}
    apart = apart if "train" in apart and len(apart) > 1 else set()
    for file, way in zip(pictures, ways, strict=True):
        name = words.get(way[0].lower()) if apart else "train"
        if name and len(way) > bool(apart):
            splits.setdefault(name, []).append((file, way[bool(apart)] if len(way) > 1 + bool(apart) else ""))
    classes = sorted({label for _, label in splits["train"]} - {""})
    places = {name: i for i, name in enumerate(classes)}
    features = datasets.Features({"image": datasets.Image(decode=False), "label": datasets.Value("int64")})
    return {
        name: datasets.Dataset.from_dict(
            {"image": [str(f) for f, _ in found], "label": [places.get(label, -1) for _, label in found]}, features
        )
        for name, found in splits.items()
    }


def _split_of(file: Path) -> str:
    """By the words in the name of a shard and of its folders."""
    found = set(re.split(r"[^a-z]+", file.as_posix().lower()))
    return next((name for name in ("validation", "test") if found & set(SPLITS[name])), "train")


def _pictures(table: Any, column: str | None, source: str) -> Pictures:
    import datasets

    kinds = table.features
    column = column or next((name for name, kind in kinds.items() if isinstance(kind, datasets.Image)), None)
    if column not in kinds:
        what = f"no column {column!r}" if column else "no column of pictures"
        raise ValueError(f"{source!r} has {what}; say --column: {', '.join(kinds)}")
    classes = [name for name, kind in kinds.items() if isinstance(kind, datasets.ClassLabel)]
    classes += [n for n in ("label", "cls") if n in kinds and getattr(kinds[n], "dtype", "").startswith("int")]
    labels = table[classes[0]][:] if classes else [-1] * len(table)
    table = table.select_columns([column]).cast_column(column, datasets.Image(decode=False))
    return Pictures(table, torch.tensor([-1 if label is None else label for label in labels]), source)
