"""COCO folders of examples/detection: what they hold, and one line for all that can be wrong with them."""

import json

import pytest
import torch
from pycocotools import mask as rle
from toy_coco import write

from examples.detection.coco import read
from examples.detection.config import configure
from examples.detection.views import Views, passes


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "toy")


@pytest.fixture
def edit(folder):
    """Change the annotations of a part by a function, and read them."""

    def change(function, part="train", masks=True):
        file = folder / "annotations" / f"instances_{part}.json"
        content = json.loads(file.read_text())
        function(content)
        file.write_text(json.dumps(content))
        return read(folder, part, masks)

    return change


def test_boxes_labels_and_masks_are_those_of_the_pictures(folder):
    """Squares (category 3, label 1) are polygons, discs (category 7, label 2) are RLE: both match the pixels."""
    coco = read(folder, "train", True)
    assert (list(coco.names.values()), coco.labels) == (["square", "disc"], {3: 1, 7: 2})
    assert len({type(one["segmentation"]) for found in coco.annotations for one in found}) == 2
    for i in range(6):
        picture, target = coco.picture(i), coco.target(i)
        drawn = {1: picture[0] > 128, 2: picture[1] > 128}
        for box, label, mask in zip(target["boxes"].int().tolist(), target["labels"], target["masks"], strict=True):
            assert torch.equal(mask.bool(), mask.bool() & drawn[int(label)])
            y, x = mask.nonzero().T
            assert [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1] == box
        assert int(target["masks"].sum()) == int((drawn[1] | drawn[2]).sum())


def test_crowds_and_boxes_without_area_are_not_trained_on(edit):
    def change(content):
        first, second = content["annotations"][:2]
        first |= {"iscrowd": 1, "segmentation": {"size": [64, 64], "counts": [100, 50, 64 * 64 - 150]}}
        second["bbox"][2] = 0

    coco = edit(change)
    assert coco.usable() == [1, 2, 3, 4, 5]
    assert coco.target(0)["masks"].shape == (0, 64, 64)
    truth = coco.truth([0], True)["annotations"]  # an evaluation has both
    assert [(one["id"], one["iscrowd"]) for one in truth] == [(1, 1), (2, 0)]
    assert rle.area(truth[0]["segmentation"]) == 50


FIRST = "instances_train.json: annotation 0: "
WRONG = {  # change of the first annotation, what is said
    "category": ({"category_id": 4}, FIRST + r"its category_id 4 is none of the categories \(3, 7\)"),
    "box": ({"bbox": [1, 2, 3]}, FIRST + r"its bbox is \[1, 2, 3\], not \[x, y, width, height\]"),
    "no number": ({"bbox": [float("nan")] * 4}, FIRST + r"its bbox is \[nan"),
    "no mask": ({"segmentation": []}, FIRST + "it has no segmentation; --model faster needs boxes alone"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_annotation_that_is_wrong_is_named(case, edit):
    change, message = WRONG[case]
    with pytest.raises(ValueError, match=message) as told:
        edit(lambda content: content["annotations"][0].update(change))
    assert "\n" not in str(told.value)


def test_views_move_boxes_and_masks_with_the_picture(folder):
    config = configure(["--scale", "smoke", "--sizes", "48", "80", "--crop", "40"])
    coco = read(folder, "train", True)
    views = Views(coco, config)
    for i in range(6):
        for seed in range(4):
            image, target = views[i, seed]
            assert image.shape == (3, 40, 40)
            assert len(target["labels"])
            drawn = {1: image[0] > 0.5, 2: image[1] > 0.5}
            for box, label, mask in zip(target["boxes"], target["labels"], target["masks"].bool(), strict=True):
                inside = mask & ~drawn[int(label)]
                assert inside.sum() <= 0.25 * mask.sum() + 8  # but for the smooth edge
                y, x = mask.nonzero().T
                edges = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1]) if len(x) else box
                assert (edges - box).abs().max() <= 2
    again = views[2, 3]
    torch.manual_seed(5)
    assert torch.equal(again[0], views[2, 3][0])


def test_every_image_comes_once_an_epoch_whatever_was_before(folder, monkeypatch):
    config = configure(["--scale", "smoke", "--batch-size", "4", "--pass-size", "2"])
    coco = read(folder, "train", True)
    monkeypatch.setattr(Views, "__getitem__", lambda self, item: item)
    seen = [i for one in passes(coco, coco.usable(), config, 0, 3, slice(None)) for i, _ in one]
    assert sorted(seen[:6]) == sorted(seen[6:]) == list(range(6))
    monkeypatch.undo()
    whole = list(passes(coco, coco.usable(), config, 0, 3, slice(None)))
    assert [len(one) for one in whole] == [2] * 6
    late = list(passes(coco, coco.usable(), config, 2, 3, slice(1, None, 2)))
    assert len(late) == 1
    assert torch.equal(late[0][1][0], whole[5][1][0])
