"""Random pictures with what is to be seen on them, and what can happen to the bytes of a file."""

import io

import numpy as np
from PIL import Image

TURNED = {  # EXIF orientation to what is seen, by its definition: where row 0 and column 0 of the stored picture are
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}
FORMATS = {  # to the modes to try
    "png": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "tif": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"],
    "gif": ["L", "P"],
    "bmp": ["1", "L", "P", "RGB"],
    "webp": ["RGB", "RGBA"],
    "pgm": ["L", "I;16"],
    "ppm": ["RGB"],
    "jpg": ["L", "RGB", "CMYK"],
    "avif": ["RGB"],
}


def picture(rng):
    """Bytes of a picture, its ending, and what is to be seen: uint8 (C, H, W)."""
    ending = rng.choice(list(FORMATS))
    mode = rng.choice(FORMATS[ending])
    h, w = rng.integers(1, 25, 2)
    orientation = (
        int(rng.integers(0, 9 if ending == "tif" else 11)) if ending in ("png", "jpg", "tif", "webp", "avif") else 0
    )
    image, seen = drawn(rng, mode, h, w)
    options = {"exif": exif(orientation)} if orientation else {}
    if ending == "tif":
        options["compression"] = rng.choice(["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
    if ending == "webp":
        options |= {"lossless": True, "exact": True}
    if ending in ("gif", "webp", "tif", "png") and mode in ("P", "RGB") and rng.random() < 0.3:  # an animation
        options |= {"save_all": True, "append_images": [drawn(rng, mode, h, w)[0]]}
    data = io.BytesIO()
    image.save(data, {"tif": "TIFF", "jpg": "JPEG", "pgm": "PPM"}.get(ending, ending), **options)
    if ending in ("jpg", "avif"):  # lossy: what Pillow makes of it
        seen = np.asarray(Image.open(data).convert("L" if mode == "L" else "RGB")).reshape(h, w, -1)
    turned = TURNED.get(orientation, lambda a: a)(seen)
    return data.getvalue(), ending, np.ascontiguousarray(turned.transpose(2, 0, 1))


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def drawn(rng, mode, h, w):
    """A picture and its pixels as seen, (H, W, C)."""
    if mode == "1":
        values = rng.integers(0, 2, (h, w)).astype(bool)
        return Image.fromarray(values), np.where(values, 255, 0).astype(np.uint8)[..., None]
    if mode == "I;16":
        values = rng.integers(0, 65536, (h, w)).astype(np.uint16)
        return Image.fromarray(values), np.rint(values / 257).astype(np.uint8)[..., None]
    if mode == "P":
        values, palette = rng.integers(0, 4, (h, w)).astype(np.uint8), rng.integers(0, 256, (4, 3)).astype(np.uint8)
        palette[0] = (1, 2, 3)  # in colour, whatever else is drawn
        image = Image.fromarray(values, "L")
        image.putpalette(palette.tobytes())
        return image, palette[values]
    values = rng.integers(0, 256, (h, w, {"L": 1, "LA": 2, "RGB": 3}.get(mode, 4))).astype(np.uint8)
    image = Image.frombytes(mode, (int(w), int(h)), values.tobytes())
    if mode in ("LA", "RGBA"):
        alpha = values[..., -1:] / 255
        return image, np.rint(values[..., :-1] * alpha + 255 * (1 - alpha)).astype(np.uint8)
    if mode == "CMYK":
        white = 255 - values[..., :3].astype(int)
        return image, np.rint(white * (255 - values[..., 3:].astype(int)) / 255).clip(0, 255).astype(np.uint8)
    return image, values


def damaged(rng, data):
    """What can happen to bytes, and its name."""
    what = rng.choice(["whole", "whole", "cut", "cut", "flipped", "spliced", "noise"])
    if what == "cut":  # at every kind of place: the first bytes, anywhere, the last ones
        end = (rng.integers(0, 40), rng.integers(0, len(data)), len(data) - rng.integers(1, 20))[rng.integers(3)]
        return data[: max(0, end)], what
    if what == "flipped":
        values = np.frombuffer(data, np.uint8).copy()
        reach = rng.choice([64, len(data)])
        for place in rng.integers(0, min(len(values), reach), rng.integers(1, 6)):
            values[place] = rng.integers(256)
        return values.tobytes(), what
    if what == "spliced":
        one, two = sorted(rng.integers(0, len(data) + 1, 2))
        middle = rng.bytes(rng.integers(0, 8)) if rng.random() < 0.5 else data[one:two] * 2
        return data[:one] + middle + data[two:], what
    if what == "noise":
        return data[: rng.integers(0, 9)] + rng.bytes(rng.integers(0, 200)), what
    return data, what
