"""Average precision of examples/detection against values counted by hand."""

import numpy as np
import pytest
from toy_coco import packed

from examples.detection.coco import Coco
from examples.detection.evaluate import average_precision

SIDE = 40


def rectangle(x, y, width, height):
    mask = np.zeros((SIDE, SIDE), bool)
    mask[y : y + height, x : x + width] = True
    return {"bbox": [x, y, width, height], "segmentation": packed(mask)}


def truth(*annotations, images=1):
    """Ground truth; each annotation is (image, category, what, iscrowd)."""
    rows = [[] for _ in range(images)]
    for n, (image, category, what, crowd) in enumerate(annotations):
        rows[image].append(what | {"id": n, "category_id": category, "iscrowd": crowd})
    coco = Coco("by hand", [None] * images, [(SIDE, SIDE)] * images, rows, {5: "a", 9: "b"})
    return coco.truth(list(range(images)), True)


def found(*rows):
    return [
        what | {"image_id": image, "category_id": category, "score": score} for image, category, what, score in rows
    ]


SQUARE = rectangle(10, 10, 10, 10)


def scores(there, seen, kind, most=100):
    return [average_precision(there, seen, kind, most)[f"{kind}_{name}"] for name in ("AP", "AP50", "AP75")]


OTHER, CROWD = rectangle(30, 30, 8, 8), rectangle(20, 20, 20, 20)
HALF = rectangle(10, 10, 5, 10) | {"bbox": SQUARE["bbox"]}  # of the mask, with the right box
# What is there (image, category, what, crowd), what is found (..., score), and AP, AP50, AP75 of boxes and of masks.
CASES = {
    "exactly": ([(0, 5, SQUARE, 0), (1, 5, OTHER, 0)], [(0, 5, SQUARE, 0.9), (1, 5, OTHER, 0.4)], [1, 1, 1], [1, 1, 1]),
    # two of ten pixels: IoU 80 / 120 = .667, above four of the ten thresholds .5, .55, ..., .95
    "shifted": ([(0, 5, SQUARE, 0)], [(0, 5, rectangle(12, 10, 10, 10), 0.9)], [0.4, 1, 0], [0.4, 1, 0]),
    "half of the mask": ([(0, 5, SQUARE, 0)], [(0, 5, HALF, 0.9)], [1, 1, 1], [0.1, 1, 0]),
    # precision 1 up to recall .5, which 51 of the 101 points from 0 to 1 do not exceed
    "one of two": ([(0, 5, SQUARE, 0), (0, 5, OTHER, 0)], [(0, 5, SQUARE, 0.9)], [51 / 101] * 3, [51 / 101] * 3),
    "something surer": ([(0, 5, SQUARE, 0)], [(0, 5, SQUARE, 0.5), (0, 5, OTHER, 0.9)], [0.5] * 3, [0.5] * 3),
    "two categories": (
        [(0, 5, SQUARE, 0), (0, 9, OTHER, 0)], [(0, 5, SQUARE, 0.9), (0, 9, SQUARE, 0.8)], [0.5] * 3, [0.5] * 3,
    ),
    "on a crowd": (
        [(0, 5, SQUARE, 0), (0, 5, CROWD, 1)],
        [(0, 5, rectangle(22, 22, 5, 5), 0.95), (0, 5, rectangle(30, 30, 5, 5), 0.9), (0, 5, SQUARE, 0.5)],
        [1, 1, 1], [1, 1, 1],
    ),
    "nothing": ([(0, 5, SQUARE, 0)], [], [0, 0, 0], [0, 0, 0]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_by_hand(case):
    there, seen, box, mask = CASES[case]
    there = truth(*there, images=2)  # annotation ids begin with 0, which pycocotools alone would count as missed
    assert scores(there, found(*seen), "box") == pytest.approx(box)
    assert scores(there, found(*seen), "mask") == pytest.approx(mask)


def test_a_box_without_area_counts_as_missed():
    there = truth((0, 5, SQUARE, 0), (0, 5, rectangle(20, 20, 0, 5), 0))
    assert scores(there, found((0, 5, SQUARE, 0.9)), "box") == pytest.approx([51 / 101] * 3)


def test_only_so_many_detections_count():
    """Two of three: recall .667, which 67 points do not exceed."""
    places = [rectangle(x, 5, 8, 8) for x in (2, 14, 26)]
    there = truth(*((0, 5, place, 0) for place in places))
    seen = found(*((0, 5, place, 0.9 - 0.1 * i) for i, place in enumerate(places)))
    assert scores(there, seen, "box", most=3) == pytest.approx([1, 1, 1])
    assert scores(there, seen, "box", most=2) == pytest.approx([67 / 101] * 3)
