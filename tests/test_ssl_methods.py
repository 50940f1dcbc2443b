"""The self-supervised methods of examples/ssl: each loss against a few plain lines, and what it keeps between steps."""

import copy

import pytest
import torch
from config import configure
from methods import METHODS, View
from network import Model
from torch import nn
from torch.nn import functional as F

from idaa_transforms.util.sample import cifar10_sample

pytestmark = pytest.mark.slow

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


def cosine(a, b):
    return (unit(a) * unit(b)).sum(1)


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
    za, zb = m.projector(a.features), m.projector(b.features)
    expected = -(cosine(m.predictor(za), zb) + cosine(m.predictor(zb), za)).mean() / 2
    torch.testing.assert_close(m.loss(a, b), expected)
    m.loss(a, View(b.features.requires_grad_())).backward()
    through_prediction = torch.autograd.grad(-cosine(m.predictor(m.projector(b.features)), za).mean() / 2, b.features)[
        0
    ]
    torch.testing.assert_close(b.features.grad, through_prediction)  # and nothing through the other side
    assert list(m.constant_lr()) == list(m.predictor.parameters())


def test_byol():
    m, (a, b) = method("byol"), views(256)
    predict = lambda view: m.predictor(m.projector(view.features))  # noqa: E731
    expected = -(cosine(predict(a), b.target) + cosine(predict(b), a.target)).mean() / 2
    torch.testing.assert_close(m.loss(a, b), expected)


def test_moco():
    m, (a, b) = method("moco"), views(128)

    def direction(query, key):
        q = unit(m.projector(query.features))
        positive, negative = (q * unit(key.target)).sum(1), q @ m.queue.T
        return -(positive / 0.2 - torch.cat([positive[:, None], negative], 1).div(0.2).logsumexp(1)).mean()

    torch.testing.assert_close(m.loss(a, b), (direction(a, b) + direction(b, a)) / 2)


def test_swav():
    m, (a, b) = method("swav"), views()

    def scores(view):
        return unit(m.projector(view.features)) @ m.prototypes.weight.T

    def codes(score):  # three rounds of making rows, then columns, sum to one
        q = (score / 0.05).exp().T
        for _ in range(3):
            q = q / q.sum(1, keepdim=True)
            q = q / q.sum(0, keepdim=True)
        return q.T

    sa, sb = scores(a), scores(b)
    expected = -((codes(sa) * (sb / 0.1).log_softmax(1)).sum(1) + (codes(sb) * (sa / 0.1).log_softmax(1)).sum(1)).mean()
    torch.testing.assert_close(m.loss(a, b), expected / 2, rtol=1e-4, atol=1e-4)


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


def test_prototypes_of_swav_stay_on_the_sphere():
    m = method("swav")
    m.prototypes.weight.data.mul_(3)
    m.update([])
    torch.testing.assert_close(m.prototypes.weight.norm(dim=1), torch.ones(512))


@pytest.mark.parametrize("anchor", ["same", "other"])
@pytest.mark.parametrize("name", METHODS)
def test_an_attack_has_a_slope_and_moves_nothing(name, anchor):
    torch.manual_seed(0)
    config = configure(["--method", name, "--scale", "smoke"])
    model = Model(config, 32).train()
    x = model.normalise(cifar10_sample()[0][:8])
    x1, x2 = x, x.flip(3)
    a, b = model(x1), model(x2)
    before = copy.deepcopy(model.state_dict())
    from train import make_attack

    attack = make_attack(config, model)
    found = attack.explain(x1, loss_fn=model.closure(a if anchor == "same" else b))
    assert found.delta.abs().flatten(1).amax(1).gt(0.099).all()
    assert found.loss_after > found.loss_before
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_target_network_follows():
    model = Model(configure(["--method", "byol", "--scale", "smoke"]), 32)
    before = copy.deepcopy(model.target)
    nn.init.ones_(model.backbone.conv1.weight)
    model.follow()
    expected = 0.99 * before[0].conv1.weight + 0.01
    torch.testing.assert_close(model.target[0].conv1.weight, expected)
    x = model.normalise(cifar10_sample()[0][:4])
    torch.testing.assert_close(F.normalize(model(x).target), F.normalize(model.target[1](model.target[0](x))))
