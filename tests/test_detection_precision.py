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


@pytest.mark.parametrize("kind", ["box", "mask"])
def test_what_is_found_exactly_has_one(kind):
    """Annotation ids begin with 0 here, which pycocotools alone would count as missed."""
    there = truth((0, 5, SQUARE, 0), (1, 5, rectangle(0, 0, 7, 9), 0), images=2)
    seen = found((0, 5, SQUARE, 0.9), (1, 5, rectangle(0, 0, 7, 9), 0.4))
    assert scores(there, seen, kind) == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("kind", ["box", "mask"])
def test_shifted_by_a_fifth(kind):
    """Two of ten pixels: IoU 80 / 120 = .667, above four of the ten thresholds .5, .55, ..., .95."""
    seen = found((0, 5, rectangle(12, 10, 10, 10), 0.9))
    assert scores(truth((0, 5, SQUARE, 0)), seen, kind) == pytest.approx([0.4, 1, 0])


def test_a_mask_counts_by_its_pixels_and_not_by_its_box():
    """Half of the mask, IoU .5: the lowest threshold alone; the box is right."""
    half = rectangle(10, 10, 5, 10) | {"bbox": SQUARE["bbox"]}
    there, seen = truth((0, 5, SQUARE, 0)), found((0, 5, half, 0.9))
    assert scores(there, seen, "box") == pytest.approx([1, 1, 1])
    assert scores(there, seen, "mask") == pytest.approx([0.1, 1, 0])


@pytest.mark.parametrize("kind", ["box", "mask"])
def test_one_of_two_found(kind):
    """Precision 1 up to recall .5, which 51 of the 101 points from 0 to 1 do not exceed."""
    there = truth((0, 5, SQUARE, 0), (0, 5, rectangle(30, 30, 8, 8), 0))
    assert scores(there, found((0, 5, SQUARE, 0.9)), kind) == pytest.approx([51 / 101] * 3)


def test_the_mean_over_categories_that_are_there():
    there = truth((0, 5, SQUARE, 0), (0, 9, rectangle(30, 30, 8, 8), 0))
    seen = found((0, 5, SQUARE, 0.9), (0, 9, SQUARE, 0.8))
    assert scores(there, seen, "box") == pytest.approx([0.5] * 3)
    assert scores(truth((0, 5, SQUARE, 0)), seen, "box") == pytest.approx([1, 1, 1])


def test_what_is_found_on_a_crowd_is_excused():
    there = truth((0, 5, SQUARE, 0), (0, 5, rectangle(20, 20, 20, 20), 1))
    seen = found((0, 5, rectangle(22, 22, 5, 5), 0.95), (0, 5, rectangle(30, 30, 5, 5), 0.9), (0, 5, SQUARE, 0.5))
    for kind in ("box", "mask"):
        assert scores(there, seen, kind) == pytest.approx([1, 1, 1])


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
