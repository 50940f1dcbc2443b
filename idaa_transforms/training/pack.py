"""``idaa pack``: pictures, wherever they come from, into shards; and an index for shards that are there."""

from __future__ import annotations

import io
import itertools
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .._util.extras import require
from .arrays import read_arrays
from .data import choose
from .folder import Found
from .pictures import eight_bits, one_line, read_header, shown
from .reading import Files, Named
from .shards import has_shards, write_index
from .sources import open_source

PER_SHARD = 1000  # some 100 MB of photographs


class _Item(NamedTuple):
    content: bytes
    ending: str
    label: int


class _Arrays:
    """Images of an .npz; they become PNG, which loses nothing."""

    def __init__(self, images: Any, labels: Any) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def item(self, i: int) -> _Item:
        label = -1 if self.labels is None else int(self.labels[i])
        return _Item(_png(eight_bits(self.images[i])), ".png", label)


class _Pictures:
    """Files as they are, not decoded and encoded again; pictures of torchvision as PNG."""

    def __init__(self, source: Files | Named) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def item(self, i: int) -> _Item:
        if isinstance(self.source, Files):
            file = self.source.files[i]
            with one_line(file):
                content = file.read_bytes()
            read_header(file, content)  # what is no picture is not packed
            return _Item(content, file.suffix.lower(), self.source.labels[i])
        pixels, label = self.source.read(i, None)
        return _Item(_png(pixels.permute(1, 2, 0).numpy()), ".png", label)


def _png(values: Any) -> bytes:
    from PIL import Image

    values = values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values
    if values.ndim == 3 and values.shape[2] != 3:
        raise ValueError(f"shards hold pictures of one channel or three, and these have {values.shape[2]}")
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "PNG")
    return stream.getvalue()


def pack(
    source: str,
    out: Path | None,
    root: Path = Path("data"),
    per_shard: int = PER_SHARD,
    skip_bad: bool = False,
    seed: int = 0,
) -> str:
    """Write the pictures of ``source`` to shards in ``out``; or the index of shards that ``source`` is a folder of.

    Pictures are shuffled first, so that each shard has some of each class. An ``.npz`` becomes PNGs, and files stay as
    they are.

    Args:
        source: as for :func:`.data.load_images`.
        out: a folder that is new or empty. None: ``source`` has shards, and only their index is made.
        root: of torchvision datasets.
        per_shard: pictures in each.
        skip_bad: leave out pictures that cannot be read.
        seed: of the order.

    Returns:
        What was done, in a few lines.

    Raises:
        ValueError: ``out`` holds something, or a picture cannot be read; one line with the file and the reason.
    """
    require("train", "numpy", "tqdm")
    folder = Path(source).expanduser()
    if out is None:
        if not folder.is_dir():
            raise ValueError(f"{source!r} is no folder of shards; say also where its pictures shall go")
        bad = write_index(folder, skip_bad=skip_bad)
        return "\n".join([f"{shown(folder)}: the index is written", *bad])
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{shown(out)} is there and not empty, and nothing is overwritten; say another folder")
    if folder.is_dir() and has_shards(folder):
        raise ValueError(f"{source!r} has shards; `idaa pack {source}` makes their index")
    parts, classes = _parts(source, root, out, skip_bad)
    left_out: list[str] = []
    lines = []
    for name, (items, rows) in parts.items():
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
        packed = _kept(items, [rows[i] for i in order], skip_bad, left_out)
        shards, pictures = _write(packed, out, name, per_shard)
        lines.append(f"{name:5} {pictures:,} pictures in {shards:,} shards")
    write_index(out, classes)  # last: what has no index is not whole
    return "\n".join([shown(out), *lines, *(f"left out: {reason}" for reason in left_out)])


def _parts(
    source: str, root: Path, out: Path, skip_bad: bool
) -> tuple[dict[str, tuple[_Arrays | _Pictures, Sequence[int]]], list[str]]:
    """Of each part its pictures and which of them; and the names of the classes."""
    found = Found(source)
    opened = open_source(source, found, root, [out])
    if found.bad and not skip_bad:
        raise ValueError(found.bad[0])
    parts: list[_Arrays | _Pictures]
    if opened is None:
        arrays = read_arrays(Path(source).expanduser())
        names = [name for name in ("train", "test") if f"x_{name}" in arrays]
        parts = [_Arrays(arrays[f"x_{name}"], arrays.get(f"y_{name}")) for name in names]
    else:
        parts = [_Pictures(part) for part in opened if part is not None]  # type: ignore[arg-type]
    if len(parts) == 2:
        chosen = [range(len(part)) for part in parts]
        return dict(zip(("train", "test"), zip(parts, chosen, strict=True), strict=True)), sorted(found.classes)
    learn, held = choose(len(parts[0]), None)
    return {"train": (parts[0], learn), "test": (parts[0], held)}, sorted(found.classes)


def _kept(items: _Arrays | _Pictures, rows: list[int], skip_bad: bool, left_out: list[str]) -> Iterator[_Item]:
    from tqdm import tqdm

    for row in tqdm(rows, desc="packing", unit="img", leave=False, delay=1):
        try:
            yield items.item(row)
        except ValueError as error:
            if not skip_bad:
                raise ValueError(f"{error}; --skip-bad leaves out what cannot be read") from error
            left_out.append(str(error))


def _write(items: Iterator[_Item], out: Path, name: str, per_shard: int) -> tuple[int, int]:
    """Returns the number of shards and of pictures."""
    out.mkdir(parents=True, exist_ok=True)
    shards = pictures = 0
    while batch := list(itertools.islice(items, per_shard)):
        with tarfile.open(out / f"{name}-{shards:06}.tar", "w", format=tarfile.GNU_FORMAT) as archive:
            for i, item in enumerate(batch, pictures):
                _add(archive, f"{i:09}{item.ending}", item.content)
                if item.label >= 0:
                    _add(archive, f"{i:09}.cls", str(item.label).encode())
        shards, pictures = shards + 1, pictures + len(batch)
    return shards, pictures


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # without a date: the same pictures make the same file
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
