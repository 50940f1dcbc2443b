"""A COCO folder: pictures, boxes and masks, checked once at the door.

    FOLDER/annotations/instances_train.json, instances_val.json    (or instances_train2017.json, as COCO names them)
    FOLDER/train/, FOLDER/val/                                     (or train2017/, val2017/)

Polygons and run-length encoding (RLE) may stand side by side. Crowds (iscrowd 1) and boxes without an area are not
trained on, as usual for COCO; in an evaluation a crowd excuses what is found on it, and such a box counts as missed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pycocotools import mask as rle
from torch import Tensor

from idaa_transforms.training.decode import one_line, read_picture, shown

Annotation = dict[str, Any]
Target = dict[str, Tensor]
PARTS = ("images", "annotations", "categories")


class Coco(NamedTuple):
    """A part of a set. Images are known by their place in the lists, categories by their place in ``names``."""

    name: str
    files: list[Path]
    sizes: list[tuple[int, int]]  # height, width
    annotations: list[list[Annotation]]  # of each image
    names: dict[int, str]  # category id to name, in order of the ids

    @property
    def labels(self) -> dict[int, int]:
        """Category id to label: 1, 2, ...; 0 is the background."""
        return {category: label for label, category in enumerate(self.names, 1)}

    def usable(self) -> list[int]:
        """Images with something to learn from."""
        return [i for i, found in enumerate(self.annotations) if any(map(_counts, found))]

    def picture(self, i: int) -> Tensor:
        """The pixels of an image, uint8 (3, H, W)."""
        pixels, stated = read_picture(self.files[i], channels=3), self.sizes[i]
        if tuple(pixels.shape[1:]) != stated:
            raise ValueError(
                f"{shown(self.files[i])} is {pixels.shape[2]}x{pixels.shape[1]}, and its annotations are for "
                f"{stated[1]}x{stated[0]}; annotate it again, or scale it"
            )
        return pixels

    def target(self, i: int, masks: bool = True) -> Target:
        """What is to be found in an image: boxes (n, 4) as x1 y1 x2 y2 in pixels, labels (n,) and masks (n, H, W)."""
        (height, width), found = self.sizes[i], [one for one in self.annotations[i] if _counts(one)]
        boxes = torch.tensor([one["bbox"] for one in found], dtype=torch.float32).view(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = torch.tensor([self.labels[one["category_id"]] for one in found], dtype=torch.int64)
        target = {"boxes": boxes, "labels": labels}
        if masks:
            shapes = [torch.from_numpy(self.mask(i, one)) for one in found]
            target["masks"] = torch.stack(shapes) if shapes else torch.zeros(0, height, width, dtype=torch.uint8)
        return target

    def mask(self, i: int, one: Annotation) -> Any:
        """The mask of an annotation of an image, a uint8 array (H, W)."""
        with _told_of(self.name, one):
            return rle.decode(encoded(one["segmentation"], *self.sizes[i]))

    def truth(self, images: list[int], masks: bool) -> dict[str, Any]:
        """The images in COCO's own format, numbered from 1: pycocotools takes an annotation 0 for none at all."""
        rows: list[Annotation] = []
        for i in images:
            for one in self.annotations[i]:
                row = {"id": len(rows) + 1, "image_id": i, "category_id": one["category_id"], "bbox": one["bbox"]}
                row |= {"iscrowd": one.get("iscrowd", 0), "area": one.get("area", one["bbox"][2] * one["bbox"][3])}
                if masks:
                    row["segmentation"] = encoded(one["segmentation"], *self.sizes[i])
                rows.append(row)
        sizes = [{"id": i, "height": self.sizes[i][0], "width": self.sizes[i][1]} for i in images]
        return {
            "images": sizes,
            "annotations": rows,
            "categories": [{"id": i, "name": n} for i, n in self.names.items()],
        }


def read(folder: Path, part: str, masks: bool) -> Coco:
    """The ``part`` ("train" or "val") of a COCO folder.

    Args:
        masks: whether masks are needed; without, annotations may have boxes alone.

    Raises:
        ValueError: what is missing or does not fit, in one line.
    """
    file, pictures = _places(folder, part)
    content, place = _content(file), shown(file)
    names = {row["id"]: str(row["name"]) for row in sorted(content["categories"], key=lambda row: row["id"])}
    rows = {row["id"]: row for row in content["images"]}
    for what, found in (("categories", names), ("images", rows)):
        if len(found) < len(content[what]) or not found:
            raise ValueError(f"{place}: no {what}" if not found else f"{place}: two {what} have one id")
    there = {entry.name for entry in pictures.iterdir()}
    if missing := [row["file_name"] for row in rows.values() if Path(row["file_name"]).name not in there]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(f"{shown(pictures / missing[0])}{more}: there is no such file, but {place} names it")
    grouped: dict[int, list[Annotation]] = {i: [] for i in rows}
    for one in content["annotations"]:
        with _told_of(place, one):
            _check(one, rows, names, masks)
        grouped[one["image_id"]].append(one)
    files = [pictures / Path(row["file_name"]).name for row in rows.values()]
    sizes = [(int(row["height"]), int(row["width"])) for row in rows.values()]
    coco = Coco(place, files, sizes, list(grouped.values()), names)
    if not coco.usable():
        raise ValueError(f"{place}: no image has an annotation with a box that has an area and is no crowd")
    return coco


def check_same(train: Coco, test: Coco) -> None:
    """Refuse two parts with different categories."""
    if train.names != test.names:
        differ = sorted(set(train.names.items()) ^ set(test.names.items()))[0]
        raise ValueError(
            f"{train.name} and {test.name} have different categories: {differ[0]} {differ[1]!r} is not in both; give "
            "both files the same list"
        )


def encoded(segmentation: Any, height: int, width: int) -> dict[str, Any]:
    """Polygons, or RLE with its counts packed or not, as packed RLE."""
    if isinstance(segmentation, list):
        return rle.merge(rle.frPyObjects(segmentation, height, width))
    return rle.frPyObjects(segmentation, height, width) if isinstance(segmentation["counts"], list) else segmentation


def _counts(one: Annotation) -> bool:
    return not one.get("iscrowd", 0) and one["bbox"][2] > 0 and one["bbox"][3] > 0


def _places(folder: Path, part: str) -> tuple[Path, Path]:
    """The file of annotations and the folder of pictures."""
    tried = [
        (folder / "annotations" / f"instances_{part}{year}.json", folder / f"{part}{year}") for year in ("", "2017")
    ]
    for file, pictures in tried:
        if file.is_file():
            if not pictures.is_dir():
                raise ValueError(f"{shown(pictures)}: there is no such folder; it has the pictures of {file.name}")
            return file, pictures
    raise ValueError(
        f"{shown(folder)} is no COCO folder: it has neither annotations/{tried[0][0].name} nor {tried[1][0].name}"
    )


def _content(file: Path) -> dict[str, Any]:
    with one_line(file):
        try:
            content = json.loads(file.read_text("utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(f"is cut off or no JSON (line {error.lineno}: {error.msg})") from error
        if not isinstance(content, dict) or any(not isinstance(content.get(name), list) for name in PARTS):
            raise ValueError(f"is no file of COCO instances, which is an object with the lists {', '.join(PARTS)}")
    return content


@contextmanager
def _told_of(place: str, one: Any) -> Iterator[None]:
    """Whatever is wrong inside is told with the annotation that it is wrong with."""
    name = one.get("id", "without an id") if isinstance(one, dict) else f"{one!r:.40}"
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{place}: annotation {name}: it has no {error}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{place}: annotation {name}: {error}") from error


def _check(one: Annotation, images: dict[int, Any], names: dict[int, str], masks: bool) -> None:
    """One annotation. Any error is told with its name."""
    if one["image_id"] not in images:
        raise ValueError(f"its image_id {one['image_id']!r} is none of the {len(images)} images")
    if one["category_id"] not in names:
        known = ", ".join(map(str, list(names)[:5])) + (", ..." if len(names) > 5 else "")
        raise ValueError(f"its category_id {one['category_id']!r} is none of the categories ({known})")
    box = one["bbox"]
    if len(box) != 4 or not all(math.isfinite(value) for value in box) or min(box[2:]) < 0:
        raise ValueError(f"its bbox is {box}, not [x, y, width, height] in pixels")
    if masks and not one.get("segmentation"):
        raise ValueError("it has no segmentation; --model faster needs boxes alone")
