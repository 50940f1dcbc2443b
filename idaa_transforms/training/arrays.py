"""Images as arrays, in an .npz or an .npy: checked by their headers before anything is read, and never unpickled."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._util.extras import require
from .pictures import check_file, eight_bits, one_line

NAMES = ("x_train", "y_train", "x_test", "y_test")
_CHUNK = 1000


def read_arrays(file: Path, training: bool = True) -> dict[str, Any]:
    """What of x_train, y_train, x_test and y_test an .npz holds, as numpy arrays; an .npy is its x_train.

    x are (N, H, W) or (N, H, W, C), of a type that :func:`idaa_transforms.training.pictures.eight_bits` takes; y are
    whole numbers (N,) or (N, 1). The file's content decides which of the two it is, not its name.

    Args:
        training: read all of them. Else the test images alone, or x_train where there are none.

    Raises:
        ValueError: the file is missing, damaged, or holds something else; one line with the file and the reason.
    """
    require("train", "numpy")
    import numpy as np

    with one_line(file):
        start = check_file(file)
        if start.startswith(b"\x93NUMPY"):
            _check_images("it", *_header_of_npy(file))
            return {"x_train": np.load(file, mmap_mode="r", allow_pickle=False)}
        if not start.startswith(b"PK"):
            raise ValueError(f"is neither an .npz nor an .npy; it starts with {start[:8]!r}")
        headers = _headers_of_npz(file)
        _check(headers, training)
        parts = ("train", "test") if training else (("test",) if "x_test" in headers else ("train",))
        with np.load(file, allow_pickle=False) as opened:
            found = {name: opened[name] for name in NAMES if name in headers and name[2:] in parts}
        return {name: _labels(name, found[name]) if name[0] == "y" else found[name] for name in found}


def as_images(array: Any, rows: list[int], transform: Callable[[Tensor], Tensor]) -> Tensor:
    """These rows of (N, H, W) or (N, H, W, C) as uint8 (N, C, H, W), transformed in chunks."""
    array, images = array[..., None] if array.ndim == 3 else array, []
    for i in range(0, max(1, len(rows)), _CHUNK):
        chunk = eight_bits(array[rows[i : i + _CHUNK]])
        images.append(transform(torch.from_numpy(chunk).permute(0, 3, 1, 2).contiguous()))
    return torch.cat(images)


def _header(stream: Any) -> tuple[tuple[int, ...], Any]:
    """Shape and type of the array that starts here; the stream is then at its first value."""
    from numpy.lib import format

    read = {(1, 0): format.read_array_header_1_0, (2, 0): format.read_array_header_2_0}
    version = format.read_magic(stream)
    if version not in read:
        raise ValueError(f"is in version {version} of the format, which is for names of fields, not for images")
    shape, _, dtype = read[version](stream)
    return shape, dtype


def _header_of_npy(file: Path) -> tuple[tuple[int, ...], Any]:
    with file.open("rb") as stream:
        shape, dtype = _header(stream)
        _whole(shape, dtype, file.stat().st_size - stream.tell())
    return shape, dtype


def _headers_of_npz(file: Path) -> dict[str, tuple[tuple[int, ...], Any]]:
    headers = {}
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if name in NAMES:
                    with archive.open(member) as stream:
                        headers[name] = _header(stream)
                        _whole(*headers[name], member.file_size - stream.tell())
            names = archive.namelist()
    except zipfile.BadZipFile as error:
        raise ValueError(f"is cut off or damaged ({error})") from error
    if not {"x_train", "x_test"} & set(headers):
        raise ValueError(f"has no x_train and no x_test; it holds {', '.join(names)[:200] or 'nothing'}")
    return headers


def _whole(shape: tuple[int, ...], dtype: Any, there: int) -> None:
    if dtype.hasobject:
        raise ValueError("holds Python objects, which are never unpickled here; save numbers, as uint8")
    size = dtype.itemsize
    for length in shape:
        size *= length
    if size > there:
        raise ValueError(f"is cut off: {there:,} bytes of {size:,} are there")


def _check(headers: dict[str, tuple[tuple[int, ...], Any]], training: bool) -> None:
    """Whether the parts are what they should be and fit together."""
    if training and "x_train" not in headers:
        raise ValueError("has no x_train to train on; it needs x_train and, for a test set of its own, x_test")
    sizes = {}
    for part in ("train", "test"):
        if f"x_{part}" in headers and (training or part == "test" or "x_test" not in headers):
            shape, dtype = headers[f"x_{part}"]
            if part == "test" and shape[:1] == (0,):
                raise ValueError("x_test holds no images; leave it out, and every twentieth of x_train is held out")
            sizes[part] = _check_images(f"x_{part}", shape, dtype)
            if f"y_{part}" in headers:
                _check_labels(f"y_{part}", *headers[f"y_{part}"], shape[0])
    if len(sizes) == 2 and sizes["train"] != sizes["test"]:
        one, two = ("x".join(map(str, sizes[part])) for part in ("train", "test"))
        raise ValueError(f"x_train has images of {one} and x_test of {two} (height, width, channels); make them alike")


def _check_images(name: str, shape: tuple[int, ...], dtype: Any) -> tuple[int, ...]:
    """Height, width and channels."""
    import numpy as np

    if len(shape) not in (3, 4):
        raise ValueError(f"{name} has the shape {shape}, not (N, H, W) or (N, H, W, C)")
    if len(shape) == 3 and shape[2] <= 4 < min(shape[:2]):
        raise ValueError(f"{name} has the shape {shape}, one picture with channels; stack pictures to (N, H, W, C)")
    if 0 in shape:
        raise ValueError(f"{name} has the shape {shape} and holds no images")
    if dtype.kind not in "uf?b" or (dtype.kind == "u" and dtype.itemsize > 2) or dtype == np.int8:
        raise ValueError(f"{name} holds {dtype}; uint8, uint16 and floats in [0, 1] are read")
    height, width, channels = (*shape[1:], 1)[:3]
    if channels > height != width:
        order = "x.transpose(0, 2, 3, 1)"
        raise ValueError(f"{name} has the shape {shape}, like (N, C, H, W); save {order}, which is (N, H, W, C)")
    return height, width, channels


def _check_labels(name: str, shape: tuple[int, ...], dtype: Any, images: int) -> None:
    if dtype.kind not in "iu" or shape[1:] not in ((), (1,)):
        raise ValueError(f"{name} holds {dtype} of shape {shape}, not whole numbers (N,), one an image")
    if shape[0] != images:
        raise ValueError(f"{name} has {shape[0]} labels for {images} images")


def _labels(name: str, values: Any) -> Any:
    import numpy as np

    values = values.reshape(-1)
    if values.size and values.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name} holds {values.max()}, which no int64 can")
    return values.astype(np.int64)
