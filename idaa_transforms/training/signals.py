"""Signals (N, C, L) to train on, in whatever units they have, and the random augmentation that a VAE of them sees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .._util.extras import require
from .data import Images, choose
from .folder import Found
from .pictures import check_file, one_line, shown

Layout = Literal["ncl", "nlc"]


def load_signals(source: str | Path, layout: Layout = "ncl") -> Images:
    """Training and test signals, float32 (N, C, L), and their labels.

    Args:
        source: an ``.npz`` with x_train and, if it has a test set, x_test; or an ``.npy``. Numbers of any type and
            unit; labels are y_train and y_test, whole numbers (N,). Where there is no test set, every twentieth signal
            becomes one.
        layout: the order of the axes: ``"ncl"``, channels before time, or ``"nlc"``.

    Raises:
        ValueError: the file cannot be read, or holds something else; one line with the file and the reason.
    """
    if layout not in ("ncl", "nlc"):
        raise ValueError(f"layout={layout!r} is neither 'ncl', channels before time, nor 'nlc'")
    file = Path(source).expanduser()
    with one_line(file):
        arrays = _read(file)
        if "x_train" not in arrays:
            raise ValueError("has no x_train")
        x: dict[str, Tensor] = {n: _signals(n, arrays[n], layout) for n in ("x_train", "x_test") if n in arrays}
        shapes = {tuple(part.shape[1:]) for part in x.values()}
        if len(shapes) > 1:
            raise ValueError(f"x_train and x_test differ in channels or length: {sorted(shapes)}")
        y = {f"y{n[1:]}": _labels(n, arrays, len(part)) for n, part in x.items() if f"y{n[1:]}" in arrays}
        learn, held = choose(len(x["x_train"]), len(x["x_test"]) if "x_test" in x else None)
        if not (learn and held):
            raise ValueError(f"too few signals: {len(learn)} to train on, {len(held)} to test on")
    apart = "test" if "x_test" in x else "train"
    taught, tested = (y[n][rows] if n in y else None for n, rows in (("y_train", learn), (f"y_{apart}", held)))
    found = Found(shown(file), len(learn), len(held), channels=x["x_train"].shape[1])
    return Images(x["x_train"][learn], x[f"x_{apart}"][held], file.name, taught, tested, found)


class SignalAugmentation(nn.Module):
    """Small random changes of signals (B, C, L), each signal its own: a window of at least ``crop`` of its length,
    stretched to all of it; all channels louder or quieter, by exp of a normal number times ``gain``; and white noise.

    Args:
        std: of each channel, the unit of the noise.
        crop: the shortest window, a share of the length.
        gain: standard deviation of the logarithm of the factor.
        noise: standard deviation of the noise, in units of ``std``.
    """

    def __init__(self, std: Sequence[float], crop: float = 0.5, gain: float = 0.1, noise: float = 0.02) -> None:
        super().__init__()
        self.crop, self.gain, self.noise = crop, gain, noise
        self.register_buffer("std", torch.tensor(std).view(-1, 1), persistent=False)
        self.std: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, L) to the same."""
        batch, _, length = x.shape
        share = self.crop + (1 - self.crop) * torch.rand(batch, 1, device=x.device)
        first = torch.rand(batch, 1, device=x.device) * (1 - share) * (length - 1)
        place = first + share * torch.arange(length, device=x.device)  # (B, L), between 0 and L - 1
        below = place.long().clamp(max=max(length - 2, 0))
        weight = (place - below)[:, None]
        left, right = (x.gather(2, i[:, None].expand_as(x)) for i in (below, (below + 1).clamp(max=length - 1)))
        factor = torch.exp(self.gain * torch.randn(batch, 1, 1, device=x.device))
        return factor * torch.lerp(left, right, weight) + self.noise * self.std.to(x) * torch.randn_like(x)


def _read(file: Path) -> dict[str, Any]:
    require("train", "numpy")
    import numpy as np

    check_file(file)
    opened = np.load(file, allow_pickle=False)
    if not hasattr(opened, "files"):
        return {"x_train": opened}
    with opened:
        return {name: opened[name] for name in ("x_train", "x_test", "y_train", "y_test") if name in opened.files}


def _signals(name: str, array: Any, layout: Layout) -> Tensor:
    if array.ndim != 3 or array.dtype.kind not in "fiu" or 0 in array.shape[1:]:
        wanted = "(N, C, L)" if layout == "ncl" else "(N, L, C)"
        raise ValueError(f"{name} has shape {array.shape} and type {array.dtype}; signals are numbers {wanted}")
    x = torch.from_numpy(array.astype("float32"))
    bad = int((~x.isfinite()).flatten(1).any(1).sum())
    if bad:
        raise ValueError(f"{name} holds NaN or infinite values in {bad} of {len(x)} signals; leave these out")
    return (x if layout == "ncl" else x.transpose(1, 2)).contiguous()


def _labels(of: str, arrays: dict[str, Any], count: int) -> Tensor:
    name = f"y{of[1:]}"
    array = arrays[name]
    if array.shape != (count,) or array.dtype.kind not in "iu":
        raise ValueError(f"{name} has shape {array.shape} and type {array.dtype}; labels are {count} whole numbers")
    return torch.from_numpy(array.astype("int64"))
