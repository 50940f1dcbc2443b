"""CLAE, the same step in pixels."""

import torch

from idaa_transforms import CLAETransform


def test_is_the_sign_of_the_pixel_gradient(x, loss_fn):
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss_fn(leaf).sum(), leaf)
    assert torch.equal(CLAETransform(0.01)(x, loss_fn=loss_fn), x + 0.01 * gradient.sign())


def test_many_steps_with_clip(x, loss_fn):
    views = CLAETransform(0.03, steps=5, random_start=True, clip=(0.0, 1.0))(x, loss_fn=loss_fn)
    assert (views - x).abs().max() <= 0.03 + 1e-6
    assert views.min() >= 0
    assert views.max() <= 1
    assert (loss_fn(views) > loss_fn(x)).all()
