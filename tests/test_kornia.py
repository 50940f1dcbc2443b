"""RandomIDAA and RandomCLAE keep kornia's conventions."""

import kornia.augmentation as K
import pytest
import torch
from conftest import changed, rising, tiny_vae

from idaa_transforms import CLAETransform, IDAATransform
from idaa_transforms.kornia import RandomCLAE, RandomIDAA


@pytest.fixture(params=[RandomIDAA, RandomCLAE])
def make(request):
    if request.param is RandomCLAE:
        return lambda **options: RandomCLAE(0.01, **options)
    return lambda **options: RandomIDAA(tiny_vae(), 0.2, **options)


def sequence(*augmentations, keys=("input",), **options):
    return K.AugmentationSequential(*augmentations, data_keys=list(keys), **options)


class TestAlone:
    def test_views_are_those_of_the_transforms(self, x, loss_fn):
        for ours, plain in (
            (RandomIDAA(tiny_vae(), 0.2, p=1.0, steps=2), IDAATransform(tiny_vae(), 0.2, steps=2)),
            (RandomCLAE(0.01, p=1.0), CLAETransform(0.01)),
        ):
            torch.testing.assert_close(ours(x, loss_fn=loss_fn), plain(x, loss_fn=loss_fn), atol=1e-6, rtol=0)
            assert torch.equal(ours.explain(x, loss_fn=loss_fn).delta, plain.explain(x, loss_fn=loss_fn).delta)

    def test_p_selects_rows_which_alone_are_attacked_and_replay_is_bit_exact(self, make, x, loss_fn):
        aug, seen = make(p=0.5), []
        torch.manual_seed(1)
        views = aug(x, loss_fn=lambda v: (seen.append(len(v)), loss_fn(v))[1])
        selected = aug._params["batch_prob"] > 0.5
        assert 0 < selected.sum() < 4
        assert torch.equal(changed(views, x), selected)
        assert seen == [4]
        assert aug.stats()["attacked"] == selected.sum()
        for name in ("encode", "encode_mean", "decode"):  # no autoencoder any more, and no closure
            setattr(aug.attack.autoencoder, name, None)
        assert torch.equal(aug(x, params=aug._params), views)

    def test_in_inference_mode(self, make, x, loss_fn):
        aug = make(p=0.5)
        torch.manual_seed(1)
        with torch.inference_mode():
            views = aug(x.clone(), loss_fn=loss_fn)
        torch.manual_seed(1)
        assert torch.equal(views, aug(x, loss_fn=loss_fn))

    def test_same_on_batch_takes_all_or_none(self, make, x, loss_fn):
        aug = make(p=0.5, same_on_batch=True)
        kinds = {tuple(changed(aug(x, loss_fn=loss_fn), x).tolist()) for _ in range(12)}
        assert kinds == {(True,) * 4, (False,) * 4}

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_dtypes_and_devices(self, make, x, dtype, device):
        aug, x = make(p=1.0).to(device), x.to(device, dtype)
        views = aug(x, loss_fn=lambda v: v.float().square().sum())
        assert (views.dtype, views.device) == (dtype, x.device)
        assert torch.equal(aug(x, params=aug._params), views)

    def test_shapes_and_p(self, make, x):
        for keepdim, given, expected in (
            (False, x[0], (1, 3, 16, 16)),
            (True, x[0], x[0].shape),
            (False, x[:0], x[:0].shape),
        ):
            for source in ({"loss_fn": rising}, {"grad": given}):
                assert make(p=1.0, keepdim=keepdim)(given, **source).shape == expected
        whole, params = make(p=1.0)(x, loss_fn=rising), {}
        assert torch.equal(make(p=0.5)(x, params=params, loss_fn=rising), whole)  # no draw: all rows
        assert params["batch_prob"].all()
        assert torch.equal(sequence(make(p=0.0))(x), x)  # without a row there is nothing to ask a closure for

    def test_gradient_of_later_steps_reaches_the_images(self, make, x, loss_fn):
        """kornia's augmentations are differentiable: this one is the identity plus a constant."""
        x = x.requires_grad_()
        make(p=1.0)(x, loss_fn=loss_fn).sum().backward()
        assert torch.equal(x.grad, torch.ones_like(x))

    def test_from_pretrained_with_saved_settings(self, tmp_path, x, loss_fn):
        IDAATransform(tiny_vae(), 0.3, norm="l2").save_pretrained(tmp_path)
        aug = RandomIDAA.from_pretrained(tmp_path, p=1.0, steps=2)
        expected = IDAATransform(tiny_vae(), 0.3, norm="l2", steps=2)(x, loss_fn=loss_fn)
        torch.testing.assert_close(aug(x, loss_fn=loss_fn), expected, atol=1e-6, rtol=0)
        assert "norm='l2', steps=2, p=1.0, same_on_batch=False" in repr(aug)


class TestContainers:
    @pytest.mark.parametrize("container", [sequence, K.ImageSequential])
    @pytest.mark.parametrize("same_on_batch", [False, True])
    def test_bound_bind_and_replay(self, make, x, loss_fn, container, same_on_batch):
        aug = make(p=0.5, same_on_batch=same_on_batch)
        around = K.RandomHorizontalFlip(p=0.5), K.RandomGrayscale(p=0.5)
        pipelines = [container(around[0], each, around[1]) for each in (aug, aug.bind(loss_fn))]
        for seed in range(3):
            views = []
            for pipeline in pipelines:
                torch.manual_seed(seed)
                with aug.bound(loss_fn):
                    views.append(pipeline(x))
                assert torch.equal(pipeline(x, params=pipeline._params), views[-1])
            assert torch.equal(*views)
        nested = container(container(aug), K.RandomHorizontalFlip())
        with aug.bound(loss_fn):
            assert nested(x).shape == x.shape

    def test_masks_boxes_keypoints_and_dicts_pass(self, make, x, loss_fn):
        aug = make(p=1.0)
        given = {
            "input": x, "mask": (torch.rand(4, 1, 16, 16) > 0.5).float(), "keypoints": torch.rand(4, 2, 2),
            "bbox_xyxy": torch.tensor([[[1.0, 2.0, 5.0, 6.0]]]).repeat(4, 1, 1), "class": torch.arange(4),
        }  # fmt: skip
        with aug.bound(loss_fn):
            out = sequence(aug, keys=given)(*given.values())
            by_name = K.AugmentationSequential(aug, data_keys=None)({"input": x, "mask": given["mask"]})
        assert changed(out[0], x).all()
        for before, after in zip(list(given.values())[1:], out[1:], strict=True):
            torch.testing.assert_close(after, before)
        assert changed(by_name["input"], x).all()
        torch.testing.assert_close(by_name["mask"], given["mask"])

    @pytest.mark.parametrize("data_format", ["BCTHW", "BTCHW"])
    @pytest.mark.parametrize("same_on_frame", [True, False])
    def test_videos(self, make, data_format, same_on_frame):
        aug, seen = make(p=0.5), []
        clips = torch.rand(3, 3, 5, 16, 16) if data_format == "BCTHW" else torch.rand(3, 5, 3, 16, 16)
        pipeline = K.VideoSequential(aug, data_format=data_format, same_on_frame=same_on_frame)
        torch.manual_seed(0)
        with aug.bound(lambda v: (seen.append(tuple(v.shape)), rising(v))[1]):
            views = pipeline(clips)
        assert seen == [(15, 3, 16, 16)]  # frames, clip after clip
        moved = ((views != clips).transpose(1, 2) if data_format == "BCTHW" else views != clips).flatten(2).any(2)
        assert 0 < moved.sum() < 15
        assert bool((moved == moved[:, :1]).all()) == same_on_frame
        assert torch.equal(pipeline(clips, params=pipeline._params), views)

    def test_inverse_undoes_the_geometry_and_keeps_the_change(self, make, x, loss_fn):
        aug = make(p=1.0)
        pipeline = sequence(aug, K.RandomHorizontalFlip(p=1.0))
        with aug.bound(loss_fn):
            views = pipeline(x)
        assert torch.equal(pipeline.inverse(views), views.flip(-1))
        assert torch.equal(aug.transform_matrix, torch.eye(3).expand(4, 3, 3))


class TestParams:
    def test_two_batches_of_one_call_get_changes_of_their_own(self, make, x, loss_fn):
        aug, other = make(p=1.0), x.flip(0).flip(-1) * 0.9
        pipeline = sequence(aug, keys=["input", "input"])
        with aug.bound(loss_fn):
            views = pipeline(x, other)
            assert all(map(torch.equal, views, [aug(x), aug(other)]))
        assert all(map(torch.equal, pipeline(x, other, params=pipeline._params), views))
        with pytest.raises(ValueError, match="hold the changes of 2 batches, and none of these images"):
            pipeline(x + 0.01, other, params=pipeline._params)

    def test_those_that_hold_a_change_are_not_attacked_again(self, make, x, loss_fn):
        aug = make(p=1.0)
        params = aug.forward_parameters(x.shape)
        views = aug(x, params=params, loss_fn=loss_fn)
        for source in ({"loss_fn": lambda v: -loss_fn(v)}, {"grad": x}):
            with pytest.raises(ValueError, match="params hold the change of an earlier call"):
                aug(x.flip(0), params=params, **source)
        for cure in ({"params": params}, {"loss_fn": loss_fn}):
            assert torch.equal(aug(x, **cure), views)

    def test_errors(self, make, x, loss_fn):
        aug = make(p=1.0)
        with pytest.raises(ValueError, match="nothing to maximise"):
            aug(x)
        mine = aug.bind(loss_fn)
        assert repr(mine).endswith(".bind(loss)")
        assert torch.equal(mine(x), aug(x, loss_fn=loss_fn))
        message = r"of a batch of shape \(4, 3, 16, 16\) and cannot be replayed on one of shape"
        with pytest.raises(ValueError, match=message):
            aug(x[:2], params=aug._params)
