"""After a call, nothing of the user's has moved, also when the closure raises."""

import functools
import warnings

import pytest
import torch
from conftest import Encoder
from torch import nn

from idaa_transforms import ClosureMutationWarning, IDAATransform, preserve_state


def snapshot(model):
    return {
        "grads": {n: (p.grad, None if p.grad is None else p.grad.clone()) for n, p in model.named_parameters()},
        "state": {n: t.clone() for n, t in model.state_dict().items()},
        "center": model.center.clone(),
        "modes": {n: m.training for n, m in model.named_modules()},
        "requires_grad": {n: p.requires_grad for n, p in model.named_parameters()},
        "autocast": torch.is_autocast_enabled("cpu"),
        "grad mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
    }


def assert_same(before, after):
    assert before.keys() == after.keys()
    for key in ("modes", "requires_grad", "autocast", "grad mode"):
        assert before[key] == after[key], key
    for name, tensor in before["state"].items():
        assert torch.equal(tensor, after["state"][name]), name
    assert torch.equal(before["center"], after["center"])
    for name, (held, value) in before["grads"].items():
        assert after["grads"][name][0] is held, name
        assert held is None or torch.equal(held, value), name


def cross_entropy(model, views):
    return nn.functional.cross_entropy(model(views), torch.arange(len(views)) % 6)


class Objective:
    def __init__(self, model):
        self.parts = {"online": [model]}

    def __call__(self, views):
        return cross_entropy(self.parts["online"][0], views)

    def method(self, views):
        return self(views)


class Module(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, views):
        return cross_entropy(self.model, views)


GLOBAL = Encoder()


def by_global(views):
    return inner_by_global(views)


def inner_by_global(views):
    return cross_entropy(GLOBAL, views)


def decorated(model):
    @functools.wraps(cross_entropy)
    def wrapper(views):
        return cross_entropy(model, views)

    return functools.lru_cache(maxsize=None)(lambda: wrapper)()


def compiled(model):
    fast = torch.compile(model, backend="eager")
    return lambda views: cross_entropy(fast, views)


CLOSURES = {
    "lambda": lambda m: lambda v: cross_entropy(m, v),
    "default argument": lambda m: lambda v, m=m: cross_entropy(m, v),
    "partial": lambda m: functools.partial(cross_entropy, m),
    "object": Objective,
    "bound method": lambda m: Objective(m).method,
    "module": Module,
    "list": lambda m: lambda v, held=[m]: cross_entropy(held[0], v),
    "global": lambda m: by_global,
    "decorated": decorated,
    "torch.compile": compiled,
    "no_grad elsewhere": lambda m: torch.enable_grad()(lambda v: cross_entropy(m, v)),
}


@pytest.mark.parametrize("kind", CLOSURES)
@pytest.mark.parametrize("raises", [False, True])
def test_nothing_of_the_users_moves(kind, raises, x, vae):
    model = GLOBAL if kind == "global" else Encoder()
    model.train()
    model.frozen.eval()
    model(x).square().sum().backward()
    model.head.bias.grad = None
    closure = CLOSURES[kind](model)
    before = snapshot(model)

    def loss_fn(views):
        loss = closure(views)
        if raises:
            raise RuntimeError("half-way")
        return loss

    aug = IDAATransform(vae)
    if raises:
        with pytest.raises(RuntimeError, match="half-way"):
            aug(x, loss_fn=loss_fn)
    else:
        assert not torch.equal(aug(x, loss_fn=loss_fn), x)
    assert_same(before, snapshot(model))


def test_without_the_guard_all_of_it_would_move(x):
    model = Encoder().train()
    before = snapshot(model)
    cross_entropy(model, x).backward()
    with pytest.raises(AssertionError):
        assert_same(before, snapshot(model))
    assert not torch.equal(before["center"], model.center)
    assert not torch.equal(before["state"]["queue"], model.queue)
    assert not torch.equal(before["state"]["body.1.running_mean"], model.body[1].running_mean)


def test_a_closure_that_misbehaves_on_purpose(x, vae):
    """It switches modes, runs backward, rebinds a buffer and turns autocast on within."""
    model = Encoder().train()
    model.frozen.eval()
    model(x).sum().backward()
    before = snapshot(model)

    def loss_fn(views):
        model.eval()
        model.frozen.train()
        with torch.autocast("cpu", torch.bfloat16):
            loss = cross_entropy(model, views)
        cross_entropy(model, views.detach()).backward()
        model.queue = torch.zeros(2, 2)
        return loss

    IDAATransform(vae)(x, loss_fn=loss_fn)
    assert_same(before, snapshot(model))


def test_an_earlier_graph_through_the_model_stays_valid(x, vae):
    model = Encoder().train()
    loss = cross_entropy(model, x)
    IDAATransform(vae)(x, loss_fn=lambda v: cross_entropy(model, v))
    loss.backward()
    assert model.head.weight.grad is not None


def test_strict_names_what_the_closure_changed(x, vae):
    model = Encoder().train()
    captured = torch.zeros(3)

    def loss_fn(views):
        captured.add_(1)
        with torch.no_grad():
            model.head.bias.mul_(1.1)
        model.frozen.eval()
        return cross_entropy(model, views)

    with pytest.warns(ClosureMutationWarning) as told:
        IDAATransform(vae, strict=True)(x, loss_fn=loss_fn)
    message = str(told[0].message)
    for name in ("body.1.running_mean", "queue", "center", "captured", "head.bias", "frozen.training"):
        assert name in message
    assert "body.0.weight" not in message


def test_strict_with_warnings_as_errors_puts_everything_back_all_the_same(x, vae):
    model = Encoder().train()
    before = snapshot(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ClosureMutationWarning, match="running_mean"):
            IDAATransform(vae, strict=True)(x, loss_fn=lambda v: cross_entropy(model, v))
    assert_same(before, snapshot(model))


def test_strict_is_silent_where_nothing_changed(x, vae, loss_fn):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        IDAATransform(vae, strict=True)(x, loss_fn=loss_fn)


def test_untouched_alone_as_a_context(x):
    model = Encoder().train()
    before = snapshot(model)
    with preserve_state(model):
        cross_entropy(model, x).backward()
        model.eval()
    assert_same(before, snapshot(model))
