"""Decode one picture to uint8 (C, H, W), upright and on white. docs/data.md has the rules.

torchvision decodes JPEG, twice as fast as Pillow, which looks at every header first and decodes the rest: torchvision
has no limit against bombs, ends the process at some damaged PNGs, and does not turn a WebP.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

# Not all that Pillow knows: EPS starts a program, and half a JPEG 2000 is read without a word.
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_GREY = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N")
_JPEG = {"L": ImageReadMode.GRAY, "RGB": ImageReadMode.RGB}


def read_picture(file: Path, channels: int | None = None, content: bytes | None = None) -> Tensor:
    """The pixels of a picture, uint8 (C, H, W); C is 1 where it is grey, else 3.

    Args:
        channels: 1 or 3: colour becomes its luminance, grey is repeated.
        content: of the file, where that is in memory; ``file`` is then its name for errors.

    Raises:
        ValueError: it is no picture, cannot be read or only in part, or has more pixels than
            ``PIL.Image.MAX_IMAGE_PIXELS``; one line with the file and the reason.
    """
    with one_line(file):
        content = file.read_bytes() if content is None else content
        with _opened(content) as picture:
            if picture.format == "JPEG" and picture.mode in _JPEG:
                data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
                found = decode_image(data, _JPEG[picture.mode], apply_exif_orientation=True)
            else:
                found = _by_pillow(picture)
        return to_channels(found, channels)


def to_channels(image: Tensor, channels: int | None) -> Tensor:
    """Images (..., C, H, W) of 1 or 3 channels with so many ``channels``; as they are for None."""
    if channels == 3 and image.shape[-3] == 1:
        return image.expand(*image.shape[:-3], 3, -1, -1).contiguous()
    return v2.functional.rgb_to_grayscale(image) if channels == 1 and image.shape[-3] == 3 else image


def middle_square(images: Tensor, size: int | None) -> Tensor:
    """The square in the middle of images (..., H, W), resized to ``size``; the images themselves for None."""
    if size is None or tuple(images.shape[-2:]) == (size, size):
        return images
    images = v2.functional.center_crop(images, [min(images.shape[-2:])] * 2)  # first: a thin one would become huge
    return v2.functional.resize(images, [size, size], antialias=True)


def shown(file: Path) -> str:
    """The path in one line, whatever its name is made of."""
    name = str(file)
    return name if name.isprintable() else ascii(name)


@contextmanager
def one_line(file: Path) -> Iterator[None]:
    """Whatever goes wrong inside is a ValueError of one line, with the file and the reason."""
    try:
        yield
    except Exception as error:  # of decoders on broken bytes: SyntaxError, struct.error, zlib.error, KeyError, ...
        reason = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            reason = "is no picture of a format that is read"
        elif isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        elif not isinstance(error, ValueError | OSError):
            reason = f"is damaged ({reason.rpartition('.cpp:')[2].partition(', ')[2] or reason})"  # torchvision's place
        raise ValueError(f"{shown(file)}: {reason}") from error


@contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    """By Pillow, which has read the header then."""
    if not content:
        raise ValueError("is empty (0 bytes)")
    if content.startswith(b"version https://git-lfs"):
        raise ValueError("is a Git LFS pointer, not the file itself; run: git lfs pull")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            Image.init()
            known = [name for name in FORMATS if name in Image.OPEN]  # AVIF is not in every build
            picture = Image.open(io.BytesIO(content), formats=known)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise ValueError(f"has more than {Image.MAX_IMAGE_PIXELS:,} pixels; scale it down") from error
        with picture:
            if 0 in picture.size:
                raise ValueError(f"is {picture.width} pixels wide and {picture.height} high")
            yield picture


def _by_pillow(picture: Image.Image) -> Tensor:
    import numpy as np

    grey = picture.mode in _GREY or (picture.mode == "I" and picture.format == "PPM")
    if picture.mode in ("I", "F") and not grey:
        raise ValueError("has 32-bit pixels, of which nobody can tell which is white; save uint8, or an array (.npy)")
    picture.load()
    picture = ImageOps.exif_transpose(picture)  # after load(), which turns a TIFF by itself
    if picture.mode.startswith("I"):
        values = np.asarray(picture).astype(np.int64)
        white = values == picture.info.get("transparency")
        return torch.from_numpy(np.where(white, 255, (values + 128) // 257).astype(np.uint8))[None]
    if picture.has_transparency_data:
        picture = picture.convert("LA").convert("RGBA") if picture.mode == "La" else picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    values = np.array(picture.convert("L" if grey else "RGB"))
    return torch.from_numpy(values).view(picture.height, picture.width, -1).movedim(-1, 0).contiguous()
