"""Steps stay within the ball, for every norm, eps and dtype, and go uphill."""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from idaa_transforms._core.ascent import Ball, _length

norms, dtypes = st.sampled_from(["linf", "l2"]), st.sampled_from([torch.float32, torch.float64])


def radius(delta, norm):
    rows = delta.flatten(1)
    return rows.abs().amax(1) if norm == "linf" else torch.linalg.vector_norm(rows, dim=1)


@given(
    norm=norms,
    dtype=dtypes,
    start=st.sampled_from(["zero", "uniform"]),
    steps=st.integers(1, 5),
    size=st.floats(0, 10),
    eps=st.one_of(st.floats(0, 3), st.lists(st.floats(0, 3), min_size=5, max_size=5)),
    scale=st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e30]),
    seed=st.integers(0, 2**31),
)
@example(
    norm="l2",
    dtype=torch.float32,
    random_start=False,
    steps=1,
    size=1.0,
    eps=6.468737322078728e-21,
    scale=1e-30,
    seed=0,
)
@example(norm="l2", dtype=torch.float32, random_start=True, steps=3, size=1.0, eps=1e-40, scale=1.0, seed=0)
def test_delta_never_leaves_the_ball(norm, dtype, start, steps, size, eps, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    like = torch.empty(5, 4, 3, dtype=dtype)
    eps = torch.tensor(eps, dtype=dtype) if isinstance(eps, list) else eps
    ball = Ball(eps, norm)
    bound = torch.as_tensor(eps, dtype=dtype)
    delta = ball.start(like, start, generator)
    assert (radius(delta, norm) <= bound).all()
    for _ in range(steps):
        gradient = torch.randn(like.shape, dtype=dtype, generator=generator) * scale
        delta = ball.step(delta, gradient, size)
        assert delta.dtype == dtype
        assert delta.isfinite().all()
        assert (radius(delta, norm) <= bound).all()


@given(norm=norms, scale=st.sampled_from([1e-30, 1e-3, 1.0, 1e30]), seed=st.integers(0, 2**31))
def test_a_step_is_the_steepest_one_of_its_size(norm, scale, seed):
    gradient = torch.randn(3, 7, generator=torch.Generator().manual_seed(seed)) * scale
    delta = Ball(0.5, norm).step(torch.zeros_like(gradient), gradient, 0.5)
    torch.testing.assert_close(radius(delta, norm), torch.full((3,), 0.5))
    unit = gradient.double() / scale
    best = 0.5 * (unit.abs().sum(1) if norm == "linf" else unit.norm(dim=1))
    torch.testing.assert_close((delta.double() * unit).sum(1), best, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_small_steps_with_the_same_gradient_add_up_to_one_large_one(norm):
    gradient = torch.randn(3, 7)
    ball, zero = Ball(1.0, norm), torch.zeros(3, 7)
    small = ball.step(ball.step(zero, gradient, 0.25), gradient, 0.25)
    torch.testing.assert_close(small, ball.step(zero, gradient, 0.5))


def test_zero_gradient_moves_nothing():
    for norm in ("linf", "l2"):
        assert torch.equal(Ball(0.5, norm).step(torch.zeros(2, 3), torch.zeros(2, 3), 0.5), torch.zeros(2, 3))


def test_uniform_start_fills_the_ball_evenly():
    like = torch.empty(4000, 3)
    generator = torch.Generator().manual_seed(0)
    box = Ball(2.0, "linf").start(like, "uniform", generator)
    assert abs((box.abs() < 1).float().mean() - 0.5) < 0.02
    sphere = radius(Ball(2.0, "l2").start(like, "uniform", generator), "l2")
    assert abs((sphere < 1).float().mean() - 1 / 8) < 0.02  # half the radius holds an eighth of the volume
    assert sphere.max() <= 2


def test_projection_is_the_nearest_point_and_idempotent():
    delta = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    torch.testing.assert_close(Ball(1.0, "l2").project(delta), torch.tensor([[0.6, 0.8], [0.3, 0.4]]))
    torch.testing.assert_close(Ball(1.0, "linf").project(delta), torch.tensor([[1.0, 1.0], [0.3, 0.4]]))
    for norm in ("linf", "l2"):
        once = Ball(1.0, norm).project(delta)
        assert torch.equal(Ball(1.0, norm).project(once), once)
    assert _length(delta).shape == (2, 1)
