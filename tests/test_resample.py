"""Any size: the resampling itself, and transforms on images that are not of the autoencoder's size."""

import pytest
import torch
from conftest import changed, images, rising, tiny_vae
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision import tv_tensors

from benchmarks.harness import memory
from idaa_transforms import IDAATransform
from idaa_transforms.autoencoders import Wrapped
from idaa_transforms.autoencoders._resample import resample
from idaa_transforms.sample import cifar10_sample

LENGTHS = st.integers(1, 300)
SIZES = st.tuples(LENGTHS, LENGTHS)
DTYPES = st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16])


def along_last(x, length):
    """The last axis resampled by torch: one at a time, since it leaves the height of images one pixel wide as it is."""
    rows = x.reshape(1, 1, -1, x.shape[-1])
    size = (rows.shape[2], length)
    return nn.functional.interpolate(rows, size=size, mode="bicubic", antialias=True).view(*x.shape[:-1], length)


class TestResample:
    @given(old=SIZES, new=SIZES, dtype=DTYPES, seed=st.integers(0, 99))
    def test_is_what_torch_gives_on_the_cpu(self, old, new, dtype, seed):
        x = images((1, 2, *old), seed, dtype)
        found = resample(x, new)
        exact = along_last(along_last(x.double(), new[1]).mT, new[0]).mT
        assert found.dtype == (torch.promote_types(dtype, torch.float32) if old != new else dtype)
        torch.testing.assert_close(found.double(), exact, atol=1e-5, rtol=0)

    @given(old=SIZES, new=SIZES, seed=st.integers(0, 99))
    def test_the_way_back_is_the_adjoint(self, old, new, seed):
        x, y = images((1, 2, *old), seed, torch.float64).requires_grad_(), images((1, 2, *new), seed + 1, torch.float64)
        (back,) = torch.autograd.grad(resample(x, new), x, y)
        torch.testing.assert_close((resample(x, new) * y).sum(), (x * back).sum(), atol=0, rtol=1e-9)
        torch.testing.assert_close(resample(y, old, adjoint=True), back, atol=1e-12, rtol=1e-9)

    def test_the_size_that_is_there_is_left_alone_and_constants_stay(self):
        x = images((2, 3, 9, 7))
        assert resample(x, (9, 7)) is x
        torch.testing.assert_close(resample(x, (9, 5)), torch.stack([resample(row, (5,)) for row in x]))
        torch.testing.assert_close(resample(torch.full((1, 1, 9, 70), -3.0), (90, 7)), torch.full((1, 1, 90, 7), -3.0))
        with pytest.raises(ValueError, match="an axis of length 0 cannot be resampled to 4"):
            resample(torch.zeros(1, 1, 0, 4), (4, 4))


@given(
    size=SIZES,
    channels=st.integers(1, 13),
    dtype=DTYPES,
    options=st.sampled_from(
        [{}, {"steps": 2, "norm": "l2"}, {"chunk_size": 3}, {"eps_unit": "posterior"}, {"clip": (0.1, 0.9)}]
    ),
    seed=st.integers(0, 99),
)
@settings(max_examples=12)
def test_every_promise_at_every_size(size, channels, dtype, options, seed):
    x = images((4, channels, *size), seed, dtype).to(memory_format=torch.channels_last)
    before, aug = x.clone(), IDAATransform(tiny_vae(channels=channels), 0.3, **options)
    found, views = aug.explain(x, loss_fn=rising), aug(x, loss_fn=rising)
    assert torch.equal(x, before)
    assert (views.shape, views.dtype, views.stride()) == (x.shape, x.dtype, x.stride())
    assert torch.equal(views, found.views)
    assert found.delta.flatten(1).norm(dim=1, p=2 if aug.norm == "l2" else torch.inf).max() <= 0.3
    assert found.reconstruction.shape == found.residual.shape == x.shape
    if aug.eps_unit == "latent":  # delta is in the latent's own numbers
        expected = found.residual + aug.codec.decode(found.latent + found.delta, x.shape)
        expected = expected if aug.clip is None else expected.clamp(*aug.clip)
        torch.testing.assert_close(views, expected.to(dtype), atol=1e-5, rtol=torch.finfo(dtype).eps)
    aug.p = 0.5
    rows = torch.rand(4, generator=torch.Generator().manual_seed(seed)) < 0.5
    some = aug(x, loss_fn=rising, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(some[~rows], x[~rows])


@given(size=SIZES, seed=st.integers(0, 99))
@settings(max_examples=8)
def test_grad_gives_the_views_of_loss_fn(size, seed):
    x, aug = images((2, 3, *size), seed), IDAATransform(tiny_vae())
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(rising(leaf).sum(), leaf)
    by_loss, by_grad = aug.explain(x, loss_fn=rising), aug.explain(x, grad=gradient)
    same = by_loss.delta == by_grad.delta  # a gradient that is nearly zero may change its sign
    assert same.float().mean() > 0.9
    rows = same.all(1)
    torch.testing.assert_close(by_loss.views[rows], by_grad.views[rows], atol=1e-6, rtol=0)


def test_clips_chunks_and_normalised_images():
    x = images((2, 3, 3, 37, 21))
    mean, std = torch.tensor([0.45, 0.5, 0.4]).view(3, 1, 1), torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1)
    frames = IDAATransform(tiny_vae())(x.flatten(0, 1), grad=x.flatten(0, 1) - 0.5).unflatten(0, (2, 3))
    for options in ({}, {"chunk_size": 1}):
        views = IDAATransform(tiny_vae(), **options)(tv_tensors.Video(x), grad=x - 0.5)
        torch.testing.assert_close(views.as_subclass(torch.Tensor), frames)
    aug = IDAATransform(tiny_vae(), mean=mean.flatten().tolist(), std=std.flatten().tolist())
    found = aug((x - mean) / std, grad=(x - 0.5) * std) * std + mean
    torch.testing.assert_close(found, frames, atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(32, 32), (120, 77), (224, 224)])
def test_pretrained_weights_know_enlarged_photographs(size):
    """What a network for 32 pixels explains of photographs without finer detail hardly depends on their size."""
    x = cifar10_sample(size)[0][:16]
    aug = IDAATransform.from_pretrained("cifar10-vae")
    error = aug.explain(x, grad=x - 0.5).residual
    assert 1 - error.square().mean() / (x - x.mean((2, 3), keepdim=True)).square().mean() > 0.85


@pytest.mark.slow
def test_memory_of_large_images_is_bounded_by_chunks():
    x = images((4, 3, 512, 512))

    def peak(autoencoder, **options):
        aug = IDAATransform(autoencoder, 0.1, **options)
        aug(x, loss_fn=rising)
        return memory(lambda: aug(x, loss_fn=rising), "cpu")[0]

    nothing = peak(Wrapped(lambda v: v, lambda z: z))  # what images of this size need in any case
    heavy = tiny_vae(128, depth=1, width=64)
    assert peak(tiny_vae()) <= nothing
    assert peak(heavy) > 1.2 * nothing
    assert peak(heavy, chunk_size=1) <= 1.05 * nothing


@given(size=st.integers(1, 40), factor=st.integers(1, 9), seed=st.integers(0, 99))
@settings(max_examples=20)
def test_autoencoders_of_any_size_are_padded_and_not_resampled(size, factor, seed):
    seen, x = [], images((2, 3, size, size + 1), seed)
    encode = lambda v: (seen.append(tuple(v.shape[-2:])), v)[1]  # noqa: E731
    found = IDAATransform(Wrapped(encode, lambda z: z, factor=factor), 0.1).explain(x, loss_fn=rising)
    assert set(seen) == {(size + -size % factor, size + 1 + -(size + 1) % factor)}
    torch.testing.assert_close(found.residual, torch.zeros_like(x))
    assert changed(found.views, x).all()
