"""Views and controls of examples/ssl, each against a few plain lines, and what a step must not do on a GPU."""

from contextlib import nullcontext

import board
import pytest
import torch
from config import configure
from network import Model
from step import augmentations, backward, make_attack, random_step, random_views, see, update
from torch.nn import functional as F
from train import make_optimiser

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


def test_a_matched_random_step_is_as_long_in_the_pixels(images):
    config, model = model_of("--view", "latent", "--eps", "0.1")
    attack, x = make_attack(config, model), model.normalise(images)
    like = attack(x, grad=torch.randn_like(x), eps=0.2)
    found = random_step(attack, x, like)
    torch.testing.assert_close((found - x).flatten(1).norm(dim=1), (like - x).flatten(1).norm(dim=1))
    with torch.no_grad():
        torch.manual_seed(0)
        z = attack.codec.encode(x)
        moved = attack.codec.decode(z + 0.1 * torch.randn_like(z).sign(), x.shape)
        by_hand = x - attack.codec.decode(z, x.shape) + moved
    torch.manual_seed(0)
    torch.testing.assert_close(random_step(attack, x), by_hand)
    apart = F.cosine_similarity((found - x).flatten(1), (random_step(attack, x) - x).flatten(1))
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
    backward(model, attack, x1.clone(), x2, [])
    found = gradients(model)

    leaf = x1.clone().requires_grad_()
    model.method.loss(model(leaf), model(x2)).backward()
    hard = attack(x1, grad=leaf.grad)
    model.zero_grad()
    a = model(x1)
    (model.method.loss(a, model(x2)) + 0.5 * model.method.loss(a, model(hard, hard=True))).backward()
    torch.testing.assert_close(found, gradients(model))


def test_hard_views_of_both_from_one_gradient(images):
    config, model = model_of("--view", "idaa-grad", "--pair", "both", "--no-dual-bn", "--eps", ".3", "--coarse")
    attack, (x1, x2) = make_attack(config, model), model.normalise(images).chunk(2)
    clean, total, _ = backward(model, attack, x1.clone(), x2.clone(), [])
    found = gradients(model)
    leaves = [x.clone().requires_grad_() for x in (x1, x2)]
    loss = model.method.loss(*(model(F.avg_pool2d(leaf, 2)) for leaf in leaves))
    slopes = torch.autograd.grad(loss, leaves)
    hard = [attack(x, grad=slope) for x, slope in zip((x1, x2), slopes, strict=True)]
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


VIEWS = list(board.SETTINGS["cifar10-paper-resnet18"].epochs)


def a_step(name, device, images):
    """A step of a method of the paper's board, after one on the CPU: an attack reads values in its first call."""
    config, model = model_of(*board.METHODS[name], "--temperature", ".5")
    attack, augment = make_attack(config, model), augmentations(config, images.shape[1:])
    update(model, attack, augment, make_optimiser(config, model), images)
    model = model.to(device)
    if attack is not None:
        attack.codec.to(torch.device(device), None)
    optimiser, x = make_optimiser(config, model), images.to(device)
    return lambda: update(model, attack, augment, optimiser, x)


@pytest.mark.parametrize("name", VIEWS)
def test_a_step_reads_no_values(name, images, monkeypatch):
    """On tensors that have none, so that `.item()`, a mask as an index or a loop over images fails, as it would make a
    GPU wait."""
    step = a_step(name, "meta", images)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which knows no such device
    assert step().is_meta


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", VIEWS)
def test_a_step_does_not_wait_for_the_gpu(name, images):
    step = a_step(name, "cuda", images)
    step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
