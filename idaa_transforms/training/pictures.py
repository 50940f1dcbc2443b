"""One picture file as pixels: whatever its format, uint8 (C, H, W), upright, without transparency.

Rules, the same for every picture (docs/data.md says why):

* The orientation in EXIF is applied. Colour profiles are not.
* Greyscale (1-bit, L, 16-bit, float; with or without alpha) is one channel. A TIFF of several greyscale pages of one
  size is one picture with a channel a page. Everything else, palettes and CMYK and LAB included, is RGB.
* 8 bits stay as they are. 16 bits are divided by 257, so that 65535 is white. Floats must lie in [0, 1], which becomes
  0 to 255. 32-bit integers are refused: nobody can tell which number is white.
* What is transparent is composited on white.
* Of an animation, and of TIFF pages that are not such a stack, the first frame counts.
"""

from __future__ import annotations

import io
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image, ImageSequence, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor

from .._util.extras import require

ENDINGS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp", ".avif"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".tif", ".tiff"),
)
"""What the name of a picture ends with, upper or lower case."""

# Not all that Pillow knows: EPS starts a program, and half a JPEG 2000 is read without a word. The content of a file
# decides which of them it is, not its name.
_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_GREY = ("1", "L", "LA", "La", "F", "I", "I;16", "I;16B", "I;16L", "I;16N")
_PAGES = ("L", "F", "I;16", "I;16B", "I;16L", "I;16N")
_LFS = b"version https://git-lfs"
_TURNS = dict(zip(range(2, 9), ((0, 1), (2, 0), (2, 1), (3, 1), (3, 0), (1, 1), (1, 0)), strict=True))
"""EXIF orientation to quarter turns against the clock and whether to mirror left and right afterwards."""


class Header(NamedTuple):
    """What a picture is, known before its pixels are read; ``size`` is (height, width) as stored."""

    size: tuple[int, int]
    mode: str
    channels: int


def read_header(file: Path, content: bytes | None = None) -> Header:
    """The header of a picture, in a file or as the ``content`` of one.

    Raises:
        ValueError: it is no picture, or has more pixels than ``PIL.Image.MAX_IMAGE_PIXELS``; one line with the file.
    """
    with _open(file, content) as picture:
        return header_of(picture)


def header_of(picture: Image.Image) -> Header:
    """The same of a picture that Pillow has opened."""
    if not isinstance(picture, Image.Image):
        raise ValueError(f"is a {type(picture).__name__}, not a picture")
    return Header(picture.size[::-1], picture.mode, _channels(picture))


def read_picture(file: Path, channels: int | None = None, content: bytes | None = None) -> Tensor:
    """The pixels of a picture: uint8 (C, H, W), by the rules above.

    Args:
        channels: that are wanted. Greyscale is repeated for 3, colour becomes its luminance for 1, all else is refused.
        content: of the file, where that is in memory; ``file`` is then its name for errors.

    Raises:
        ValueError: the file cannot be read, or only in part, or has another number of channels; one line with the file
            and the reason.
    """
    with _open(file, content) as picture:
        return pixels(picture, channels)


def pixels(picture: Image.Image, channels: int | None = None) -> Tensor:
    """The same of a picture that Pillow has opened."""
    if _is_stack(picture):
        found = torch.cat([_page(picture, i) for i in range(_channels(picture))])
    else:
        found = _upright(picture)
    return _as_channels(found, channels)


def eight_bits(values: Any) -> Any:
    """A numpy array as uint8: unchanged, or 16 bits divided by 257, or floats in [0, 1] and booleans times 255.

    Raises:
        ValueError: the values are of another type, or floats outside [0, 1].
    """
    import numpy as np

    if values.dtype == np.uint8:
        return values
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if values.dtype.kind == "b":
        return values.astype(np.uint8) * 255
    if values.dtype.kind != "f":
        raise ValueError(f"{values.dtype} values; uint8, uint16 and floats in [0, 1] are read")
    if values.size and not (values.min() >= 0 and values.max() <= 1):  # a NaN is neither
        raise ValueError(f"floats from {values.min():g} to {values.max():g}; only those in [0, 1] are read")
    return np.rint(values * 255).astype(np.uint8)


def shown(file: Path) -> str:
    """The path in one line, whatever its name is made of."""
    name = str(file)
    return name if name.isprintable() else ascii(name)


def check_file(file: Path) -> bytes:
    """The first bytes of a file.

    Raises:
        ValueError: it is not there, no file, empty, or a Git LFS pointer.
    """
    if not file.is_file():
        raise ValueError("there is no such file" if not file.exists() else "is no file")
    with file.open("rb") as opened:
        return check_start(opened.read(32))


def check_start(start: bytes) -> bytes:
    """The first bytes of a file, looked at likewise."""
    if not start:
        raise ValueError("is empty (0 bytes)")
    if start.startswith(_LFS):
        raise ValueError("is a Git LFS pointer, not the file itself; run: git lfs pull")
    return start


@contextmanager
def one_line(file: Path) -> Iterator[None]:
    """Whatever goes wrong inside is a ValueError of one line, with the file and the reason."""
    try:
        yield
    except Exception as error:  # of decoders on broken bytes: SyntaxError, struct.error, zlib.error, KeyError, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = "is no picture that Pillow can read"
        elif isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        elif reason.startswith("Corrupt EXIF data"):
            reason = "is cut off"
        elif not isinstance(error, ValueError | OSError):
            reason = f"is damaged ({type(error).__name__}: {reason})"
        raise ValueError(f"{shown(file)}: {reason}") from error


@contextmanager
def _open(file: Path, content: bytes | None = None) -> Iterator[Image.Image]:
    require("train", "numpy")
    Image.init()
    known = [name for name in _FORMATS if name in Image.OPEN]  # AVIF is not in every build
    with one_line(file), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        start = check_file(file) if content is None else check_start(content[:32])
        if start.startswith((b"II", b"MM")):  # a TIFF's pages that are cut off are but warned of, and missing
            warnings.filterwarnings("error", "Corrupt EXIF data")
        # By its name, Pillow maps a file, and scrambles a TIFF that lies on its side.
        with file.open("rb") if content is None else io.BytesIO(content) as stream:
            try:
                picture = Image.open(stream, formats=known)
            except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
                raise ValueError(f"has more than {Image.MAX_IMAGE_PIXELS:,} pixels; scale it down") from error
            if 0 in picture.size:
                raise ValueError(f"is {picture.size[0]} pixels wide and {picture.size[1]} high")
            yield picture


def _is_stack(picture: Image.Image) -> bool:
    return isinstance(picture, TiffImagePlugin.TiffImageFile) and picture.mode in _PAGES


def _channels(picture: Image.Image) -> int:
    if _is_stack(picture):
        kinds = Counter((page.size, page.mode) for page in ImageSequence.Iterator(picture))
        picture.seek(0)
        (((width, height), _), pages), *others = kinds.items()
        limit = Image.MAX_IMAGE_PIXELS
        if limit and not others and pages * width * height > limit:
            raise ValueError(f"has more than {limit:,} pixels in {pages} pages; scale it down")
        return 1 if others else pages
    return 1 if picture.mode in _GREY else 3


def _page(picture: Image.Image, i: int) -> Tensor:
    picture.seek(i)
    return _upright(picture)


def _upright(picture: Image.Image) -> Tensor:
    import numpy as np

    picture.load()
    values = np.array(_plain(picture))
    found = torch.from_numpy(values)
    found = found.movedim(-1, 0) if found.ndim == 3 else found[None]
    turns, mirror = _TURNS.get(_orientation(picture), (0, 0))  # after load(), which turns a TIFF by itself
    found = found.rot90(turns, (1, 2))
    return (found.flip(2) if mirror else found).contiguous()


def _orientation(picture: Image.Image) -> Any:
    try:
        return picture.getexif().get(0x0112)
    except Exception:  # the pixels are there, whatever is wrong with what is said about them
        return None


def _plain(picture: Image.Image) -> Any:
    """The frame as uint8 (H, W) or (H, W, 3)."""
    import numpy as np

    mode, clear = picture.mode, picture.info.get("transparency")
    if mode == "I" and picture.format in ("PNG", "PPM"):  # so do older versions of Pillow read their 16 bits
        values = np.asarray(picture).astype(np.uint16)
    elif mode[0] in "IF":
        values = np.asarray(picture)
    else:
        grey = mode in _GREY
        if mode in ("LA", "La", "PA", "RGBA", "RGBa") or clear is not None:
            picture = picture.convert("LA") if mode == "La" else picture
            picture = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
        return np.asarray(picture.convert("RGB" if not grey else "L"))
    found = eight_bits(values)
    return np.where(values == clear, np.uint8(255), found) if isinstance(clear, int) else found


def _as_channels(found: Tensor, wanted: int | None) -> Tensor:
    if wanted is None or len(found) == wanted:
        return found
    if len(found) == 1 and wanted == 3:
        return found.repeat(3, 1, 1)
    if len(found) == 3 and wanted == 1:
        weights = torch.tensor([299, 587, 114]).view(3, 1, 1)  # ITU-R 601-2
        return ((found.int() * weights).sum(0, keepdim=True).add(500) // 1000).byte()
    raise ValueError(f"has {len(found)} channels, not {wanted}")
