"""A COCO folder of drawn pictures: bright squares and discs on dark ground, with masks as polygons and as RLE."""

import json

import numpy as np
from PIL import Image, ImageDraw
from pycocotools import mask as rle

NAMES = {3: "square", 7: "disc"}


def packed(mask):
    """A mask (H, W) as packed RLE, as JSON can hold it."""
    found = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(n) for n in found["size"]], "counts": found["counts"].decode()}


def draw(generator, side):
    """A picture with two objects side by side, and their annotations."""
    picture = Image.new("RGB", (side, side), (30, 20, 40))
    pencil, annotations = ImageDraw.Draw(picture), []
    for half in (0, side // 2):
        size = int(generator.integers(side // 5, side // 3))
        x, y = half + int(generator.integers(1, side // 2 - size)), int(generator.integers(1, side - size))
        kind = int(generator.choice(list(NAMES)))
        one = {"category_id": kind, "bbox": [x, y, size, size], "iscrowd": 0}
        if kind == 3:
            pencil.rectangle((x, y, x + size - 1, y + size - 1), fill=(230, 60, 60))
            one |= {"segmentation": [[x, y, x + size, y, x + size, y + size, x, y + size]], "area": size * size}
        else:
            pencil.ellipse((x, y, x + size - 1, y + size - 1), fill=(60, 220, 90))
            mask = np.asarray(picture)[:, :, 1] > 150
            mask[:, : x if half else 0] = False
            one |= {"segmentation": packed(mask), "area": int(mask.sum())}
        annotations.append(one)
    return picture, annotations


def content(pictures):
    """What a file of annotations holds: ``pictures`` are (file name, picture, annotations)."""
    images, annotations = [], []
    for i, (name, picture, found) in enumerate(pictures):
        images.append({"id": 10 + i, "file_name": name, "width": picture.width, "height": picture.height})
        annotations += [one | {"id": len(annotations) + n, "image_id": 10 + i} for n, one in enumerate(found)]
    categories = [{"id": i, "name": name} for i, name in NAMES.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def write(folder, train=6, val=3, side=64):
    """A folder with ``train`` and ``val`` pictures."""
    generator = np.random.default_rng(0)
    (folder / "annotations").mkdir(parents=True)
    for part, count in (("train", train), ("val", val)):
        (folder / part).mkdir()
        pictures = [(f"{i}.png", *draw(generator, side)) for i in range(count)]
        for name, picture, _ in pictures:
            picture.save(folder / part / name)
        (folder / "annotations" / f"instances_{part}.json").write_text(json.dumps(content(pictures)))
    return folder
