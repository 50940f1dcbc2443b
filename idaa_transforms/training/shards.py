"""Pictures in shards: tar files of some thousand pictures each, for sets that are too large for a folder.

The layout is webdataset's: of members whose names agree up to the first dot, ``00012.jpg`` is a picture and
``00012.cls`` its label, a whole number. ``idaa pack`` makes such files, and others' are read as well.

An index beside the shards says where in them each picture lies. With it a shard is read anywhere, as a folder is, so
that the order of an epoch is any order, a run goes on in the middle of one without reading what lies before, and all
processes agree on what a batch holds, however many they are. A stream of tars has none of this.
"""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .._util.files import write_whole
from .pictures import ENDINGS, Header, check_file, one_line, read_header, read_picture, shown

INDEX = "index.safetensors"
_AGAIN = f"run `idaa pack` on the folder again, which makes a new {INDEX}"
_FIELDS = ("shard", "offset", "size", "label", "height", "width", "channels")
_BLOCK = 512  # of tar


class Shards:
    """Pictures in shards and their labels, as :class:`.reading.Files` is of files.

    Args:
        folder: of the shards.
        names: of the shards, below ``folder``.
        samples: int64 (N, 7): where each picture is, and what; ``_FIELDS`` has the names of the columns.
    """

    def __init__(self, folder: Path, names: list[str], samples: Tensor) -> None:
        self.folder, self.names, self.samples = folder, names, samples
        self.labels = samples[:, 3].tolist()

    def __len__(self) -> int:
        return len(self.samples)

    def shard(self, rows: list[int]) -> Tensor:
        """The number of the shard that each of these pictures is in, int64 (N,)."""
        return self.samples[rows, 0]

    def header(self, i: int) -> Header:
        """What picture ``i`` is."""
        *_, height, width, channels = self.samples[i].tolist()
        return Header((height, width), {1: "L", 3: "RGB"}.get(channels, f"{channels} channels"), channels)

    def read(self, i: int, channels: int | None) -> tuple[Tensor, int]:
        """Picture ``i``, uint8 (C, H, W), and its label."""
        shard, offset, size, label, *_ = self.samples[i].tolist()
        file = self.folder / self.names[shard]
        with one_line(file), file.open("rb") as opened:
            opened.seek(offset)
            content = opened.read(size)
            if len(content) < size:
                raise ValueError(f"is cut off: it ends before byte {offset + size:,}; copy it again")
        return read_picture(Path(f"{file}[{i}]"), channels, content), label

    def lines(self, rows: list[int]) -> Iterator[str]:
        """What tells these pictures from others, for a fingerprint of the data."""
        for shard, offset, size, label, *_ in self.samples[rows].tolist():
            yield f"{self.names[shard]} {offset} {size} {label}"


def has_shards(folder: Path) -> bool:
    """Whether pictures in ``folder`` are in shards."""
    return (folder / INDEX).is_file() or any(folder.glob("*.tar"))


def open_shards(folder: Path) -> tuple[Shards, Shards | None, list[str]]:
    """The shards of a folder to train on; those to test on, which have "val" or "test" in their names or folders, if
    there are any; and the names of the classes, in the order of their labels, if the index has them.

    Raises:
        ValueError: there is no index, or a shard is not as it says; one line with the file.
    """
    index = folder / INDEX
    with one_line(index):
        if not index.is_file():
            raise ValueError(f"there is no such file beside the shards; make it: idaa pack {shown(folder)}")
        try:
            with safe_open(index, "pt") as opened:
                samples, about = opened.get_tensor("samples"), json.loads(opened.metadata()["about"])
            names, sizes, classes = about["names"], about["sizes"], about["classes"]
        except (SafetensorError, KeyError, TypeError) as error:
            raise ValueError(f"is damaged or of another program ({error}); {_AGAIN}") from error
    for name, size in zip(names, sizes, strict=True):
        _check_size(folder / name, size)
    testing = torch.tensor([_is_for_testing(name) for name in names])[samples[:, 0]]
    parts = [Shards(folder, names, samples[rows]) for rows in (~testing, testing)]
    if not len(parts[0]):  # all are for testing: then there is nothing to tell apart
        return parts[1], None, classes
    return parts[0], parts[1] if len(parts[1]) else None, classes


def _is_for_testing(name: str) -> bool:
    return bool(re.search(r"(?<![a-z])(val|valid|validation|test)(?![a-z])", name.lower()))


def _check_size(file: Path, size: int) -> None:
    with one_line(file):
        check_file(file)
        there = file.stat().st_size
        if there < size:
            raise ValueError(f"is cut off: {there:,} bytes of {size:,} are there; copy it again")
        if there > size:
            raise ValueError(f"has {there:,} bytes, and {INDEX} knows of {size:,}: it is another file; {_AGAIN}")


def write_index(folder: Path, classes: Iterable[str] = (), skip_bad: bool = False) -> list[str]:
    """Look through all shards in ``folder`` and below, and write where each picture lies, and what it is.

    Args:
        classes: names, in the order of the labels.
        skip_bad: leave out pictures that cannot be read.

    Returns:
        What was left out, a line each.

    Raises:
        ValueError: there is no shard, or one is cut off, empty, or holds what cannot be read; one line with the file.
    """
    from tqdm import tqdm

    files = sorted(file for file in folder.rglob("*.tar") if not file.name.startswith("."))
    if not files:
        raise ValueError(
            f"{shown(folder)}: there are no shards (*.tar) in it; compressed ones are to be unpacked first"
        )
    rows: list[tuple[int, ...]] = []
    bad: list[str] = []
    for number, file in enumerate(tqdm(files, desc="looking at shards", leave=False, delay=1)):
        with one_line(file):
            check_file(file)
            members = list(_members(file))
        before = len(rows)
        for member in members:
            try:
                rows.append((number, *_look_at(file, member)))
            except ValueError as error:
                bad.append(str(error))
                if not skip_bad:
                    raise ValueError(f"{error}; --skip-bad leaves out what cannot be read") from error
        if len(rows) == before:
            raise ValueError(f"{shown(file)}: holds no pictures that can be read; remove it")
    about = {
        "names": [file.relative_to(folder).as_posix() for file in files],
        "sizes": [file.stat().st_size for file in files],
        "classes": list(classes),
    }
    write_whole(folder / INDEX, save({"samples": torch.tensor(rows)}, {"about": json.dumps(about)}))
    return bad


class _Member(NamedTuple):
    name: str
    offset: int
    size: int
    label: int


def _members(file: Path) -> Iterator[_Member]:
    """Pictures of one shard, in the order in which they lie there."""
    pictures: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, int] = {}
    end = 0
    try:
        with tarfile.open(file, "r:") as archive:
            for member in archive:
                end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
                folder, _, name = member.name.rpartition("/")
                key, _, ending = name.partition(".")
                if not member.isfile() or not key:
                    continue
                if f".{ending.lower()}" in ENDINGS:
                    pictures[f"{folder}/{key}"] = member
                elif ending == "cls":
                    labels[f"{folder}/{key}"] = _label(member.name, archive.extractfile(member))
    except tarfile.TarError as error:
        raise ValueError(f"is cut off, damaged or no tar file ({error}); copy it again") from error
    with file.open("rb") as opened:
        opened.seek(end)
        if opened.read(_BLOCK) != bytes(_BLOCK):
            raise ValueError("is cut off: the mark at the end of a tar file is missing; copy it again")
    for key, member in pictures.items():
        yield _Member(member.name, member.offset_data, member.size, labels.get(key, -1))


def _label(name: str, content: Any) -> int:
    text = content.read(32)
    try:
        return int(text)
    except ValueError as error:
        raise ValueError(f"{name} holds {text!r}, which is no whole number") from error


def _look_at(file: Path, member: _Member) -> tuple[int, ...]:
    with file.open("rb") as opened:
        opened.seek(member.offset)
        header = read_header(Path(f"{file}[{member.name}]"), opened.read(member.size))
    return member.offset, member.size, member.label, *header.size, header.channels
