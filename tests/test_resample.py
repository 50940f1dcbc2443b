"""Any size: the resampling itself, and transforms on images that are not of the autoencoder's size."""

import sys
from pathlib import Path

import pytest
import torch
from conftest import tiny_vae
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torchvision import tv_tensors

from idaa_transforms import CLAETransform, IDAATransform, hub
from idaa_transforms.autoencoders import Wrapped
from idaa_transforms.autoencoders._resample import axis_matrix, resample
from idaa_transforms.kornia import RandomIDAA
from idaa_transforms.sample import cifar10_sample

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from harness import memory

LENGTHS = st.integers(1, 300)
SIZES = st.tuples(LENGTHS, LENGTHS)
DTYPES = st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16])


def images(shape, seed=0, dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def rising(views):
    """A loss with a slope everywhere, row by row."""
    return (views * torch.linspace(-1, 1, views[0].numel()).view(views.shape[1:])).pow(2).flatten(1).sum(1)


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

    @given(old=LENGTHS, new=LENGTHS, seed=st.integers(0, 99))
    def test_signals(self, old, new, seed):
        x = images((1, 2, old), seed)
        as_images = resample(x[:, :, None].expand(-1, -1, 2, -1), (2, new))
        torch.testing.assert_close(resample(x, (new,)), as_images[:, :, 0], atol=1e-6, rtol=0)

    @given(old=SIZES, new=SIZES, seed=st.integers(0, 99))
    def test_the_way_back_is_the_adjoint(self, old, new, seed):
        x, y = images((1, 2, *old), seed).double().requires_grad_(), images((1, 2, *new), seed + 1).double()
        (back,) = torch.autograd.grad(resample(x, new), x, y)
        torch.testing.assert_close((resample(x, new) * y).sum(), (x * back).sum(), atol=0, rtol=1e-9)
        torch.testing.assert_close(resample(y, old, adjoint=True), back, atol=1e-12, rtol=1e-9)

    @given(old=SIZES, new=SIZES, value=st.floats(-3, 3))
    def test_constant_images_stay_constant(self, old, new, value):
        found = resample(torch.full((1, 1, *old), value), new)
        torch.testing.assert_close(found, torch.full((1, 1, *new), value), atol=3e-6, rtol=0)

    def test_the_size_that_is_there_is_left_alone(self):
        x = images((2, 3, 9, 7))
        assert resample(x, (9, 7)) is x
        torch.testing.assert_close(resample(x, (9, 5)), torch.stack([resample(row, (5,)) for row in x]))

    def test_few_matrices_are_kept_and_any_mode_may_make_them(self):
        axis_matrix.cache_clear()
        with torch.inference_mode():
            resample(images((1, 1, 5, 5)), (3, 3))
        assert not axis_matrix(5, 3, torch.float32, torch.device("cpu")).is_inference()
        for length in range(1, 200):
            resample(images((1, 1, length, length)), (3, 3))
        assert axis_matrix.cache_info().currsize <= 32

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    def test_the_same_bits_each_time_on_a_gpu(self):
        x, gradient = images((8, 3, 32, 32)).cuda().requires_grad_(), images((8, 3, 224, 224), 1).cuda()
        up = [resample(x, (224, 224)) for _ in range(9)]
        back = [torch.autograd.grad(one, x, gradient)[0] for one in up]
        assert all(torch.equal(one, up[0]) for one in up)
        assert all(torch.equal(one, back[0]) for one in back)


@given(
    size=SIZES,
    channels=st.integers(1, 13),
    dtype=DTYPES,
    options=st.sampled_from(
        [{}, {"steps": 2, "norm": "l2"}, {"chunk_size": 1}, {"scale": "posterior"}, {"clip": (0.1, 0.9)}]
    ),
    seed=st.integers(0, 99),
)
@settings(max_examples=12)
def test_every_promise_at_every_size(size, channels, dtype, options, seed):
    x = images((2, channels, *size), seed, dtype).to(memory_format=torch.channels_last)
    before = x.clone()
    aug = IDAATransform(tiny_vae(channels=channels), 0.3, **options)
    found, views = aug.explain(x, loss_fn=rising), aug(x, loss_fn=rising)
    assert torch.equal(x, before)
    assert (views.shape, views.dtype, views.stride()) == (x.shape, x.dtype, x.stride())
    assert torch.equal(views, found.views)
    assert found.delta.flatten(1).norm(dim=1, p=2 if aug.norm == "l2" else torch.inf).max() <= 0.3
    assert found.reconstruction.shape == found.residual.shape == x.shape
    if aug.scale == "latent":  # delta is in the latent's own numbers
        moved = aug.codec.decode(found.latent + found.delta, x.shape)
        expected = found.residual + moved
        expected = expected if aug.clip is None else expected.clamp(*aug.clip)
        torch.testing.assert_close(views, expected.to(dtype), atol=1e-5, rtol=torch.finfo(dtype).eps)


@given(size=SIZES, seed=st.integers(0, 99))
@settings(max_examples=12)
def test_grad_gives_the_views_of_loss_fn(size, seed):
    x, aug = images((2, 3, *size), seed), IDAATransform(tiny_vae())
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(rising(leaf).sum(), leaf)
    by_loss, by_grad = aug.explain(x, loss_fn=rising), aug.explain(x, grad=gradient)
    same = by_loss.delta == by_grad.delta  # a gradient that is nearly zero may change its sign
    assert same.float().mean() > 0.9
    rows = same.all(1)
    torch.testing.assert_close(by_loss.views[rows], by_grad.views[rows], atol=1e-6, rtol=0)


@given(size=SIZES, seed=st.integers(0, 99))
@settings(max_examples=12)
def test_rows_that_are_skipped_come_back_bit_for_bit(size, seed):
    x, aug = images((4, 3, *size), seed), IDAATransform(tiny_vae(), p=0.5)
    rows = torch.rand(4, generator=torch.Generator().manual_seed(seed)) < 0.5
    views = aug(x, loss_fn=rising, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(views[~rows], x[~rows])
    assert (views[rows] != x[rows]).flatten(1).any(1).all()


class AnySize(nn.Module):
    """The autoencoder without an ``image_size``: the plain path."""

    def __init__(self, vae):
        super().__init__()
        self.vae, self.mean, self.std, self.latent_scale = vae, vae.mean, vae.std, vae.latent_scale
        self.encode, self.decode, self.encode_mean = vae.encode, vae.decode, vae.encode_mean


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_where_sizes_agree_nothing_is_resampled(dtype, monkeypatch):
    from idaa_transforms.autoencoders import resample as room

    monkeypatch.setattr(room, "axis_matrix", None)  # so that a use of it would raise
    x = images((4, 3, 16, 16), dtype=dtype)
    expected = IDAATransform(AnySize(tiny_vae())).explain(x, loss_fn=rising)
    for resize in (True, False):
        found = IDAATransform(tiny_vae(), resize=resize).explain(x, loss_fn=rising)
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_clips_and_chunks():
    x = images((2, 3, 3, 37, 21))
    aug = IDAATransform(tiny_vae())
    views = aug(tv_tensors.Video(x), grad=x - 0.5)
    frames = aug(x.flatten(0, 1), grad=x.flatten(0, 1) - 0.5)
    torch.testing.assert_close(views.as_subclass(torch.Tensor), frames.unflatten(0, (2, 3)))
    chunked = IDAATransform(tiny_vae(), chunk_size=1)(x, grad=x - 0.5)
    torch.testing.assert_close(chunked, views.as_subclass(torch.Tensor))


def test_normalised_images():
    mean, std = torch.tensor([0.45, 0.5, 0.4]).view(3, 1, 1), torch.tensor([0.2, 0.25, 0.3]).view(3, 1, 1)
    x = images((3, 3, 41, 30))
    expected = IDAATransform(tiny_vae())(x, grad=x - 0.5)
    aug = IDAATransform(tiny_vae(), mean=mean.flatten().tolist(), std=std.flatten().tolist())
    found = aug((x - mean) / std, grad=(x - 0.5) * std) * std + mean
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_compiled_at_changing_sizes_without_compiling_again():
    torch._dynamo.reset()
    graphs = CompileCounterWithBackend("aot_eager")
    plain, fast = IDAATransform(tiny_vae()), IDAATransform(tiny_vae())
    fast.compile(backend=graphs)
    counts = []
    for size in ((16, 16), (24, 9), (96, 96), (5, 31), (64, 48)):
        x = images((3, 3, *size))
        torch.testing.assert_close(fast(x, grad=x - 0.5), plain(x, grad=x - 0.5), atol=1e-5, rtol=0)
        counts.append(graphs.frame_count)
    assert len(set(counts)) == 1


@pytest.mark.parametrize("size", [32, 64, 96, (120, 77), 224])
def test_pretrained_weights_know_enlarged_photographs(size):
    """What a network for 32 pixels explains of photographs without finer detail hardly depends on their size."""
    x = cifar10_sample((size, size) if isinstance(size, int) else size)[0][:16]
    aug = IDAATransform.from_pretrained("cifar10-vae")
    error = aug.explain(x, grad=x - 0.5).residual
    assert 1 - error.square().mean() / (x - x.mean((2, 3), keepdim=True)).square().mean() > 0.85


def test_patches_of_kornia(x):
    import kornia.augmentation as K

    aug = RandomIDAA(tiny_vae(), p=1.0)
    pipeline = K.PatchSequential(aug, grid_size=(2, 2), patchwise_apply=False)
    with aug.bound(lambda v: v.square().flatten(1).sum(1)):
        views = pipeline(x)
    patches = x.unflatten(2, (2, 8)).unflatten(4, (2, 8)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
    each = IDAATransform(tiny_vae())(patches, loss_fn=lambda v: v.square().flatten(1).sum(1))
    found = views.unflatten(2, (2, 8)).unflatten(4, (2, 8)).permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
    torch.testing.assert_close(found, each, atol=1e-5, rtol=0)


def test_memory_of_large_images_is_bounded_by_chunks():
    x = images((4, 3, 512, 512))

    def peak(autoencoder, **options):
        aug = IDAATransform(autoencoder, **options)
        aug(x, loss_fn=rising)
        return memory(lambda: aug(x, loss_fn=rising), "cpu")[0]

    nothing = peak(Wrapped(lambda v: v, lambda z: z))  # what images of this size need in any case
    heavy = tiny_vae(128, depth=1, width=64)
    assert peak(tiny_vae()) <= nothing
    assert peak(heavy) > 1.2 * nothing
    assert peak(heavy, chunk_size=1) <= 1.05 * nothing


class TestWhatIsRefused:
    def test_another_size_on_request(self, x, vae):
        aug = IDAATransform(vae, resize=False)
        assert "resize=False" in repr(aug)
        assert aug(x, loss_fn=rising).shape == x.shape
        with pytest.raises(ValueError, match=r"images are 15x16, the autoencoder takes 16x16, and resize=False"):
            aug(x[:, :, :15], loss_fn=rising)
        aug.resize = True
        assert "resize" not in repr(aug)
        assert aug(x[:, :, :15], loss_fn=rising).shape == (4, 3, 15, 16)

    def test_it_is_a_bool(self, vae):
        with pytest.raises(ValueError, match=r"resize='bicubic' must be True or False"):
            IDAATransform(vae, resize="bicubic")

    @pytest.mark.parametrize("shape", [(2, 3, 0, 16), (2, 3, 16, 0), (0, 3, 0, 0)])
    def test_images_without_a_pixel(self, shape, aug):
        for one in (aug, CLAETransform()):
            with pytest.raises(ValueError, match=r"without a single value; look at what cut them"):
                one(torch.zeros(shape), loss_fn=rising)
        with pytest.raises(ValueError, match="an axis of length 0 cannot be resampled to 4"):
            resample(torch.zeros(1, 1, 0, 4), (4, 4))

    def test_empty_batches_are_none_of_these(self, aug):
        assert aug(torch.zeros(0, 3, 5, 7), loss_fn=rising).shape == (0, 3, 5, 7)

    @pytest.mark.parametrize("channels", [1, 2, 5])
    def test_channels_that_no_weights_have(self, channels, aug):
        """The message says that all weights of the package take three channels, so it is a fact."""
        assert {hub.load(name)[0].channels for name in hub.PRETRAINED} == {3}
        x = images((2, channels, 16, 16))
        message = rf"takes 3 channels, not {channels}; all weights of the package take images of 3.*idaa train-vae DATA"
        with pytest.raises(ValueError, match=message) as raised:
            aug(x, loss_fn=rising)
        assert ("x.expand(-1, 3, -1, -1)" in str(raised.value)) == (channels == 1)
        if channels == 1:
            assert aug(x.expand(-1, 3, -1, -1), loss_fn=rising).shape == (2, 3, 16, 16)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    @pytest.mark.parametrize("options", [{}, {"scale": "posterior"}, {"chunk_size": 1}])
    def test_an_autoencoder_that_gives_no_numbers(self, value, options, x):
        vae = tiny_vae()
        nn.init.constant_(vae.to_mean.bias, value)
        for source in ({"loss_fn": rising}, {"grad": x - 0.5}):
            with pytest.raises(ValueError, match=r"latent of ConvVAE is NaN or infinite for 4 of 4 images; .*weights"):
                IDAATransform(vae, **options)(x, **source)


class TestWhereItIsMade:
    """The numbers of the codec live where the autoencoder's weights do, whatever the default device is."""

    @pytest.mark.parametrize("kind", [IDAATransform, CLAETransform])
    def test_under_the_meta_device(self, kind, x, vae):
        arguments = [vae] if kind is IDAATransform else []
        expected = kind(*arguments)(x, grad=x - 0.5)
        with torch.device("meta"):
            aug = kind(*arguments)
        assert torch.equal(aug(x, grad=x - 0.5), expected)

    def test_the_first_call_may_be_under_another_default(self, vae):
        axis_matrix.cache_clear()
        x = images((2, 3, 21, 33))
        expected = IDAATransform(vae)(x, grad=x - 0.5)
        axis_matrix.cache_clear()
        aug = IDAATransform(vae)
        with torch.device("meta"):
            aug.codec.encode(x)
        assert torch.equal(aug(x, grad=x - 0.5), expected)


@given(size=st.integers(1, 40), factor=st.integers(1, 9), seed=st.integers(0, 99))
@settings(max_examples=20)
def test_autoencoders_of_any_size_are_padded_and_not_resampled(size, factor, seed):
    seen = []

    def encode(x):
        seen.append(tuple(x.shape[-2:]))
        return x

    x = images((2, 3, size, size + 1), seed)
    aug = IDAATransform(Wrapped(encode, lambda z: z, factor=factor), 0.1)
    found = aug.explain(x, loss_fn=rising)
    assert set(seen) == {(size + -size % factor, size + 1 + -(size + 1) % factor)}
    torch.testing.assert_close(found.residual, torch.zeros_like(x))
