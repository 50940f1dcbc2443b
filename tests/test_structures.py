"""What torchvision v2 passes around: tuples, dicts, tv_tensors, containers; and how a closure gets into these."""

import contextlib
import itertools
import pickle
import threading

import numpy as np
import pytest
import torch
from conftest import Encoder, changed, images, rising, tiny_vae
from torch import nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from idaa_transforms import CLAETransform, IDAATransform


def opposite(loss_fn):
    return lambda views: -loss_fn(views)


@pytest.mark.parametrize(
    ("container", "kind", "pickled"),
    list(itertools.product(["alone", "Compose", "Sequential"], ["tensor", "Image", "dict", "pair"], [False, True])),
)
def test_containers_inputs_and_pickles(container, kind, pickled, x):
    aug = IDAATransform(tiny_vae())
    assert isinstance(aug, v2.Transform)
    expected = aug(x, loss_fn=rising)
    if pickled:
        aug = pickle.loads(pickle.dumps(aug))
    wrap = {"alone": lambda a: a, "Compose": lambda a: v2.Compose([v2.Identity(), a]), "Sequential": nn.Sequential}
    image = x if kind == "tensor" else tv_tensors.Image(x)
    sample = {"dict": {"image": image, "label": 3}, "pair": (image, torch.arange(4))}.get(kind, image)
    with aug.bound(rising):
        found = [wrap[container](aug)(sample)]
    found.append(wrap[container](aug.bind(rising))(sample))
    for out in found:
        view = out["image"] if kind == "dict" else out[0] if kind == "pair" else out
        assert type(view) is type(image)
        assert torch.equal(view.as_subclass(torch.Tensor), expected)


def test_all_but_images_passes(x, aug, loss_fn):
    sample = {
        "label": torch.arange(4),
        "image": tv_tensors.Image(x),
        "mask": tv_tensors.Mask(torch.ones(4, 16, 16)),
        "boxes": tv_tensors.BoundingBoxes(torch.tensor([[1, 2, 3, 4]]), format="XYXY", canvas_size=(16, 16)),
        "rest": [("note", None)],
    }
    out = aug(sample, loss_fn=loss_fn)
    assert torch.equal(out["image"].as_subclass(torch.Tensor), aug(x, loss_fn=loss_fn))
    assert all(out[key] is sample[key] for key in ("label", "mask", "boxes"))
    assert out["rest"] == sample["rest"]
    labels = np.arange(3)
    assert aug(labels) is labels  # as in torchvision, where nobody asked for views
    assert aug({"label": 3, "name": "a"}) == {"label": 3, "name": "a"}


def test_several_images_with_one_closure_or_one_each(x, aug, loss_fn):
    a, b = tv_tensors.Image(x), tv_tensors.Image(x.flip(0))
    both = [loss_fn, opposite(loss_fn)]
    expected = [aug(x, loss_fn=loss_fn), aug(x.flip(0), loss_fn=loss_fn), aug(x.flip(0), loss_fn=both[1])]
    out = aug({"a": a, "b": b}, loss_fn=loss_fn)
    assert torch.equal(out["a"], expected[0])
    assert torch.equal(out["b"], expected[1])
    out = aug(a, torch.arange(4), b, loss_fn=both)
    assert torch.equal(out[0], expected[0])
    assert torch.equal(out[2], expected[2])
    with aug.bound(both):
        assert torch.equal(aug(a, b)[1], expected[2])
    gradients = [torch.randn_like(x), torch.randn_like(x)]
    assert torch.equal(aug(a, b, grad=gradients)[1], aug(b, grad=gradients[1]))


@pytest.mark.parametrize("make", [lambda **o: IDAATransform(tiny_vae(), **o), lambda **o: CLAETransform(0.01, **o)])
def test_videos(make):
    """The closure sees clips, and p and eps are theirs; the autoencoder sees frames."""
    clips, seen = images((3, 5, 3, 16, 16)), []

    def loss_fn(views):
        seen.append(tuple(views.shape))
        return views.square().flatten(-3).sum(-1).view(len(views), -1).sum(1)

    video = make()(tv_tensors.Video(clips), loss_fn=loss_fn)
    assert type(video) is tv_tensors.Video
    assert seen == [(3, 5, 3, 16, 16)]
    frames = make()(clips.flatten(0, 1), loss_fn=loss_fn)
    torch.testing.assert_close(video.as_subclass(torch.Tensor), frames.view_as(clips), atol=1e-6, rtol=0)
    some = make()(tv_tensors.Video(clips), loss_fn=loss_fn, eps=torch.tensor([0.0, 0.1, 0.0]))
    torch.testing.assert_close(some[::2], clips[::2], atol=1e-6, rtol=0)
    assert ((some[1] - clips[1]).abs().amax((1, 2, 3)) > 1e-3).all()
    skipped = (make(p=0.5)(clips, loss_fn=loss_fn) == clips).flatten(2).all(2)
    assert bool((skipped == skipped[:, :1]).all())
    one_clip = make()(tv_tensors.Video(clips[0]), loss_fn=loss_fn)  # (T, C, H, W): a batch of frames
    torch.testing.assert_close(one_clip.as_subclass(torch.Tensor), frames[:5], atol=1e-6, rtol=0)
    empty = tv_tensors.Video(clips[:, :0])
    assert make()(empty, loss_fn=loss_fn).shape == empty.shape


def test_after_cutmix_and_in_a_collate_fn(x, aug, encoder):
    encoder.eval()
    dataset = torch.utils.data.TensorDataset(x, torch.arange(4))
    mix = v2.CutMix(num_classes=6, alpha=1.0)

    def collate(batch):
        pictures, mixed = mix(*torch.utils.data.default_collate(batch))
        loss_fn = lambda v: nn.functional.cross_entropy(encoder(v), mixed, reduction="none")  # noqa: E731
        return pictures, mixed, *aug(pictures, mixed, loss_fn=loss_fn)

    for pictures, mixed, views, passed in torch.utils.data.DataLoader(dataset, 2, collate_fn=collate):
        assert passed is mixed
        assert changed(views, pictures).all()


class TestBoundAndBind:
    def test_reach_only_their_own_transform_and_block(self, x, vae, loss_fn):
        aug, other = IDAATransform(vae), IDAATransform(vae)
        with contextlib.suppress(ZeroDivisionError), aug.bound(loss_fn):
            outer = aug(x)
            assert torch.equal(outer, aug(x, loss_fn=loss_fn))
            with pytest.raises(ValueError, match="nothing to maximise"):
                other(x)
            with aug.bound(opposite(loss_fn)):
                assert torch.equal(aug(x), aug(x, loss_fn=opposite(loss_fn)))
                assert torch.equal(aug(x, loss_fn=loss_fn), outer)
            assert torch.equal(aug(x), outer)
            raise ZeroDivisionError
        with pytest.raises(ValueError, match="nothing to maximise"):
            aug(x)

    def test_threads_have_closures_of_their_own(self, x, aug, loss_fn):
        """As two threads that load and augment side by side would use one transform."""
        losses = [loss_fn, opposite(loss_fn)]
        expected, found, caught = [aug(x, loss_fn=loss) for loss in losses], [[], []], []
        barrier = threading.Barrier(2, timeout=30)

        def work(i):
            try:
                aug(x)
            except ValueError as error:
                caught.append(str(error))
            with aug.bound(losses[i]):
                for _ in range(5):
                    barrier.wait()
                    found[i].append(aug(x))

        with aug.bound(loss_fn):
            threads = [threading.Thread(target=work, args=(i,)) for i in (0, 1)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(caught) == 2
        assert "in the same thread" in caught[0]
        assert all(len(found[i]) == 5 and all(torch.equal(v, expected[i]) for v in found[i]) for i in (0, 1))

    def test_bind_does_not_register_a_module_of_the_users(self, aug):
        bound = aug.bind(Encoder())
        assert len(list(bound.parameters())) == 0
        assert repr(bound) == f"{aug!r}.bind(Encoder)"
