"""The method: equal to the authors' order of operations, in the fewest passes, within its ball, on any tensors."""

import pytest
import torch
from conftest import changed, images, rising, tiny_vae
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reference import authors_views
from torch import nn

from idaa_transforms.functional import idaa, input_gradient

NORMS = st.sampled_from(["linf", "l2"])


def parts(vae):
    return lambda x: vae.encode(x).mean, vae.decode


def same(x):
    return x


def radius(delta, norm):
    rows = delta.flatten(1)
    return rows.abs().amax(1) if norm == "linf" else torch.linalg.vector_norm(rows, dim=1)


class Counter(nn.Module):
    """Counts the rows of each call."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.rows = inner, []

    def forward(self, *args):
        self.rows.append(len(args[0]))
        return self.inner(*args)


@pytest.mark.parametrize("eps", [0.03, 1.0])
def test_same_views_as_the_authors_order_of_operations(x, vae, loss_fn, eps):
    x = 4 * x - 2
    ours = idaa(x, *parts(vae), loss_fn, eps=eps).views
    torch.testing.assert_close(ours, authors_views(x, vae, loss_fn, eps), rtol=0, atol=1e-6)


def test_a_given_gradient_gives_the_views_of_the_loss_without_a_pass_of_the_model(x, vae, loss_fn):
    by_loss = idaa(x.double(), *parts(vae.double()), lambda v: loss_fn(v.float()), eps=0.1)
    gradient, _ = input_gradient(loss_fn, x)
    encode, decode = map(Counter, parts(vae))
    by_grad = idaa(x.double(), encode, decode, grad=gradient, eps=0.1)
    torch.testing.assert_close(by_grad.views, by_loss.views, rtol=0, atol=1e-6)
    assert (len(encode.rows), len(decode.rows)) == (1, 2)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(
    ("random_start", "steps", "decodes"), [(False, 1, 2), (True, 1, 3), (False, 4, 5), (True, 3, 5)]
)
def test_the_loss_rises_and_the_residual_stays_in_the_fewest_passes(
    x, vae, loss_fn, norm, random_start, steps, decodes
):
    encode, decode, loss = Counter(parts(vae)[0]), Counter(vae.decode), Counter(loss_fn)
    found = idaa(x, encode, decode, loss, eps=0.5, norm=norm, steps=steps, random_start=random_start)
    assert (len(encode.rows), len(decode.rows), len(loss.rows)) == (1, decodes, steps)
    assert (loss_fn(found.views) > loss_fn(x)).all()
    torch.testing.assert_close(found.views - vae.decode(found.latent + found.delta), x - vae.decode(found.latent))
    torch.testing.assert_close(found.residual, x - found.reconstruction)
    assert not any(t.requires_grad for t in (found.views, found.delta, found.latent, found.residual, found.gradient))
    assert found.finite.all()


def test_no_gradient_of_any_parameter_is_computed(x, vae, encoder, loss_fn):
    computed = []
    vae.requires_grad_(True)
    for p in [*vae.parameters(), *encoder.parameters()]:
        p.register_hook(lambda g: computed.append(g.shape))
    idaa(x, *parts(vae), loss_fn, eps=0.1)
    assert computed == []
    loss_fn(x).sum().backward()
    assert computed  # the hooks do see a backward pass


@pytest.mark.parametrize("size", [1, 3, 9])
def test_chunks_give_the_same_views_and_bound_the_rows(x, vae, loss_fn, size):
    encode, decode = map(Counter, parts(vae))
    whole = idaa(x, *parts(vae), loss_fn, eps=0.1, steps=2)
    chunked = idaa(x, encode, decode, loss_fn, eps=0.1, steps=2, chunk_size=size)
    torch.testing.assert_close(chunked.views, whole.views)
    assert max(encode.rows + decode.rows) <= size


def test_clip_bounds_views_and_passes_the_gradient(x, vae, loss_fn):
    free = idaa(x, *parts(vae), loss_fn, eps=1.0)
    clipped = idaa(x, *parts(vae), loss_fn, eps=1.0, clip=(0.0, 1.0))
    assert free.views.max() > 1
    torch.testing.assert_close(clipped.views, free.views.clamp(0, 1), atol=1e-5, rtol=0)


def test_a_signal_with_its_own_autoencoder():
    """Nothing in the method is about images: a 1-D signal, and a latent that is not flat."""
    torch.manual_seed(0)
    down, up = nn.Conv1d(2, 3, 4, stride=2, padding=1), nn.ConvTranspose1d(3, 2, 4, stride=2, padding=1)
    head, eps = nn.Linear(2, 5), torch.linspace(0.1, 0.6, 6)
    x = torch.randn(6, 2, 20)
    loss = lambda v: head(v.mean(2)).square().sum(1)  # noqa: E731
    found = idaa(x, down, up, loss, eps=eps, norm="l2", steps=3)
    assert found.latent.shape == (6, 3, 10)
    assert (loss(found.views) > loss(x)).all()
    assert (radius(found.delta, "l2") <= eps).all()


def test_a_latent_with_its_unit():
    x, unit = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 10.0], [2.0, 20.0]])
    found = idaa(x, lambda v: (v, unit), same, lambda v: v.sum(1), eps=torch.tensor([0.1, 0.2]))
    torch.testing.assert_close(found.views - x, torch.tensor([[0.1, 1.0], [0.4, 4.0]]))
    torch.testing.assert_close(found.delta, torch.tensor([[0.1, 0.1], [0.2, 0.2]]))


@pytest.mark.parametrize("options", [{}, {"steps": 2}, {"random_start": True}, {"clip": (0.1, 0.9)}])
def test_what_enlarges_the_decoded_runs_apart_from_it(x, vae, options):
    """A linear map and its adjoint give the views of the decoder that has the map in it."""
    lift = lambda v: v.repeat_interleave(3, 2)  # noqa: E731
    back = lambda g: g.unflatten(2, (-1, 3)).sum(3)  # noqa: E731
    tall = lift(x) + 0.01 * torch.arange(48)[:, None]
    encode, options = (lambda v: vae.encode(v[:, :, ::3]).mean), {"eps": 0.3, "norm": "l2"} | options
    inside, apart = (
        idaa(tall, encode, decode, rising, **options, generator=torch.Generator().manual_seed(0), **more)
        for decode, more in ((lambda z: lift(vae.decode(z)), {}), (vae.decode, {"lift": (lift, back)}))
    )
    torch.testing.assert_close(apart.views, inside.views, atol=1e-5, rtol=0)
    torch.testing.assert_close(apart.residual, inside.residual)


@pytest.mark.parametrize("clip", [None, (0.2, 0.8)])
def test_a_row_without_a_finite_direction_comes_back_as_it_was(x, vae, clip):
    gradient = torch.randn_like(x)
    gradient[1, 0, 0, 0] = float("nan")
    gradient[2] = float("inf")
    found = idaa(x, *parts(vae), grad=gradient, eps=0.1, clip=clip)
    assert found.finite.tolist() == [True, False, False, True]
    assert torch.equal(found.views[1:3], x[1:3])
    assert changed(found.views[[0, 3]], x[[0, 3]]).all()
    assert found.views.isfinite().all()


@settings(max_examples=8)
@given(seed=st.integers(0, 2**31), rows=st.permutations(range(4)), norm=NORMS)
def test_a_view_does_not_depend_on_its_neighbours(seed, rows, norm):
    vae, x = tiny_vae(seed=3).double(), images((4, 3, 16, 16), seed, torch.float64)
    views = lambda x: idaa(x, *parts(vae), rising, eps=0.3, norm=norm, steps=2).views  # noqa: E731
    together = views(x)
    torch.testing.assert_close(views(x[list(rows)]), together[list(rows)])
    torch.testing.assert_close(torch.cat([views(x[i : i + 1]) for i in range(4)]), together)


def test_wrong_arguments(x, vae, loss_fn):
    for source in ((), (loss_fn, torch.zeros_like(x))):
        with pytest.raises(TypeError, match="one of loss_fn and grad"):
            idaa(x, *parts(vae), *source, eps=0.1)
    with pytest.raises(ValueError, match="steps=0 must be a whole number of at least 1"):
        idaa(x, *parts(vae), loss_fn, eps=0.1, steps=0)
    with pytest.raises(ValueError, match="target_gain counts from the image itself"):
        idaa(x, *parts(vae), loss_fn, eps=0.1, target_gain=0.1, random_start=True)


class TestSteps:
    """In the space of x itself, where delta is the change of x."""

    @given(
        norm=NORMS,
        dtype=st.sampled_from([torch.float32, torch.float64]),
        random_start=st.booleans(),
        steps=st.integers(1, 5),
        size=st.floats(0, 10),
        eps=st.one_of(st.floats(0, 3), st.lists(st.floats(0, 3), min_size=5, max_size=5)),
        scale=st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e30]),
        seed=st.integers(0, 2**31),
    )
    @example("l2", torch.float32, False, 1, 1.0, 6.468737322078728e-21, 1e-30, 0)
    @example("l2", torch.float32, True, 3, 1.0, 1e-40, 1.0, 0)
    def test_delta_never_leaves_the_ball(self, norm, dtype, random_start, steps, size, eps, scale, seed):
        generator = torch.Generator().manual_seed(seed)
        eps = torch.tensor(eps, dtype=dtype) if isinstance(eps, list) else eps
        loss = lambda v: (v * torch.randn(v.shape, dtype=dtype, generator=generator) * scale).sum()  # noqa: E731
        found = idaa(
            torch.zeros(5, 4, 3, dtype=dtype), same, same, loss, eps=eps, norm=norm, steps=steps,
            step_size=size, random_start=random_start, generator=generator,
        )  # fmt: skip
        assert found.delta.dtype == dtype
        assert found.delta.isfinite().all()
        assert (radius(found.delta, norm) <= torch.as_tensor(eps, dtype=dtype)).all()

    @given(norm=NORMS, scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e30]), seed=st.integers(0, 2**31))
    def test_a_step_is_the_steepest_one_of_its_size(self, norm, scale, seed):
        gradient = torch.randn(3, 7, generator=torch.Generator().manual_seed(seed)) * scale
        delta = idaa(torch.zeros(3, 7), same, same, grad=gradient, eps=0.5, norm=norm).delta
        torch.testing.assert_close(radius(delta, norm), torch.full((3,), 0.5))
        unit = gradient.double() / scale
        best = 0.5 * (unit.abs().sum(1) if norm == "linf" else unit.norm(dim=1))
        torch.testing.assert_close((delta.double() * unit).sum(1), best, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("norm", ["linf", "l2"])
    def test_steps_add_up_and_a_zero_gradient_moves_nothing(self, norm):
        x, gradient = torch.zeros(3, 7), torch.randn(3, 7)
        two, one = (
            idaa(x, same, same, grad=gradient, eps=1.0, norm=norm, steps=steps, step_size=0.5 / steps).delta
            for steps in (2, 1)
        )
        torch.testing.assert_close(two, one)
        assert torch.equal(idaa(x, same, same, grad=x, eps=0.5, norm=norm).delta, x)

    def test_a_random_start_fills_the_ball_evenly(self):
        x = torch.zeros(4000, 3)
        start = lambda norm: radius(  # noqa: E731
            idaa(
                x, same, same, grad=x, eps=2.0, norm=norm, random_start=True, generator=torch.Generator().manual_seed(0)
            ).delta,
            norm,
        )
        for norm in ("linf", "l2"):
            assert abs((start(norm) < 1).float().mean() - 1 / 8) < 0.02  # half the radius: an eighth of the volume
            assert start(norm).max() <= 2
