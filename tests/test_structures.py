"""What torchvision v2 passes around: tuples, dicts, tv_tensors, containers."""

import torch
from torch import nn
from torchvision import tv_tensors
from torchvision.transforms import v2


def test_tuples_dicts_and_labels(x, aug, loss_fn):
    y, note = torch.arange(4), "note"
    views = aug(x, loss_fn=loss_fn)
    pair = aug(x, y, loss_fn=loss_fn)
    assert torch.equal(pair[0], views)
    assert pair[1] is y
    nested = aug({"image": x, "rest": [y, (note, None)]}, loss_fn=loss_fn)
    assert torch.equal(nested["image"], views)
    assert nested["rest"] == [y, (note, None)]


def test_tv_tensors_keep_their_type_and_only_images_change(x, aug, loss_fn):
    sample = {
        "label": torch.arange(4),
        "image": tv_tensors.Image(x),
        "mask": tv_tensors.Mask(torch.ones(4, 16, 16)),
        "boxes": tv_tensors.BoundingBoxes(torch.tensor([[1, 2, 3, 4]]), format="XYXY", canvas_size=(16, 16)),
    }
    out = aug(sample, loss_fn=loss_fn)
    assert type(out["image"]) is tv_tensors.Image
    assert torch.equal(out["image"].as_subclass(torch.Tensor), aug(x, loss_fn=loss_fn))
    assert all(out[key] is sample[key] for key in ("label", "mask", "boxes"))


def test_containers_by_bound_and_bind(x, aug, loss_fn):
    flip = v2.RandomHorizontalFlip(p=1.0)
    expected = aug(flip(x), loss_fn=loss_fn)
    for container in (lambda a: v2.Compose([flip, a]), lambda a: nn.Sequential(flip, a)):
        with aug.bound(loss_fn):
            assert torch.equal(container(aug)(x), expected)
        assert torch.equal(container(aug.bind(loss_fn))(x), expected)
    image, label = v2.Compose([flip, aug.bind(loss_fn)])(x, torch.arange(4))
    assert torch.equal(image, expected)
    assert torch.equal(label, torch.arange(4))


def test_isinstance_of_a_v2_transform(aug):
    assert isinstance(aug, v2.Transform)
