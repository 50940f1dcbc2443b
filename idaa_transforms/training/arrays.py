"""Read images and signals from .npz and .npy files, without unpickling."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from .._util.extras import require
from .decode import one_line

NAMES = ("x_train", "y_train", "x_test", "y_test")
Layout = Literal["ncl", "nlc"]


def read_arrays(file: Path, layout: Layout | None = None) -> dict[str, Any]:
    """What of x_train, y_train, x_test and y_test an .npz holds; an .npy is its x_train.

    Args:
        file: its content decides which of the two it is, not its name.
        layout: None for images (N, H, W) or (N, H, W, C), which come back as numpy arrays, see :func:`as_images`. Of
            signals the order of the axes, ``"ncl"`` or ``"nlc"``; these come back as float32 tensors (N, C, L).

    Returns:
        x as said, y as int64 tensors (N,).

    Raises:
        ValueError: the file is missing, damaged, or holds something else; one line with the file and the reason.
    """
    require("train", "numpy")
    if layout not in (None, "ncl", "nlc"):
        raise ValueError(f"layout={layout!r} is neither 'ncl', channels before time, nor 'nlc'")
    with one_line(file):
        found = _load(file)
        for name, array in found.items():
            if name[0] == "x":
                found[name] = _checked_images(name, array) if layout is None else _signals(name, array, layout)
        shapes = {name: tuple(found[name].shape[1:]) for name in ("x_train", "x_test") if name in found}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"x_train and x_test differ in size or channels: {shapes}; make them alike")
        for name in ("y_train", "y_test"):
            if name in found:
                found[name] = _labels(name, found[name], len(found[f"x{name[1:]}"]))
        return found


def as_images(array: Any, rows: list[int]) -> Tensor:
    """These rows of (N, H, W) or (N, H, W, C) as uint8 (N, C, H, W): 16 bits divided by 257, floats in [0, 1] and
    booleans times 255."""
    import numpy as np

    chosen = array[rows]
    if chosen.dtype == np.uint16:
        chosen = ((chosen.astype(np.uint32) + 128) // 257).astype(np.uint8)
    elif chosen.dtype.kind == "b":
        chosen = chosen.astype(np.uint8) * 255
    elif chosen.dtype.kind == "f":
        if chosen.size and not (chosen.min() >= 0 and chosen.max() <= 1):  # a NaN is neither
            raise ValueError(f"floats from {chosen.min():g} to {chosen.max():g}; only those in [0, 1] are read")
        chosen = np.rint(chosen * 255).astype(np.uint8)
    chosen = chosen[..., None] if chosen.ndim == 3 else chosen
    return torch.from_numpy(chosen).permute(0, 3, 1, 2).contiguous()


def _load(file: Path) -> dict[str, Any]:
    import numpy as np

    if not file.is_file():
        raise ValueError("there is no such file" if not file.exists() else "is no file")
    with file.open("rb") as stream:
        start = stream.read(32)
    if start.startswith(b"version https://git-lfs"):
        raise ValueError("is a Git LFS pointer, not the file itself; run: git lfs pull")
    if not start.startswith((b"\x93NUMPY", b"PK")):
        raise ValueError(f"is neither an .npz nor an .npy; it starts with {start[:8]!r}")
    try:
        if start.startswith(b"\x93NUMPY"):
            return {"x_train": np.load(file, mmap_mode="r", allow_pickle=False)}
        with np.load(file, allow_pickle=False) as opened:
            found, names = {name: opened[name] for name in NAMES if name in opened.files}, opened.files
    except zipfile.BadZipFile as error:
        raise ValueError(f"is cut off or damaged ({error})") from error
    if not {"x_train", "x_test"} & set(found):
        raise ValueError(f"has no x_train and no x_test; it holds {', '.join(names)[:200] or 'nothing'}")
    if "x_test" in found and not len(found.get("x_train", [0])):  # for judging only
        del found["x_train"]
    return {name: array for name, array in found.items() if f"x{name[1:]}" in found}


def _checked_images(name: str, array: Any) -> Any:
    shape, kind = array.shape, array.dtype.str[1:]
    if len(shape) not in (3, 4) or (len(shape) == 3 and shape[2] <= 4 < min(shape[:2])):
        raise ValueError(f"{name} has the shape {shape}, not (N, H, W) or (N, H, W, C)")
    if 0 in shape:
        raise ValueError(f"{name} has the shape {shape} and holds no images; leave it out")
    if kind not in ("u1", "u2", "b1", "f2", "f4", "f8"):
        raise ValueError(f"{name} holds {array.dtype}; uint8, uint16 and floats in [0, 1] are read")
    height, width, channels = (*shape[1:], 1)[:3]
    if channels > height != width:
        order = "x.transpose(0, 2, 3, 1)"
        raise ValueError(f"{name} has the shape {shape}, like (N, C, H, W); save {order}, which is (N, H, W, C)")
    return array


def _signals(name: str, array: Any, layout: Layout) -> Tensor:
    if array.ndim != 3 or array.dtype.kind not in "fiu" or 0 in array.shape[1:]:
        wanted = "(N, C, L)" if layout == "ncl" else "(N, L, C)"
        raise ValueError(f"{name} has shape {array.shape} and type {array.dtype}; signals are numbers {wanted}")
    x = torch.from_numpy(array.astype("float32"))
    bad = int((~x.isfinite()).flatten(1).any(1).sum())
    if bad:
        raise ValueError(f"{name} holds NaN or infinite values in {bad} of {len(x)} signals; leave these out")
    return (x if layout == "ncl" else x.transpose(1, 2)).contiguous()


def _labels(name: str, array: Any, count: int) -> Tensor:
    if array.dtype.kind not in "iu" or array.shape not in ((count,), (count, 1)):
        shape = f"{array.dtype} of shape {array.shape}"
        raise ValueError(f"{name} holds {shape}; labels are {count} whole numbers, one for each row of x{name[1:]}")
    return torch.from_numpy(array.reshape(-1).astype("int64"))
