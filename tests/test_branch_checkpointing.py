"""Dual batch norm under activation checkpointing: gradients and statistics as without it."""

import copy
import functools
import gc
import inspect
import threading
import weakref

import pytest
import timm
import torch
from timm.models import checkpoint_seq
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from idaa_transforms.batchnorm import branch, convert_dual_batchnorm


class Block(nn.Module):
    """A residual block; its shortcut is a convolution without a norm, which goes backward before any norm does."""

    def __init__(self, inside, outside):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(inside, outside, 3, padding=1), nn.BatchNorm2d(outside), nn.Tanh())
        self.shortcut = nn.Conv2d(inside, outside, 1)

    def forward(self, x):
        body = self.body(x)  # the shortcut is the newer node, so that autograd comes to it first
        return body * self.shortcut(x)


class Net(nn.Module):
    """Three blocks and a norm at the end; ``how`` says what is checkpointed."""

    def __init__(self, how):
        super().__init__()
        self.how = how
        self.one, self.two, self.three = Block(3, 4), Block(4, 4), Block(4, 4)
        self.last = nn.BatchNorm1d(4)

    def forward(self, x):
        return self.last(HOW[self.how](self, x).mean((2, 3)))


def region(reentrant):
    return functools.partial(checkpoint, use_reentrant=reentrant)


HOW = {
    "plain": lambda net, x: net.three(net.two(net.one(x))),
    "modules": lambda net, x: region(False)(net.three, region(False)(net.two, region(False)(net.one, x))),
    "modules, reentrant": lambda net, x: region(True)(net.three, region(True)(net.two, net.one(x))),
    "first operation, reentrant": lambda net, x: net.three(net.two(region(True)(net.one, x.requires_grad_()))),
    "lambda": lambda net, x: net.three(region(False)(lambda t: net.two(net.one(t)), x)),
    "lambda, reentrant": lambda net, x: net.three(region(True)(lambda t: net.two(net.one(t)), x.requires_grad_())),
    "sequential": lambda net, x: checkpoint_sequential([net.one, net.two, net.three], 2, x, use_reentrant=False),
    "sequential, reentrant": lambda net, x: checkpoint_sequential(
        [net.one, net.two, net.three], 2, x.requires_grad_(), use_reentrant=True
    ),
    "timm's": lambda net, x: checkpoint_seq([net.one, net.two, net.three], x, every=2, use_reentrant=False),
    "nested": lambda net, x: region(False)(
        lambda t: net.three(region(False)(lambda u: net.two(region(False)(net.one, u)), t)), x
    ),
    "nested, reentrant": lambda net, x: region(True)(
        lambda t: net.three(region(True)(lambda u: net.two(region(True)(net.one, u)), t)), x.requires_grad_()
    ),
    "reentrant around not reentrant": lambda net, x: region(True)(
        lambda t: net.three(region(False)(lambda u: net.two(net.one(u)), t)), x.requires_grad_()
    ),
    "not reentrant around reentrant": lambda net, x: region(False)(
        lambda t: net.three(region(True)(lambda u: net.two(net.one(u)), t)), x.requires_grad_()
    ),
}


def trained(model, backward, steps=2, size=8, call=None):
    """Gradients and state after some steps on clean and hard images; ``call`` is the model, compiled."""
    call = model if call is None else call
    draw = torch.Generator().manual_seed(5)
    for _ in range(steps):
        x, hard = torch.randn(2, 6, 3, size, size, generator=draw, dtype=torch.float64)
        clean = call(x).square()
        with branch(model, "adversarial"):
            adversarial = call(3 * hard + 1).tanh()
        weights = torch.arange(4.0)
        backward((weights * clean).sum(), (weights * adversarial).sum())
    return {name: p.grad for name, p in model.named_parameters()}, model.state_dict()


def jointly(clean, adversarial):
    (clean + adversarial).backward()


def one_by_one(clean, adversarial):
    adversarial.backward()
    clean.backward()


def net(how):
    torch.manual_seed(0)
    return convert_dual_batchnorm(Net(how).double())


@pytest.mark.parametrize("backward", [jointly, one_by_one])
@pytest.mark.parametrize("how", list(HOW)[1:])
def test_a_recomputation_is_on_the_branch_of_its_forward_pass(how, backward):
    if how == "timm's" and "use_reentrant" not in inspect.signature(checkpoint_seq).parameters:
        pytest.skip("this timm does not let one choose the kind of checkpointing")
    ours, theirs = trained(net(how), backward), trained(net("plain"), backward)
    torch.testing.assert_close(ours, theirs)
    assert all(gradient.any() for gradient in theirs[0].values())


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050"])
def test_timms_gradient_checkpointing(name, reentrant):
    results = []
    if not hasattr(timm.layers, "use_reentrant_ckpt"):
        pytest.skip("this timm does not let one choose the kind of checkpointing")
    before = timm.layers.use_reentrant_ckpt()
    timm.layers.set_reentrant_ckpt(reentrant)
    try:
        for checkpointed in (True, False):
            torch.manual_seed(0)
            model = convert_dual_batchnorm(timm.create_model(name, num_classes=4)).double()
            model.set_grad_checkpointing(checkpointed)
            results.append(trained(model, jointly, steps=1, size=32))
    finally:
        timm.layers.set_reentrant_ckpt(before)
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("how", ["plain", "modules", "nested"])
def test_checkpointing_in_a_compiled_model(how):
    model = net(how)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(trained(model, jointly, call=compiled), trained(net("plain"), jointly))


def test_a_backward_pass_within_a_block_and_evaluation_in_between():
    gradients = []
    for model in (net("modules"), net("plain")):
        x = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        loss = model(x).square()[:, 0].tanh().sum()
        with branch(model, "adversarial"):
            loss.backward()
            with torch.inference_mode():
                model(x)
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("reentrant", [False, True])
def test_blocks_within_a_checkpointed_part(reentrant):
    """Both passes in one region: each in a block of its own."""

    def both(model, x, hard):
        with branch(model, "clean"):
            clean = model(x)
        with branch(model, "adversarial"):
            return clean.square()[:, 0] + model(hard).tanh()[:, 1]

    gradients = []
    for checkpointed in (True, False):
        model = net("plain")
        x, hard = torch.randn(2, 6, 3, 8, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        x.requires_grad_()
        loss = region(reentrant)(both, model, x, hard) if checkpointed else both(model, x, hard)
        loss.tanh().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*gradients)


def test_what_cannot_be_told_is_refused():
    model, x = net("modules"), torch.randn(6, 3, 8, 8, dtype=torch.float64)

    def outside_and_inside():
        clean = model(x)
        with branch(model, "adversarial"):
            return (clean + model(x)).tanh().sum()

    with pytest.raises(RuntimeError, match="open a block for each"):
        checkpoint(outside_and_inside, use_reentrant=False).backward()

    loss = model(x).tanh().sum()
    for _ in range(1025):
        with branch(model, "adversarial"):
            pass
    with pytest.raises(RuntimeError, match="more than 1,024 `with branch` blocks old"):
        loss.backward()

    losses = []
    thread = threading.Thread(target=lambda: losses.append(model(x).tanh().sum()))
    thread.start()
    thread.join()
    with pytest.raises(RuntimeError, match="ran in several threads"):
        losses[0].backward()


def test_the_history_of_branches_keeps_no_model_and_no_graph():
    model = net("modules")
    copy.deepcopy(model)
    with branch(model, "adversarial"):
        loss = model(torch.randn(6, 3, 8, 8, dtype=torch.float64)).tanh().sum()
    loss.backward()
    norm, node = weakref.ref(model.last), weakref.ref(loss)
    del model, loss
    gc.collect()
    assert norm() is None
    assert node() is None
