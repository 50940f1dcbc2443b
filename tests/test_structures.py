"""What torchvision v2 passes around: tuples, dicts, tv_tensors, containers."""

import itertools
import pickle

import numpy as np
import pytest
import torch
from conftest import tiny_vae
from torch import nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from idaa_transforms import CLAETransform, IDAATransform
from idaa_transforms.autoencoders import Wrapped


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


def test_several_images_with_one_closure_or_one_each(x, aug, loss_fn):
    a, b = tv_tensors.Image(x), tv_tensors.Image(x.flip(0))
    opposite = lambda v: -loss_fn(v)  # noqa: E731
    expected = [aug(x, loss_fn=loss_fn), aug(x.flip(0), loss_fn=loss_fn), aug(x.flip(0), loss_fn=opposite)]
    out = aug({"a": a, "b": b}, loss_fn=loss_fn)
    assert all(torch.equal(out[k], v) for k, v in zip("ab", expected, strict=False))
    out = aug(a, torch.arange(4), b, loss_fn=[loss_fn, opposite])
    assert torch.equal(out[0], expected[0])
    assert torch.equal(out[2], expected[2])
    with aug.bound([loss_fn, opposite]):
        assert torch.equal(aug(a, b)[1], expected[2])
    gradients = [torch.randn_like(x), torch.randn_like(x)]
    assert torch.equal(aug(a, b, grad=gradients)[1], aug(b, grad=gradients[1]))
    with pytest.raises(ValueError, match="3 loss_fns were given for 2 batches of images; pass one for each"):
        aug(a, b, loss_fn=[loss_fn] * 3)


@pytest.mark.parametrize("make", [lambda **o: IDAATransform(tiny_vae(), **o), lambda **o: CLAETransform(0.01, **o)])
def test_videos(make):
    """The closure sees clips, and p and eps are theirs; the autoencoder sees frames."""
    clips, seen = torch.rand(3, 5, 3, 16, 16), []

    def loss_fn(views):
        seen.append(tuple(views.shape))
        return (
            (views.flatten(0, 1) if views.ndim == 5 else views).square().flatten(1).sum(1).view(len(views), -1).sum(1)
        )

    video = make()(tv_tensors.Video(clips), loss_fn=loss_fn)
    assert type(video) is tv_tensors.Video
    assert seen == [(3, 5, 3, 16, 16)]
    frames = make()(clips.flatten(0, 1), loss_fn=loss_fn)
    torch.testing.assert_close(video.as_subclass(torch.Tensor), frames.view_as(clips), atol=1e-6, rtol=0)
    some = make()(tv_tensors.Video(clips), loss_fn=loss_fn, eps=torch.tensor([0.0, 0.1, 0.0]))
    torch.testing.assert_close(some[::2], clips[::2], atol=1e-6, rtol=0)
    assert ((some[1] - clips[1]).abs().amax((1, 2, 3)) > 1e-3).all()
    torch.manual_seed(0)
    skipped = (make(p=0.5)(clips, loss_fn=loss_fn) == clips).flatten(2).all(2)
    assert bool((skipped == skipped[:, :1]).all())
    torch.testing.assert_close(make(chunk_size=2)(clips, loss_fn=loss_fn), video.as_subclass(torch.Tensor))
    one_clip = make()(tv_tensors.Video(clips[0]), loss_fn=loss_fn)  # (T, C, H, W): a batch of frames
    torch.testing.assert_close(one_clip.as_subclass(torch.Tensor), frames[:5], atol=1e-6, rtol=0)


def test_after_cutmix_and_in_a_collate_fn(x, aug, encoder):
    encoder.eval()
    labels = torch.arange(4) % 6
    dataset = torch.utils.data.TensorDataset(x, labels)
    mix = v2.CutMix(num_classes=6, alpha=1.0)
    targets = []

    def loss_fn(views):
        return nn.functional.cross_entropy(encoder(views), targets[-1], reduction="none")

    def collate(batch):
        images, mixed = mix(*torch.utils.data.default_collate(batch))
        targets.append(mixed)
        return images, *aug(images, mixed, loss_fn=loss_fn)

    for images, views, mixed in torch.utils.data.DataLoader(dataset, 2, collate_fn=collate):
        assert mixed.shape == (2, 6)
        assert mixed is targets[-1]
        assert (views != images).flatten(1).any(1).all()


@pytest.mark.parametrize(
    ("container", "kind", "pickled"),
    list(itertools.product(["alone", "Compose", "Sequential"], ["tensor", "Image", "dict", "pair"], [False, True])),
)
def test_containers_inputs_pickles_and_devices(container, kind, pickled, x, device):
    x = x.to(device)
    aug = IDAATransform(tiny_vae()).to(device)
    if pickled:
        aug = pickle.loads(pickle.dumps(aug))
    steps = {"alone": aug, "Compose": v2.Compose([v2.Identity(), aug]), "Sequential": nn.Sequential(v2.Identity(), aug)}
    image = x if kind == "tensor" else tv_tensors.Image(x)
    sample = {"dict": {"image": image, "label": 3}, "pair": (image, torch.arange(4))}.get(kind, image)
    expected = aug(x, loss_fn=lambda v: v.square().sum())
    with aug.bound(lambda v: v.square().sum()):
        out = steps[container](sample)
    view = out["image"] if kind == "dict" else out[0] if kind == "pair" else out
    assert type(view) is type(image)
    assert torch.equal(view.as_subclass(torch.Tensor), expected)


def test_inputs_without_images_pass_as_in_torchvision():
    aug, labels = IDAATransform(tiny_vae()), np.arange(3)
    assert aug("text") == "text"
    assert aug(labels) is labels
    assert aug({"label": 3, "name": "a"}) == {"label": 3, "name": "a"}


def test_a_clip_of_no_frames():
    aug, clip = IDAATransform(tiny_vae()), tv_tensors.Video(torch.rand(2, 0, 3, 16, 16))
    assert aug(clip, loss_fn=lambda v: v.sum()).shape == clip.shape


def test_frames_that_are_no_multiple_of_the_factor():
    """Padded frame by frame, each as the same frame alone."""
    net = nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), nn.ConvTranspose2d(4, 3, 2, stride=2))
    aug = IDAATransform(Wrapped(net[0], net[1], factor=2), 0.1)
    clips = torch.rand(2, 3, 3, 17, 11, generator=torch.Generator().manual_seed(0))
    loss = lambda v: (v - 0.3).square().flatten(1).sum(1)  # noqa: E731
    views = aug(tv_tensors.Video(clips), loss_fn=loss)
    frames = aug(clips.flatten(0, 1), loss_fn=loss)
    torch.testing.assert_close(views.as_subclass(torch.Tensor).flatten(0, 1), frames)
