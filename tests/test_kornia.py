"""RandomIDAA and RandomCLAE keep kornia's conventions."""

import copy
import pickle
import subprocess
import sys

import kornia.augmentation as K
import pytest
import torch
from conftest import tiny_vae
from kornia.constants import DataKey, Resample
from torch import nn

from idaa_transforms import CLAETransform, IDAATransform
from idaa_transforms.kornia import RandomCLAE, RandomIDAA


@pytest.fixture(params=[RandomIDAA, RandomCLAE])
def make(request):
    if request.param is RandomCLAE:
        return lambda **options: RandomCLAE(0.01, **options)
    return lambda **options: RandomIDAA(tiny_vae(), 0.2, **options)


def changed(views, x):
    return (views != x).flatten(1).any(1)


def test_views_are_those_of_the_transforms(x, loss_fn):
    for ours, plain in (
        (RandomIDAA(tiny_vae(), 0.2, p=1.0, steps=2), IDAATransform(tiny_vae(), 0.2, steps=2)),
        (RandomCLAE(0.01, p=1.0), CLAETransform(0.01)),
    ):
        torch.testing.assert_close(ours(x, loss_fn=loss_fn), plain(x, loss_fn=loss_fn), atol=1e-6, rtol=0)


def test_replay_is_bit_exact_without_closure_or_autoencoder(make, x, loss_fn):
    aug = make(p=0.5)
    torch.manual_seed(1)
    views = aug(x, loss_fn=loss_fn)
    assert 0 < changed(views, x).sum() < 4
    aug.attack._hidden = (None,)  # no autoencoder any more
    assert torch.equal(aug(x, params=aug._params), views)


def test_p_selects_rows_and_only_these_are_encoded(x, loss_fn):
    aug, encoded, seen = RandomIDAA(tiny_vae(), 0.2, p=0.5), [], []
    aug.attack.autoencoder.encoder.register_forward_hook(lambda m, args, out: encoded.append(len(args[0])))
    torch.manual_seed(1)
    views = aug(x, loss_fn=lambda v: (seen.append(len(v)), loss_fn(v))[1])
    selected = aug._params["batch_prob"] > 0.5
    assert torch.equal(changed(views, x), selected)
    assert (encoded, seen) == ([int(selected.sum())], [4])
    assert torch.equal(make_p0(x, loss_fn), x)


def make_p0(x, loss_fn):
    return RandomIDAA(tiny_vae(), p=0.0)(x, loss_fn=loss_fn)


def test_in_inference_mode(make, x, loss_fn):
    aug = make(p=0.5)
    torch.manual_seed(1)
    with torch.inference_mode():
        views = aug(x.clone(), loss_fn=loss_fn)
    torch.manual_seed(1)
    assert torch.equal(views, aug(x, loss_fn=loss_fn))


def test_same_on_batch_takes_all_or_none(make, x, loss_fn):
    aug = make(p=0.5, same_on_batch=True)
    kinds = {tuple(changed(aug(x, loss_fn=loss_fn), x).tolist()) for _ in range(12)}
    assert kinds == {(True,) * 4, (False,) * 4}


def test_cardinality_and_keepdim(make, x):
    loss = lambda v: v.square().flatten(1).sum(1)  # noqa: E731
    assert make(p=1.0)(x[0], loss_fn=loss).shape == (1, 3, 16, 16)
    assert make(p=1.0, keepdim=True)(x[0], loss_fn=loss).shape == (3, 16, 16)
    assert make(p=1.0, keepdim=True)(x[0], grad=x[0]).shape == (3, 16, 16)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_and_devices(make, x, dtype, device):
    aug, x = make(p=1.0).to(device), x.to(device, dtype)
    views = aug(x, loss_fn=lambda v: v.float().square().sum())
    assert (views.dtype, views.device) == (dtype, x.device)
    assert torch.equal(aug(x, params=aug._params), views)


def test_gradient_of_later_steps_reaches_the_images(make, x, loss_fn):
    """kornia's augmentations are differentiable: this one is the identity plus a constant."""
    x = x.requires_grad_()
    make(p=1.0)(x, loss_fn=loss_fn).sum().backward()
    assert torch.equal(x.grad, torch.ones_like(x))


class TestContainers:
    @pytest.mark.parametrize("container", [K.AugmentationSequential, K.ImageSequential])
    def test_bound_bind_and_replay(self, make, x, loss_fn, container):
        aug = make(p=0.5)
        kwargs = {"data_keys": ["input"]} if container is K.AugmentationSequential else {}
        pipeline = container(K.RandomHorizontalFlip(p=0.5), aug, K.RandomGrayscale(p=0.5), **kwargs)
        with aug.bound(loss_fn):
            views = pipeline(x)
        replayed = pipeline(x, params=pipeline._params)
        assert torch.equal(replayed, views)
        nested = container(container(aug, **kwargs), K.RandomHorizontalFlip(), **kwargs)
        with aug.bound(loss_fn):
            assert nested(x).shape == x.shape

    def test_masks_boxes_keypoints_and_dicts_pass(self, make, x, loss_fn):
        aug = make(p=1.0)
        keys = ["input", "mask", "bbox_xyxy", "keypoints", "class"]
        pipeline = K.AugmentationSequential(aug, data_keys=keys)
        mask, boxes = torch.rand(4, 1, 16, 16), torch.tensor([[[1.0, 2.0, 5.0, 6.0]]]).repeat(4, 1, 1)
        points, labels = torch.rand(4, 2, 2), torch.arange(4)
        with aug.bound(loss_fn):
            out = pipeline(x, mask, boxes, points, labels)
        assert changed(out[0], x).all()
        for before, after in zip((mask, boxes, points, labels), out[1:], strict=True):
            torch.testing.assert_close(after, before)
        with aug.bound(loss_fn):
            out = K.AugmentationSequential(aug, data_keys=None)({"input": x, "mask": mask})
        assert changed(out["input"], x).all()
        torch.testing.assert_close(out["mask"], mask)

    def test_random_apply(self, make, x, loss_fn):
        aug = make(p=1.0)
        pipeline = K.AugmentationSequential(aug, K.RandomGrayscale(p=1.0), data_keys=["input"], random_apply=1)
        torch.manual_seed(0)
        with aug.bound(loss_fn):
            views = [pipeline(x) for _ in range(8)]
        gray = [torch.allclose(v[:, 0], v[:, 1]) for v in views]
        assert set(gray) == {True, False}  # one of the two in each call

    def test_the_autoencoder_stays_frozen_in_a_container_that_trains(self, x, loss_fn):
        aug = RandomIDAA(tiny_vae(), p=1.0)
        model = nn.Sequential(K.AugmentationSequential(aug, data_keys=["input"]), nn.Flatten()).train()
        assert not any(m.training for m in aug.attack.autoencoder.modules())
        assert not [p for p in model.parameters() if p.requires_grad]

    @pytest.mark.parametrize("data_format", ["BCTHW", "BTCHW"])
    @pytest.mark.parametrize("same_on_frame", [True, False])
    def test_videos(self, make, data_format, same_on_frame):
        aug, seen = make(p=0.5), []
        clips = torch.rand(3, 3, 5, 16, 16) if data_format == "BCTHW" else torch.rand(3, 5, 3, 16, 16)
        pipeline = K.VideoSequential(aug, data_format=data_format, same_on_frame=same_on_frame)
        torch.manual_seed(0)
        with aug.bound(lambda v: (seen.append(tuple(v.shape)), v.square().flatten(1).sum(1))[1]):
            views = pipeline(clips)
        assert seen == [(15, 3, 16, 16)]  # frames, clip after clip
        moved = ((views != clips).transpose(1, 2) if data_format == "BCTHW" else views != clips).flatten(2).any(2)
        assert 0 < moved.sum() < 15
        assert bool((moved == moved[:, :1]).all()) == same_on_frame
        assert torch.equal(pipeline(clips, params=pipeline._params), views)

    def test_inverse_undoes_the_geometry_and_keeps_the_change(self, make, x, loss_fn):
        aug = make(p=1.0)
        pipeline = K.AugmentationSequential(aug, K.RandomHorizontalFlip(p=1.0), data_keys=["input"])
        with aug.bound(loss_fn):
            views = pipeline(x)
        assert torch.equal(pipeline.inverse(views), views.flip(-1))
        assert torch.equal(aug.transform_matrix, torch.eye(3).expand(4, 3, 3))

    def test_extra_args_for_masks(self, make, x, loss_fn):
        aug = make(p=1.0)
        extra = {DataKey.MASK: {"resample": Resample.NEAREST, "align_corners": True}}
        keys = ["input", "mask"]
        pipeline = K.AugmentationSequential(aug, K.RandomRotation(30.0, p=1.0), data_keys=keys, extra_args=extra)
        mask = (torch.rand(4, 1, 16, 16) > 0.5).float()
        with aug.bound(loss_fn):
            _, turned = pipeline(x, mask)
        assert set(turned.unique().tolist()) == {0.0, 1.0}


class TestSeveralImages:
    """Two batches of one call get changes of their own, and a replay knows which is whose."""

    def test_in_one_container(self, make, x, loss_fn):
        aug, other = make(p=1.0), x.flip(0).flip(-1) * 0.9
        pipeline = K.AugmentationSequential(aug, data_keys=["input", "input"])
        with aug.bound(loss_fn):
            views = pipeline(x, other)
            alone = [aug(x), aug(other)]
        for found, expected in zip(views, alone, strict=True):
            assert torch.equal(found, expected)
        first, second = pipeline(x, other, params=pipeline._params)
        assert torch.equal(first, views[0])
        assert torch.equal(second, views[1])
        with pytest.raises(ValueError, match="hold the changes of 2 batches, and none of these images"):
            pipeline(x + 0.01, other, params=pipeline._params)

    def test_params_that_hold_a_change_are_not_attacked_again(self, make, x, loss_fn):
        aug = make(p=1.0)
        params = aug.forward_parameters(x.shape)
        aug(x, params=params, loss_fn=loss_fn)
        for source in ({"loss_fn": lambda v: -loss_fn(v)}, {"grad": x}):
            with pytest.raises(ValueError, match="params hold the change of an earlier call"):
                aug(x.flip(0), params=params, **source)
        assert torch.equal(aug(x, params=params), aug(x, loss_fn=loss_fn))  # both cures
        fresh = aug.forward_parameters(x.shape)
        assert torch.equal(aug(x, params=fresh, loss_fn=loss_fn), aug(x, loss_fn=loss_fn))


class TestBind:
    @pytest.mark.parametrize("same_on_batch", [False, True])
    def test_replays_in_containers_as_bound_does(self, make, x, loss_fn, same_on_batch):
        aug = make(p=0.5, same_on_batch=same_on_batch)
        pipeline = K.AugmentationSequential(K.RandomHorizontalFlip(p=0.5), aug.bind(loss_fn), data_keys=["input"])
        for seed in range(6):
            torch.manual_seed(seed)
            views = pipeline(x)
            chosen = pipeline._params[1].data["batch_prob"] > 0.5
            assert not same_on_batch or len(set(chosen.tolist())) == 1
            assert torch.equal(pipeline(x, params=pipeline._params), views)
            flipped = K.AugmentationSequential(K.RandomHorizontalFlip(p=0.5), aug, data_keys=["input"])
            torch.manual_seed(seed)
            with aug.bound(loss_fn):
                assert torch.equal(flipped(x), views)

    def test_one_closure_each(self, make, x, loss_fn):
        aug = make(p=1.0)
        mine = aug.bind(loss_fn)
        assert repr(mine).endswith(".bind(loss)")
        with pytest.raises(TypeError, match="has its closure"):
            mine.bind(loss_fn)
        with mine.bound(loss_fn), pytest.raises(ValueError, match="bound twice"):
            mine(x)
        assert torch.equal(aug.bind(lambda v: -loss_fn(v))(x), aug(x, loss_fn=lambda v: -loss_fn(v)))


class TestAsKorniasOwn:
    """What kornia's generic tests ask of each augmentation."""

    def test_params_without_a_draw_take_all_rows(self, make, x, loss_fn):
        aug = make(p=0.5)
        params = {}
        assert torch.equal(aug(x, params=params, loss_fn=loss_fn), make(p=1.0)(x, loss_fn=loss_fn))
        assert params["batch_prob"].all()

    def test_apply_transform_with_fresh_params(self, make, x, loss_fn):
        aug = make(p=1.0)
        params = aug.forward_parameters(x.shape)
        with aug.bound(loss_fn):
            view = aug.apply_transform(x, params, aug.flags)
        assert torch.equal(view, aug(x, loss_fn=loss_fn))
        with pytest.raises(ValueError, match="nothing to maximise"):
            aug.apply_transform(x, aug.forward_parameters(x.shape), aug.flags)

    def test_no_selected_row_asks_for_no_closure(self, make, x):
        assert torch.equal(make(p=0.0)(x), x)
        assert torch.equal(K.AugmentationSequential(make(p=0.0), data_keys=["input"])(x), x)

    def test_an_empty_batch(self, make, x, loss_fn):
        assert make(p=1.0)(x[:0], loss_fn=loss_fn).shape == (0, 3, 16, 16)


def test_from_pretrained_with_saved_settings(tmp_path, x, loss_fn):
    IDAATransform(tiny_vae(), 0.3, norm="l2").save_pretrained(tmp_path)
    aug = RandomIDAA.from_pretrained(tmp_path, p=1.0, steps=2)
    expected = IDAATransform(tiny_vae(), 0.3, norm="l2", steps=2)(x, loss_fn=loss_fn)
    torch.testing.assert_close(aug(x, loss_fn=loss_fn), expected, atol=1e-6, rtol=0)
    assert "norm='l2', steps=2, p=1.0, same_on_batch=False" in repr(aug)


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_copies(make, x, loss_fn, copier):
    aug = make(p=1.0)
    assert torch.equal(copier(aug)(x, loss_fn=loss_fn), aug(x, loss_fn=loss_fn))


def test_errors(make, x, loss_fn):
    aug = make(p=0.5)
    with pytest.raises(ValueError, match="nothing to maximise"):
        aug(x)
    aug(x, loss_fn=loss_fn)
    with pytest.raises(
        ValueError, match=r"of a batch of shape \(4, 3, 16, 16\) and cannot be replayed on one of shape"
    ):
        aug(x[:2], params=aug._params)


def test_an_older_kornia_is_refused():
    code = "import kornia; kornia.__version__ = '0.8.3'; import idaa_transforms.kornia"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "kornia 0.8.3 hands augmentations a part of the batch; 0.9 or newer is needed" in run.stderr
