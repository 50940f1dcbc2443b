"""The controls of examples/ssl, each against a few plain lines."""

import pytest
import torch
from config import configure
from controls import random_step
from network import Model
from step import augmentations, backward, make_attack, random_views, see
from torch.nn import functional as F

from idaa_transforms.sample import cifar10_sample


@pytest.fixture
def images():
    return cifar10_sample()[0][:16]


def model_of(*options):
    config = configure(["--scale", "smoke", "--weights", "cifar10-vae-small", *options])
    torch.manual_seed(0)
    return config, Model(config, 32)


def gradients(model):
    found = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    return found


def test_a_random_step_is_as_long_as_the_adversarial_one(images):
    config, model = model_of("--view", "latent")
    attack = make_attack(config, model)
    x = model.normalise(images)
    with torch.no_grad():
        z = attack.codec.encode(x)
        torch.manual_seed(0)
        signs = torch.where(torch.randn_like(z) > 0, 1.0, -1.0)
        by_hand = x - attack.codec.decode(z, x.shape) + attack.codec.decode(z + 0.3 * signs, x.shape)
    torch.manual_seed(0)
    torch.testing.assert_close(random_step(attack, x, 0.3), by_hand)
    found = attack.explain(x, grad=torch.randn_like(x), eps=0.3)
    torch.testing.assert_close(found.delta.abs(), torch.full_like(z, 0.3))


def test_a_matched_random_step_is_as_long_in_the_pixels(images):
    config, model = model_of("--view", "latent")
    attack, x = make_attack(config, model), model.normalise(images)
    like = attack(x, grad=torch.randn_like(x), eps=0.2)
    found = random_step(attack, x, 0.1, like)
    torch.testing.assert_close((found - x).flatten(1).norm(dim=1), (like - x).flatten(1).norm(dim=1))
    apart = F.cosine_similarity((found - x).flatten(1), (random_step(attack, x, 0.1) - x).flatten(1))
    assert (apart.abs() < 0.9).all()  # other signs each time


def test_the_same_crop_differs_in_its_colours_alone(images):
    config, model = model_of("--view", "same-crop", "--jitter", "0", "0", "0", "0", "--gray", "0")
    (x1, x2), (again,) = random_views(model, augmentations(config, images.shape[1:]), images, slice(None))
    assert torch.equal(again, x1)
    assert not torch.equal(x2, x1)
    config, model = model_of("--view", "same-crop")
    (x1, _), (again,) = random_views(model, augmentations(config, images.shape[1:]), images, slice(None))
    assert not torch.equal(again, x1)


def test_disturbances_reach_every_view(images):
    config, model = model_of("--view", "third", "--mixup", ".2", "--quantize", "2")
    two, more = random_views(model, augmentations(config, images.shape[1:]), images, slice(None))
    assert len(two) == 2
    assert len(more) == 1
    assert all(len(view[0, 0].unique()) == 2 for view in (*two, *more))


@pytest.mark.parametrize("view", ["idaa-grad", "clae-grad"])
def test_a_hard_view_by_the_steps_own_gradient(view, images):
    config, model = model_of("--view", view, "--alpha", "0.5")
    attack = make_attack(config, model)
    x1, x2 = model.normalise(images), model.normalise(images.flip(-1))
    backward(model, attack, x1.clone(), x2, [], 0.1)
    found = gradients(model)

    leaf = x1.clone().requires_grad_()
    model.method.loss(model(leaf), model(x2)).backward()
    hard = attack(x1, grad=leaf.grad, eps=0.1)
    model.zero_grad()
    a = model(x1)
    (model.method.loss(a, model(x2)) + 0.5 * model.method.loss(a, model(hard, hard=True))).backward()
    torch.testing.assert_close(found, gradients(model))


def test_hard_views_of_both_from_one_gradient(images):
    config, model = model_of("--view", "idaa-grad", "--pair", "both", "--no-dual-bn", "--eps", ".3", "--coarse")
    attack, (x1, x2) = make_attack(config, model), model.normalise(images).chunk(2)
    clean, total, _ = backward(model, attack, x1.clone(), x2.clone(), [], 0.3)
    found = gradients(model)
    leaves = [x.clone().requires_grad_() for x in (x1, x2)]
    loss = model.method.loss(*(model(F.avg_pool2d(leaf, 2)) for leaf in leaves))
    slopes = torch.autograd.grad(loss, leaves)
    hard = [attack(x, grad=slope, eps=0.3) for x, slope in zip((x1, x2), slopes, strict=True)]
    by_hand = model.method.loss(*map(model, hard))
    by_hand.backward()
    torch.testing.assert_close((clean, total), (loss.detach(), by_hand.detach()), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found, gradients(model), rtol=1e-3, atol=1e-4)


def test_a_signal_at_half_the_resolution_keeps_its_channels(images):
    """Not the mean of two of them: (B, C, L) is no image of height C."""
    config = configure(["--scale", "smoke", "--signals", "--view", "idaa-grad", "--coarse"])
    model, x = Model(config, 64, ([0.0] * 6, [1.0] * 6)), torch.randn(8, 6, 64)
    by_hand = torch.stack([x[..., ::2], x[..., 1::2]]).mean(0)
    torch.testing.assert_close(see(model, x).features, model(by_hand).features)
