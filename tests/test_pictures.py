"""Pictures and folders as they are found: the right pixels, or one line with the file and the reason."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from idaa_transforms.training.pictures import eight_bits, read_picture

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


def test_floats_and_what_has_no_white(tmp_path):
    fits = saved(tmp_path, "a.tif", np.array([[0, 0.5, 1]], np.float32))
    assert seen(fits)[..., 0].tolist() == [[0, 128, 255]]
    for values, message in (
        (np.array([[0, 255]], np.float32), r"a.tif: floats from 0 to 255; only those in \[0, 1\] are read"),
        (np.array([[0, np.nan]], np.float32), r"a.tif: floats from nan to nan; only"),
        (np.array([[0, 70000]], np.int32), r"a.tif: int32 values; uint8, uint16 and floats in \[0, 1\] are read"),
    ):
        with pytest.raises(ValueError, match=message):
            read_picture(saved(tmp_path, "a.tif", values))


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
    for name, picture in {
        "cmyk.tif": orange.convert("CMYK"),
        "cmyk.jpg": orange.convert("CMYK"),
        "lab.tif": ImageCms.applyTransform(orange, to_lab),
        "ycbcr.tif": orange.convert("YCbCr"),
        "palette.gif": orange.convert("P", palette=Image.Palette.ADAPTIVE),
    }.items():
        found = seen(saved(tmp_path, name, picture)).astype(int)
        assert np.abs(found - (200, 80, 40)).max() <= 3, name
    bits = saved(tmp_path, "bits.png", Image.fromarray(GREY > 100))
    assert (seen(bits)[..., 0] == np.where(GREY > 100, 255, 0)).all()


def test_of_an_animation_the_first_frame_and_of_grey_pages_all(tmp_path):
    frames = [Image.fromarray(COLOUR), Image.fromarray(COLOUR[::-1])]
    for ending, options in (("png", {}), ("webp", {"lossless": True}), ("tif", {})):
        file = saved(tmp_path, f"a.{ending}", frames[0], save_all=True, append_images=frames[1:], **options)
        assert (seen(file) == COLOUR).all(), ending
    pages = [Image.fromarray(np.full((8, 8), 100 * i, np.uint16)) for i in range(5)]
    stack = saved(tmp_path, "stack.tif", pages[0], save_all=True, append_images=pages[1:])
    assert seen(stack)[0, 0].tolist() == [0, 0, 1, 1, 2]
    with pytest.raises(ValueError, match=r"stack\.tif: has 5 channels, not 3"):
        read_picture(stack, 3)
    other = [pages[0], Image.new("I;16", (4, 4))]
    assert seen(saved(tmp_path, "preview.tif", other[0], save_all=True, append_images=other[1:])).shape == (8, 8, 1)


def test_names_that_are_no_text(tmp_path):
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\xff\nb.png"))
    file.touch()
    with pytest.raises(ValueError, match=r"b.png.: is empty") as error:
        read_picture(file)
    str(error.value).encode()
    assert len(str(error.value).splitlines()) == 1


def test_eight_bits_of_other_orders_of_bytes():
    assert eight_bits(np.array([0, 257, 65535], ">u2")).tolist() == [0, 1, 255]
    assert eight_bits(np.array([0, 0.5, 1], ">f8")).tolist() == [0, 128, 255]
