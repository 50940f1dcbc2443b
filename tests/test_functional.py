"""The method: equal to the authors' order of operations, in the fewest passes, on images and on anything else."""

import pytest
import torch
from conftest import tiny_vae
from hypothesis import given
from hypothesis import strategies as st
from reference import authors_views
from torch import nn

from idaa_transforms.functional import idaa, input_gradient


def parts(vae):
    return lambda x: vae.encode(x).mean, vae.decode


class Counter(nn.Module):
    """Counts calls, and rows of each."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.rows = inner, []

    def forward(self, *args):
        self.rows.append(len(args[0]))
        return self.inner(*args)


@pytest.mark.parametrize("eps", [0.03, 0.1, 1.0])
def test_same_views_as_the_authors_order_of_operations(x, vae, loss_fn, eps):
    x = 4 * x - 2
    ours = idaa(x, *parts(vae), loss_fn, eps=eps).views
    torch.testing.assert_close(ours, authors_views(x, vae, loss_fn, eps), rtol=0, atol=1e-6)


def test_given_gradient_equals_the_loss_from_zero(x, vae, loss_fn):
    by_loss = idaa(x.double(), *parts(vae.double()), lambda v: loss_fn(v.float()), eps=0.1)
    gradient = input_gradient(loss_fn, x)
    by_grad = idaa(x.double(), *parts(vae), grad=gradient, eps=0.1)
    torch.testing.assert_close(by_grad.views, by_loss.views, rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("start", "steps"), [("zero", 1), ("uniform", 1), ("zero", 4), ("uniform", 3)])
def test_the_loss_rises_and_the_residual_stays(x, vae, loss_fn, norm, start, steps):
    found = idaa(x, *parts(vae), loss_fn, eps=0.5, norm=norm, steps=steps, start=start)
    assert (loss_fn(found.views) > loss_fn(x)).all()
    split = found.split
    torch.testing.assert_close(found.views - vae.decode(split.latent + found.delta), x - vae.decode(split.latent))
    torch.testing.assert_close(split.residual, x - split.reconstruction)
    assert not any(t.requires_grad for t in (found.views, found.delta, split.latent, split.residual, found.gradient))
    assert found.finite.all()


@pytest.mark.parametrize(
    ("start", "steps", "decodes"), [("zero", 1, 2), ("zero", 3, 4), ("uniform", 1, 3), ("uniform", 2, 4)]
)
def test_passes_are_the_fewest(x, vae, loss_fn, start, steps, decodes):
    encode, decode, loss = Counter(lambda x: vae.encode(x).mean), Counter(vae.decode), Counter(loss_fn)
    idaa(x, encode, decode, loss, eps=0.1, start=start, steps=steps)
    assert (len(encode.rows), len(decode.rows), len(loss.rows)) == (1, decodes, steps)


def test_a_given_gradient_needs_no_pass_of_the_model(x, vae):
    encode, decode = Counter(lambda x: vae.encode(x).mean), Counter(vae.decode)
    idaa(x, encode, decode, grad=torch.randn_like(x), eps=0.1)
    assert (len(encode.rows), len(decode.rows)) == (1, 2)


def test_no_gradient_of_any_parameter_is_computed(x, vae, encoder, loss_fn):
    computed = []
    vae.requires_grad_(True)
    for p in [*vae.parameters(), *encoder.parameters()]:
        p.register_hook(lambda g: computed.append(g.shape))
    idaa(x, *parts(vae), loss_fn, eps=0.1)
    assert computed == []
    loss_fn(x).sum().backward()
    assert computed  # the hooks do see a backward pass


@pytest.mark.parametrize("size", [1, 3, 4, 9])
def test_chunks_give_the_same_views_and_bound_the_rows(x, vae, loss_fn, size):
    encode, decode = Counter(lambda x: vae.encode(x).mean), Counter(vae.decode)
    whole = idaa(x, *parts(vae), loss_fn, eps=0.1, steps=2)
    chunked = idaa(x, encode, decode, loss_fn, eps=0.1, steps=2, chunk_size=size)
    torch.testing.assert_close(chunked.views, whole.views)
    assert max(encode.rows + decode.rows) <= size


def test_clip_bounds_views_and_passes_the_gradient(x, vae, loss_fn):
    free = idaa(x, *parts(vae), loss_fn, eps=1.0)
    clipped = idaa(x, *parts(vae), loss_fn, eps=1.0, clip=(0.0, 1.0))
    assert free.views.max() > 1
    torch.testing.assert_close(clipped.views, free.views.clamp(0, 1), atol=1e-5, rtol=0)


def test_steps_follow_their_size(x, vae, loss_fn):
    found = idaa(x, *parts(vae), loss_fn, eps=1.0, steps=2, step_size=0.125)
    assert set(found.delta.abs().unique().tolist()) <= {0.0, 0.125, 0.25}


def test_a_signal_with_its_own_autoencoder():
    """Nothing in the core is about images: a 1-D signal, and a latent that is not flat."""
    torch.manual_seed(0)
    down, up = nn.Conv1d(2, 3, 4, stride=2, padding=1), nn.ConvTranspose1d(3, 2, 4, stride=2, padding=1)
    head = nn.Linear(2, 5)
    x = torch.randn(6, 2, 20)
    loss = lambda v: head(v.mean(2)).square().sum(1)  # noqa: E731
    found = idaa(x, down, up, loss, eps=torch.linspace(0.1, 0.6, 6), norm="l2", steps=3)
    assert found.split.latent.shape == (6, 3, 10)
    assert (loss(found.views) > loss(x)).all()
    assert (found.delta.flatten(1).norm(dim=1) <= torch.linspace(0.1, 0.6, 6)).all()


@pytest.mark.parametrize("options", [{}, {"steps": 2}, {"start": "uniform"}, {"clip": (0.1, 0.9)}])
def test_what_enlarges_the_decoded_runs_apart_from_it(x, vae, options):
    """A linear map and its adjoint give the views of the decoder that has the map in it."""
    lift = lambda v: v.repeat_interleave(3, 2)  # noqa: E731
    back = lambda g: g.unflatten(2, (-1, 3)).sum(3)  # noqa: E731
    tall = lift(x) + 0.01 * torch.arange(48)[:, None]
    loss = lambda v: v.square().flatten(1).sum(1)  # noqa: E731
    encode, options = (lambda v: vae.encode(v[:, :, ::3]).mean), {"eps": 0.3, "norm": "l2"} | options
    inside, apart = (
        idaa(tall, encode, decode, loss, **options, generator=torch.Generator().manual_seed(0), **more)
        for decode, more in ((lambda z: lift(vae.decode(z)), {}), (vae.decode, {"lift": (lift, back)}))
    )
    torch.testing.assert_close(apart.views, inside.views, atol=1e-5, rtol=0)
    torch.testing.assert_close(apart.split.residual, inside.split.residual)


def test_the_first_step_from_zero_sees_the_images_themselves(x, vae, loss_fn):
    seen = []

    def loss(views):
        seen.append(views.detach().clone())
        return loss_fn(views)

    idaa(x, *parts(vae), loss, eps=0.5, steps=2)
    assert torch.equal(seen[0], x)
    assert not torch.equal(seen[1], x)
    idaa(x, *parts(vae), loss, eps=0.5, random_start=True)
    assert not torch.equal(seen[2], x)


@pytest.mark.parametrize("clip", [None, (0.2, 0.8)])
def test_a_row_without_a_finite_direction_comes_back_as_it_was(x, vae, clip):
    gradient = torch.randn_like(x)
    gradient[1, 0, 0, 0] = float("nan")
    gradient[2] = float("inf")
    found = idaa(x, *parts(vae), grad=gradient, eps=0.1, clip=clip)
    assert found.finite.tolist() == [True, False, False, True]
    assert torch.equal(found.views[1:3], x[1:3])
    assert (found.views[[0, 3]] != x[[0, 3]]).flatten(1).any(1).all()
    assert found.views.isfinite().all()


@given(seed=st.integers(0, 2**31), rows=st.permutations(range(4)), norm=st.sampled_from(["linf", "l2"]))
def test_a_view_does_not_depend_on_its_neighbours(seed, rows, norm):
    vae, x = tiny_vae(seed=3).double(), torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(seed)).double()
    weight = torch.linspace(-1, 1, 16, dtype=torch.float64)
    loss = lambda v: (v * weight).square().flatten(1).sum(1)  # noqa: E731
    together = idaa(x, *parts(vae), loss, eps=0.3, norm=norm, steps=2).views
    shuffled = idaa(x[list(rows)], *parts(vae), loss, eps=0.3, norm=norm, steps=2).views
    alone = torch.cat([idaa(x[i : i + 1], *parts(vae), loss, eps=0.3, norm=norm, steps=2).views for i in range(4)])
    torch.testing.assert_close(shuffled, together[list(rows)])
    torch.testing.assert_close(alone, together)


def test_one_source_of_direction(x, vae, loss_fn):
    with pytest.raises(TypeError, match="one of loss_fn and grad"):
        idaa(x, *parts(vae), eps=0.1)
    with pytest.raises(TypeError, match="one of loss_fn and grad"):
        idaa(x, *parts(vae), loss_fn, torch.zeros_like(x), eps=0.1)
