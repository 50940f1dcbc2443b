"""The self-supervised methods of examples/ssl: each loss against a few plain lines, and what it keeps between steps."""

import copy

import pytest
import torch
from config import configure
from methods import METHODS, View
from network import Model
from step import make_attack
from torch import nn
from torch.nn import functional as F

from idaa_transforms.sample import cifar10_sample

N, WIDTH = 6, 12


def method(name):
    torch.manual_seed(0)
    return METHODS[name](WIDTH).eval()


def views(target=None):
    """Features of two views, and embeddings of a target network where the method has one."""
    make = torch.Generator().manual_seed(1)
    rows = lambda width: torch.randn(N, width, generator=make)  # noqa: E731
    return [View(rows(WIDTH), None if target is None else rows(target)) for _ in range(2)]


def unit(rows):
    return rows / rows.norm(dim=1, keepdim=True)


def test_plain():
    m, (a, b) = method("plain"), views()
    score = (unit(m.projector(a.features)) @ unit(m.projector(b.features)).T / 0.1).exp()
    torch.testing.assert_close(m.loss(a, b), -(score.diag() / score.sum(1)).log().mean())


def test_uel():
    m, (a, b) = method("uel"), views()
    z = unit(torch.cat([m.projector(a.features), m.projector(b.features)]))
    total = 0.0
    for i in range(2 * N):
        others = [j for j in range(2 * N) if j != i]
        p = dict(zip(others, (z[i] @ z[others].T / 0.1).softmax(0), strict=True))
        partner = (i + N) % (2 * N)
        total -= p[partner].log() + sum((1 - p[j]).log() for j in others if j != partner)
    torch.testing.assert_close(m.loss(a, b), total / (2 * N), rtol=1e-4, atol=1e-4)


def test_simclr():
    m, (a, b) = method("simclr"), views()
    z = unit(torch.cat([m.projector(a.features), m.projector(b.features)]))
    score = (z @ z.T / 0.5).exp()
    losses = [-(score[i, (i + N) % (2 * N)] / (score[i].sum() - score[i, i])).log() for i in range(2 * N)]
    torch.testing.assert_close(m.loss(a, b), torch.stack(losses).mean())


def test_simsiam():
    m, (a, b) = method("simsiam"), views()
    cosine = lambda a, b: (unit(a) * unit(b)).sum(1)  # noqa: E731
    za, zb = m.projector(a.features), m.projector(b.features)
    expected = -(cosine(m.predictor(za), zb) + cosine(m.predictor(zb), za)).mean() / 2
    torch.testing.assert_close(m.loss(a, b), expected)
    m.loss(a, View(b.features.requires_grad_())).backward()
    predicted = -cosine(m.predictor(m.projector(b.features)), za).mean() / 2
    (through_prediction,) = torch.autograd.grad(predicted, b.features)
    torch.testing.assert_close(b.features.grad, through_prediction)  # and nothing through the other side
    assert list(m.constant_lr()) == list(m.predictor.parameters())


def test_moco():
    m, (a, b) = method("moco"), views(128)

    def direction(query, key):
        q = unit(m.projector(query.features))
        positive, negative = (q * unit(key.target)).sum(1), q @ m.queue.T
        return -(positive / 0.2 - torch.cat([positive[:, None], negative], 1).div(0.2).logsumexp(1)).mean()

    torch.testing.assert_close(m.loss(a, b), (direction(a, b) + direction(b, a)) / 2)


def test_the_queue_of_moco_is_a_ring_and_only_a_step_moves_it():
    m, (a, b) = method("moco"), views(128)
    before = m.queue.clone()
    m.loss(a, b)
    m.attack(lambda x: x, a)(b.features)
    assert torch.equal(m.queue, before)
    m.place.fill_(len(m.queue) - 2)
    m.update([a, b])
    torch.testing.assert_close(m.queue[[-2, -1, 0, 1, 2, 3]], unit(b.target))
    assert m.place == 4
    assert "queue" in m.state_dict()


@pytest.mark.parametrize(("name", "anchor"), [*((name, "same") for name in METHODS), ("simclr", "other")])
def test_an_attack_has_a_slope_and_moves_nothing(name, anchor):
    torch.manual_seed(0)
    config = configure(["--method", name, "--scale", "smoke", "--weights", "cifar10-vae-small"])
    model = Model(config, 32).train()
    x1 = model.normalise(cifar10_sample()[0][:8])
    a, b = model(x1), model(x1.flip(3))
    before = copy.deepcopy(model.state_dict())
    found = make_attack(config, model).explain(x1, loss_fn=model.closure(a if anchor == "same" else b))
    assert found.delta.abs().flatten(1).amax(1).gt(0.099).all()
    assert found.loss_after > found.loss_before
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_target_network_follows():
    model = Model(configure(["--method", "moco", "--scale", "smoke"]), 32)
    before = copy.deepcopy(model.target)
    nn.init.ones_(model.backbone.conv1.weight)
    model.follow()
    torch.testing.assert_close(model.target[0].conv1.weight, 0.99 * before[0].conv1.weight + 0.01)
    x = model.normalise(cifar10_sample()[0][:4])
    torch.testing.assert_close(F.normalize(model(x).target), F.normalize(model.target[1](model.target[0](x))))
