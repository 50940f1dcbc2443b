"""One picture, whatever is in the file: the right pixels, or one line with the file and the reason."""

import os
import signal
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from idaa_transforms.training.decode import read_picture

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
COLOUR = np.stack([GREY, 255 - GREY, GREY.T], 2)


def saved(folder, name, picture, **options):
    picture = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    picture.save(folder / name, **options)
    return folder / name


def seen(file, channels=None):
    return read_picture(file, channels).permute(1, 2, 0).numpy()


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_sixteen_bits_of_grey(ending, tmp_path):
    values = np.array([[0, 128, 129, 257], [32768, 65407, 65534, 65535]], np.uint16)
    file = saved(tmp_path, f"deep.{ending}", values)
    assert seen(file)[..., 0].tolist() == [[0, 0, 1, 1], [128, 255, 255, 255]]
    assert seen(file, 3).shape == (2, 4, 3)


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_what_has_no_white_is_refused(kind, tmp_path):
    with pytest.raises(ValueError, match=r"a.tif: has 32-bit pixels, of which nobody can tell which is white; save"):
        read_picture(saved(tmp_path, "a.tif", np.array([[0, 1]], kind)))


@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_a_picture_on_its_side(ending, tmp_path):
    """Taller than wide, bright at the top; stored lying down, the top at the right (EXIF 8), as telephones do."""
    upright = np.repeat(np.linspace(250, 10, 24).astype(np.uint8)[:, None], 16, 1)
    exif = Image.Exif()
    exif[0x0112] = 8
    file = saved(tmp_path, f"a.{ending}", np.rot90(upright, -1).copy(), exif=exif)
    found = seen(file)[..., 0].astype(int)
    assert found.shape == (24, 16)
    assert np.abs(found - upright).max() < 12


def test_what_is_transparent_is_white(tmp_path):
    alpha = np.full((8, 8), 255, np.uint8)
    alpha[0], alpha[1] = 0, 128
    rgba = saved(tmp_path, "rgba.png", np.dstack([COLOUR, alpha]))
    grey = saved(tmp_path, "la.png", np.dstack([GREY, alpha]))
    for file, plain in ((rgba, COLOUR), (grey, GREY[..., None])):
        found = seen(file)
        assert (found[0] == 255).all()
        assert (found[2:] == plain[2:]).all()
        assert np.abs(found[1].astype(int) - (plain[1].astype(int) * 128 + 255 * 127) / 255).max() <= 1
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "L")
    palette.putpalette([255, 0, 255, 10, 20, 30])
    assert seen(saved(tmp_path, "p.png", palette, transparency=0)).tolist() == [[[255] * 3, [10, 20, 30]]]
    deep = Image.fromarray(np.array([[300, 400]], np.uint16))
    assert seen(saved(tmp_path, "i.png", deep, transparency=300))[..., 0].tolist() == [[255, 2]]


def test_other_spaces_of_colour(tmp_path):
    orange = Image.new("RGB", (8, 8), (200, 80, 40))
    to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    for name, drawn in {
        "cmyk.tif": orange.convert("CMYK"),
        "cmyk.jpg": orange.convert("CMYK"),
        "lab.tif": ImageCms.applyTransform(orange, to_lab),
        "palette.gif": orange.convert("P", palette=Image.Palette.ADAPTIVE),
    }.items():
        found = seen(saved(tmp_path, name, drawn)).astype(int)
        assert np.abs(found - (200, 80, 40)).max() <= 3, name
    bits = saved(tmp_path, "bits.png", Image.fromarray(GREY > 100))
    assert (seen(bits)[..., 0] == np.where(GREY > 100, 255, 0)).all()
    assert seen(saved(tmp_path, "one.png", COLOUR), 1).shape == (8, 8, 1)


@pytest.mark.parametrize("ending", ["png", "webp", "tif"])
def test_of_an_animation_the_first_frame(ending, tmp_path):
    options = {"lossless": True} if ending == "webp" else {}
    more = [Image.fromarray(COLOUR[::-1])]
    assert (seen(saved(tmp_path, f"a.{ending}", COLOUR, save_all=True, append_images=more, **options)) == COLOUR).all()


def huge(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 10)), (b"IEND", b""))
    packed = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (bytes(range(200)), "is no picture of a format that is read"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer, not the file itself; run: git lfs"),
        (huge(30_000, 30_000), "has more than 89,478,485 pixels; scale it down"),
        (huge(300_000, 300_000), "has more than 89,478,485 pixels; scale it down"),
        (huge(8, 8), "image file is truncated"),
    ],
)
def test_what_is_no_picture(content, reason, tmp_path):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match=f"^{tmp_path}/a.png: {reason}") as error:
        read_picture(tmp_path / "a.png")
    assert len(str(error.value).splitlines()) == 1


FORMATS = ("png", "tif", "gif", "bmp", "webp", "ppm", "jpg", "avif")


def damaged(rng, data):
    """Cut off (0), with bytes changed (1), a piece repeated (2), or noise (3): what it is now, and which."""
    one, two = sorted(map(int, rng.integers(0, len(data), 2)))
    changed = bytearray(data)
    for place in rng.integers(0, min(len(data), rng.choice([64, len(data)])), 4):
        changed[place] = rng.integers(256)
    kind = rng.integers(4)
    return [data[:two], bytes(changed), data[:two] + data[one:], data[:8] + rng.bytes(100)][kind], kind


def test_damaged_files(tmp_path, monkeypatch):
    """They are read, of what is cut off the whole picture alone, or there is one line. ``IDAA_FUZZ=60000`` tries more
    of them, ``IDAA_FUZZ_SEED`` others."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1 << 20)  # sizes are changed, too
    rng, tries = np.random.default_rng(int(os.environ.get("IDAA_FUZZ_SEED", 0))), int(os.environ.get("IDAA_FUZZ", 150))
    whole = {ending: saved(tmp_path, f"whole.{ending}", COLOUR, lossless=True) for ending in FORMATS}
    lines = []
    signal.alarm(max(60, tries // 10))  # no input may hang
    for i in range(tries):
        ending, file = rng.choice(FORMATS), tmp_path / f"{i}.{rng.choice(FORMATS)}"
        content, kind = damaged(rng, whole[ending].read_bytes())
        file.write_bytes(content)
        try:
            read = read_picture(file)
        except ValueError as error:
            lines.append(str(error))
        else:
            assert read.dtype == torch.uint8
            assert len(read) in (1, 3)
            assert kind or torch.equal(read, read_picture(whole[ending])), f"{file}: {ending} cut off at {len(content)}"
    signal.alarm(0)
    assert tries / 4 < len(lines) < tries
    assert all(line.startswith(f"{tmp_path}/") and len(line.splitlines()) == 1 for line in lines)
