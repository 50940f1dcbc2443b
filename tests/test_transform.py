"""The transforms as users call them: what goes in, what comes out, and what does not change."""

import copy
import pickle

import pytest
import torch
from conftest import tiny_vae
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchvision.transforms import v2

from idaa_transforms import CLAETransform, IDAATransform

SIZES = [(16, 16), (13, 16), (17, 15), (9, 33)]
VAES = {(size, channels): tiny_vae(size, channels=channels) for size in SIZES for channels in (1, 3)}


def smooth_loss(views):
    """Per-sample, with a gradient everywhere, and no model."""
    return (views.float() - 0.3).square().flatten(1).sum(1)


def rows_differ(a, b):
    return (a != b).flatten(1).any(1)


@given(
    size=st.sampled_from(SIZES),
    channels=st.sampled_from([1, 3]),
    batch=st.sampled_from([0, 1, 7]),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    channels_last=st.booleans(),
    clae=st.booleans(),
    p=st.sampled_from([0.0, 0.4, 1.0]),
    chunk_size=st.sampled_from([None, 2]),
    steps=st.integers(1, 2),
    seed=st.integers(0, 2**31),
)
def test_output_is_like_the_input(size, channels, batch, dtype, channels_last, clae, p, chunk_size, steps, seed):
    torch.manual_seed(seed)
    options = {"p": p, "steps": steps, "chunk_size": chunk_size}
    aug = CLAETransform(**options) if clae else IDAATransform(VAES[size, channels], **options)
    x = torch.rand(batch, channels, *size).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    before = x.clone()
    views = aug(x, loss_fn=smooth_loss)
    assert (views.shape, views.dtype, views.device, views.stride()) == (x.shape, x.dtype, x.device, x.stride())
    assert not views.requires_grad
    assert torch.equal(x, before)
    assert views.data_ptr() != x.data_ptr() or not batch
    assert views.isfinite().all()


@given(
    norm=st.sampled_from(["linf", "l2"]),
    steps=st.integers(1, 4),
    start=st.sampled_from(["zero", "uniform"]),
    eps=st.one_of(st.floats(0, 2, width=32), st.lists(st.floats(0, 2, width=32), min_size=4, max_size=4)),
    step_size=st.one_of(st.none(), st.floats(0, 1)),
    seed=st.integers(0, 2**31),
)
def test_delta_stays_within_eps_and_the_residual_intact(norm, steps, start, eps, step_size, seed):
    torch.manual_seed(seed)
    vae = VAES[(16, 16), 3]
    aug = IDAATransform(vae, norm=norm, steps=steps, start=start, step_size=step_size, mean=vae.mean, std=vae.std)
    x = torch.rand(4, 3, 16, 16) * 2 - 1
    eps = torch.tensor(eps) if isinstance(eps, list) else eps
    found = aug.explain(x, loss_fn=smooth_loss, eps=eps)
    length = found.delta.abs().amax(1) if norm == "linf" else torch.linalg.vector_norm(found.delta, dim=1)
    assert (length <= torch.as_tensor(eps, dtype=torch.float32)).all()
    moved, kept = vae.decode(found.latent + found.delta), vae.decode(found.latent)
    torch.testing.assert_close(found.views - moved, x - kept, atol=1e-5, rtol=0)


def test_eps_is_in_units_of_the_latents_scale(x, loss_fn):
    plain = IDAATransform(tiny_vae()).explain(x, loss_fn=loss_fn, eps=0.6)
    scaled = IDAATransform(tiny_vae(latent_scale=3.0)).explain(x, loss_fn=loss_fn, eps=0.2)
    torch.testing.assert_close(scaled.delta, plain.delta)


@given(p=st.floats(0, 1), seed=st.integers(0, 2**31), batch=st.integers(1, 12))
def test_rows_that_p_skips_are_bit_equal_and_the_others_as_with_p_1(p, seed, batch):
    torch.manual_seed(seed)
    x = torch.rand(batch, 3, 16, 16)
    vae = VAES[(16, 16), 3]
    views = IDAATransform(vae, p=p)(x, loss_fn=smooth_loss, generator=torch.Generator().manual_seed(seed))
    drawn = torch.rand(batch, generator=torch.Generator().manual_seed(seed)) < p
    assert torch.equal(rows_differ(views, x), drawn)
    everywhere = IDAATransform(vae)(x, loss_fn=smooth_loss)
    torch.testing.assert_close(views[drawn], everywhere[drawn], atol=1e-5, rtol=0)


def test_p_skipped_rows_are_not_encoded_but_the_closure_sees_all(x, vae, loss_fn):
    encoded, seen = [], []
    vae.encoder.register_forward_hook(lambda m, args, out: encoded.append(len(args[0])))
    aug = IDAATransform(vae, p=0.5)
    torch.manual_seed(4)
    drawn = int((torch.rand(4) < 0.5).sum())
    assert 0 < drawn < 4
    torch.manual_seed(4)
    aug(x, loss_fn=lambda v: (seen.append(len(v)), loss_fn(v))[1])
    assert (encoded, seen) == ([drawn], [4])


def test_when_p_draws_no_row_the_closure_is_called_all_the_same(x, vae, loss_fn):
    """Other ranks may wait for this one inside a closure that gathers."""
    calls = []
    views = IDAATransform(vae, p=0.0)(x, loss_fn=lambda v: (calls.append(1), loss_fn(v))[1])
    assert calls == [1]
    assert torch.equal(views, x)


@pytest.mark.parametrize("p", [0.0, 0.5])
def test_p_in_inference_mode(x, vae, loss_fn, p):
    aug = IDAATransform(vae, p=p)
    with torch.inference_mode():
        views = aug(x.clone(), loss_fn=loss_fn, generator=torch.Generator().manual_seed(4))
    assert int(rows_differ(views, x).sum()) == int(
        (torch.rand(4, generator=torch.Generator().manual_seed(4)) < p).sum()
    )


@pytest.mark.parametrize("start", ["zero", "uniform"])
def test_same_seed_same_views(x, vae, loss_fn, start):
    aug = IDAATransform(vae, start=start, p=0.7, norm="l2")
    by_generator = [aug(x, loss_fn=loss_fn, generator=torch.Generator().manual_seed(s)) for s in (5, 5, 6)]
    assert torch.equal(by_generator[0], by_generator[1])
    assert not torch.equal(by_generator[0], by_generator[2])
    torch.manual_seed(5)
    first = aug(x, loss_fn=loss_fn)
    torch.manual_seed(5)
    assert torch.equal(aug(x, loss_fn=loss_fn), first)


def test_given_gradient_equals_the_closure(x, aug, loss_fn):
    leaf = x.clone().requires_grad_()
    loss_fn(leaf).sum().backward()
    torch.testing.assert_close(aug(x, grad=leaf.grad), aug(x, loss_fn=loss_fn), atol=1e-6, rtol=0)


def test_a_mean_and_a_sum_give_the_same_views(x, aug, loss_fn):
    summed = aug(x, loss_fn=lambda v: loss_fn(v).sum())
    torch.testing.assert_close(aug(x, loss_fn=loss_fn), summed)
    torch.testing.assert_close(aug(x, loss_fn=lambda v: loss_fn(v).mean()), summed)


def test_normalised_images_give_the_normalised_views(x, vae, loss_fn):
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    normalize = v2.Normalize(mean, std)
    column = lambda v: torch.tensor(v).view(3, 1, 1)  # noqa: E731
    in_unit = lambda v: loss_fn(v * column(std) + column(mean))  # noqa: E731
    views = IDAATransform(vae, mean=mean, std=std)(normalize(x), loss_fn=in_unit)
    torch.testing.assert_close(views, normalize(IDAATransform(vae)(x, loss_fn=loss_fn)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_grad_modes(x, aug, loss_fn, mode):
    expected = aug(x, loss_fn=loss_fn)
    with mode():
        for given_x in (x, x.clone(), x.clone()[:]):
            torch.testing.assert_close(aug(given_x, loss_fn=loss_fn), expected)


def test_the_closure_may_use_what_inference_mode_made_outside(x, aug, encoder):
    encoder.eval()
    with torch.no_grad():
        anchor = encoder(x.flip(-1))
    with torch.inference_mode():
        views = aug(x, loss_fn=lambda v: (encoder(v) - anchor).square().sum(1))
    assert rows_differ(views, x).all()


def test_autocast_reaches_the_closure_and_not_the_autoencoder(x, vae, encoder):
    dtypes = []
    vae.decoder.register_forward_hook(lambda m, args, out: dtypes.append(out.dtype))
    encoder.eval()
    seen = []

    def loss(views):
        z = encoder(views)
        seen.append((views.dtype, z.dtype))
        return z.float().square().sum(1)

    with torch.autocast("cpu", torch.bfloat16):
        views = IDAATransform(vae)(x, loss_fn=loss)
        assert torch.is_autocast_enabled("cpu")
    assert set(dtypes) == {torch.float32}
    assert seen == [(torch.float32, torch.bfloat16)]
    assert views.dtype == torch.float32


def test_the_autoencoder_may_run_in_bfloat16(x, loss_fn):
    full, half = IDAATransform(tiny_vae()), IDAATransform(tiny_vae()).to(torch.bfloat16)
    found, views = half.explain(x, loss_fn=loss_fn), full(x, loss_fn=loss_fn)
    assert found.views.dtype == torch.float32
    assert found.delta.abs().max() <= torch.tensor(0.1)
    assert (found.views - views).abs().mean() < 0.3 * (views - x).abs().mean()


def test_x_that_requires_grad_stays_out_of_the_graph(x, aug, loss_fn):
    x = x.requires_grad_()
    assert not aug(x, loss_fn=loss_fn).requires_grad
    assert x.grad is None


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
@pytest.mark.parametrize(
    "make", [lambda vae: IDAATransform(vae, 0.2, norm="l2", steps=2), lambda _: CLAETransform(0.01)]
)
def test_copies_and_pickles_give_the_same_views(x, vae, loss_fn, copier, make):
    aug = make(vae)
    again = copier(aug)
    assert repr(again) == repr(aug)
    assert torch.equal(again(x, loss_fn=loss_fn), aug(x, loss_fn=loss_fn))


def test_the_autoencoder_is_frozen_and_stays_in_eval(vae):
    model = nn.Sequential(IDAATransform(vae.train()), nn.BatchNorm2d(3)).train()
    assert model[1].training
    assert model[0].training
    assert not any(m.training for m in vae.modules())
    assert not any(p.requires_grad for p in vae.parameters())


def test_repr_is_one_line_that_says_what_is_not_default(vae):
    assert repr(IDAATransform(vae)) == "IDAATransform(ConvVAE, eps=0.1)"
    assert repr(IDAATransform(vae, 0.2, steps=3, p=0.5)) == "IDAATransform(ConvVAE, eps=0.2, steps=3, p=0.5)"
    assert repr(CLAETransform()) == "CLAETransform(eps=0.006)"


def test_a_change_of_eps_counts_from_the_next_call(x, aug, loss_fn):
    aug.eps = 0.25
    assert aug.explain(x, loss_fn=loss_fn).delta.abs().max() == 0.25


def test_on_a_device(device, loss_fn, encoder):
    aug = IDAATransform(tiny_vae(), random_start=True, p=0.5).to(device)
    encoder.to(device)
    x = torch.rand(8, 3, 16, 16, device=device)
    loss = lambda v: nn.functional.cross_entropy(encoder(v), torch.arange(8, device=device) % 6)  # noqa: E731
    for generator in (None, torch.Generator().manual_seed(0), torch.Generator(device).manual_seed(0)):
        views = aug(x, loss_fn=loss, generator=generator)
        assert views.device == x.device
        assert views.isfinite().all()
