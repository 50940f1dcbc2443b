"""Augmentations that need no network: what comes out is in range and of x's kind, alone and in containers."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from idaa_transforms.random import MixupNoise, RandomQuantize

KINDS = [RandomQuantize, MixupNoise]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
side = st.integers(1, 6)
batch, channels = st.integers(0, 5), st.integers(1, 4)
shapes = st.tuples(batch, channels, side) | st.tuples(batch, channels, side, side)


@st.composite
def batches(draw, dtypes=DTYPES):
    torch.manual_seed(draw(st.integers(0, 2**31)))
    shift, spread = draw(st.floats(-3, 3)), draw(st.floats(0, 5))
    return (shift + spread * torch.randn(draw(shapes))).to(draw(st.sampled_from(dtypes)))


@given(batches(), st.integers(1, 20), st.floats(0, 1))
def test_quantized_values_are_few_in_order_and_within_their_channel(x, bins, p):
    given = x.clone()
    views = RandomQuantize(bins, p=p)(x)
    assert (views.shape, views.dtype) == (x.shape, x.dtype)
    assert torch.equal(x, given)
    for before, after in zip(x.flatten(2).flatten(0, 1), views.flatten(2).flatten(0, 1), strict=True):
        if not torch.equal(before, after):
            assert len(after.unique()) <= bins
            assert (after[before.argsort()].diff() >= 0).all()  # bins keep the order
            assert before.min() <= after.min() <= after.max() <= before.max()


@given(batches([torch.float32, torch.float64]), st.floats(0, 1), st.floats(0, 1))
def test_mixup_noise_lies_on_the_way_to_one_other_sample(x, most, p):
    views = MixupNoise(most, p=p)(x)
    assert (views.shape, views.dtype) == (x.shape, x.dtype)
    for before, after in zip(x.double(), views.double(), strict=True):
        ways = x.double() - before
        share = ((after - before) * ways).flatten(1).sum(1) / ways.square().flatten(1).sum(1).clamp(1e-12)
        share = share.clamp(0, most)
        nearest = before + share.view(-1, *[1] * before.ndim) * ways
        assert (nearest - after).abs().flatten(1).amax(1).min() < 1e-5 * (1 + x.abs().max())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_dtype_device_and_memory_format_are_kept(kind, dtype, device):
    x = torch.rand(8, 3, 16, 16, device=device).to(dtype)
    for batch in (x, x.contiguous(memory_format=torch.channels_last)):
        views = kind()(batch)
        assert (views.dtype, views.device, views.stride()) == (batch.dtype, batch.device, batch.stride())
        assert 0 <= views.min() <= views.max() <= 1
        assert not torch.equal(views, batch)


def test_shares_are_uniform_up_to_the_largest():
    torch.manual_seed(0)
    x = torch.zeros(4000, 1, 1)
    x[::2] = 1
    shares = (MixupNoise(0.5)(x) - x).abs().flatten()
    moved = shares[shares > 0]  # the others met their like
    assert moved.max() <= 0.5
    assert moved.mean().item() == pytest.approx(0.25, abs=0.01)
    assert len(moved) == pytest.approx(2000, abs=150)


@pytest.mark.parametrize("kind", KINDS)
def test_p_is_for_each_sample(kind):
    torch.manual_seed(0)
    x = torch.rand(2000, 1, 8)
    kept = (kind(p=0.3)(x) == x).all(2).float().mean().item()
    assert kept == pytest.approx(0.7, abs=0.05)
    assert torch.equal(kind(p=0.0)(x), x)


@pytest.mark.parametrize("kind", KINDS)
def test_in_containers(kind):
    from kornia.augmentation import AugmentationSequential, RandomHorizontalFlip

    x, labels, masks = torch.rand(6, 3, 8, 8), torch.arange(6), torch.rand(6, 1, 8, 8).round()
    torch.manual_seed(0)
    expected = kind()(x)
    for pipeline in (nn.Sequential(kind(), nn.Identity()), v2.Compose([kind(), nn.Identity()])):
        torch.manual_seed(0)
        assert torch.equal(pipeline(x), expected)
    torch.manual_seed(0)
    views, same = v2.Compose([kind(), v2.Identity()])(x, labels)
    assert torch.equal(views, expected)
    assert same is labels
    views, mask = v2.Compose([kind()])(tv_tensors.Image(x), tv_tensors.Mask(masks))
    assert isinstance(views, tv_tensors.Image)
    assert torch.equal(mask, masks)
    pipeline = AugmentationSequential(RandomHorizontalFlip(p=1.0), kind(), data_keys=["input", "mask"])
    views, mask = pipeline(x, masks)
    assert views.shape == x.shape
    assert not torch.equal(views, x.flip(3))
    assert torch.equal(mask, masks.flip(3))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("x", "error", "says"),
    [
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), TypeError, "uint8; use v2.PILToTensor, v2.ToDtype"),
        (torch.zeros(4, 4), ValueError, r"images \(B, C, H, W\) or signals \(B, C, L\), got \(4, 4\)"),
        (tv_tensors.Image(torch.zeros(3, 4, 4)), ValueError, r"got \(3, 4, 4\)"),
        (v2.functional.to_pil_image(torch.zeros(3, 4, 4)), TypeError, "got Image; use v2.PILToTensor"),
    ],
)
def test_what_is_no_batch_is_refused(kind, x, error, says):
    with pytest.raises(error, match=says):
        kind()(x)


def test_what_cannot_be_is_refused():
    for bins in (0, 2.5):
        with pytest.raises(ValueError, match="bins is a whole number of at least 1"):
            RandomQuantize(bins)
    with pytest.raises(ValueError, match=r"max_share lies in \[0, 1\], got 2"):
        MixupNoise(2)
    with pytest.raises(ValueError, match=r"p is a probability in \[0, 1\], got 2"):
        MixupNoise(p=2)
    assert repr(RandomQuantize(4)) == "RandomQuantize(p=1.0, bins=4)"
