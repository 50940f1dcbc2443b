"""The self-supervised methods of examples/ssl: each loss against a few plain lines, and what it keeps between steps."""

import copy

import controls
import pytest
import step
import torch
from config import configure
from methods import METHODS, View
from network import Model
from torch import nn
from torch.nn import functional as F

from idaa_transforms.sample import cifar10_sample

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


def test_moco():
    m, (a, b) = method("moco"), views(128)

    def direction(query, key):
        q = unit(m.projector(query.features))
        positive, negative = (q * unit(key.target)).sum(1), q @ m.queue.T
        return -(positive / 0.2 - torch.cat([positive[:, None], negative], 1).div(0.2).logsumexp(1)).mean()

    torch.testing.assert_close(m.loss(a, b), (direction(a, b) + direction(b, a)) / 2)


def nce(queries, positives, negatives, temperature):
    """InfoNCE with negatives (N, K, D) of each query's own, all of length 1."""
    scores = torch.cat([cosine(queries, positives)[:, None], torch.einsum("nd,nkd->nk", queries, negatives)], 1)
    return -(scores / temperature).log_softmax(1)[:, 0].mean()


@pytest.mark.parametrize("name", ["mochi", "synco"])
def test_mixed_negatives_stand_beside_the_queue(name):
    m, (a, b) = method(name), views(128)
    torch.testing.assert_close(m.loss(a, b), method("moco").loss(a, b))  # as in MoCo before 5 % of the run
    m.done = 0.06
    torch.manual_seed(2)
    found = m.loss(a, b)
    torch.manual_seed(2)
    expected = 0.0
    for query, key in ((a, b), (b, a)):
        q = unit(m.projector(query.features))
        made = m.harder(q)
        negatives = torch.cat([m.queue.expand(N, -1, -1), made / made.norm(dim=-1, keepdim=True)], 1)
        expected += nce(q, unit(key.target), negatives, 0.2) / 2
    torch.testing.assert_close(found, expected)
    assert made.shape == (N, {"mochi": 256 + 32, "synco": 3 * 64 + 3 * 16}[name], 128)


def test_mochi_mixes_the_hardest():
    """The two hardest alone: each mix is p of one and 1 - p of the other, or up to a half of the query."""
    m = method("mochi")
    m.hard = 2
    q = unit(torch.randn(N, 128))
    for query, made in zip(q, m.harder(q), strict=True):
        one, two = m.queue[(m.queue @ query).argsort(descending=True)[:2]]
        pairs, with_query = made[:256], made[256:]
        p = ((pairs - two) @ (one - two)) / (one - two).square().sum()
        torch.testing.assert_close(pairs, two + p[:, None] * (one - two))
        assert p.min() >= 0
        assert p.max() <= 1
        assert 0.2 < p[(p > 1e-4) & (p < 1 - 1e-4)].median() < 0.8
        shares = [((with_query - n) @ (query - n)) / (query - n).square().sum() for n in (one, two)]
        apart = [
            (with_query - n - s[:, None] * (query - n)).norm(dim=1) for n, s in zip((one, two), shares, strict=True)
        ]
        assert torch.minimum(*apart).max() < 1e-5
        share = torch.where(apart[0] < apart[1], *shares)
        assert share.min() >= 0
        assert 0.3 < share.max() <= 0.5


def test_synco_moves_the_hardest():
    """The hardest alone, n: q - n is the way to the query, and the slope of the cosine is q less its part along n."""
    m = method("synco")
    m.hard = 1
    q = unit(torch.randn(N, 128))
    for query, made in zip(q, m.harder(q), strict=True):
        n = m.queue[(m.queue @ query).argmax()]
        between, beyond, mixed, noisy, steep, signed = (part - n for part in made.split([64] * 3 + [16] * 3))
        for part, low, high in ((between, 0, 0.5), (beyond, -0.5, 0)):
            share = part @ (query - n) / (query - n).square().sum()
            torch.testing.assert_close(part, share[:, None] * (query - n))
            assert low <= share.min() < low + 0.1
            assert high - 0.1 < share.max() <= high
        torch.testing.assert_close(mixed, torch.zeros_like(mixed))
        assert noisy.std() == pytest.approx(0.01, rel=0.1)
        leaf = n.clone().requires_grad_()
        (up,) = torch.autograd.grad(F.cosine_similarity(leaf, query, dim=0), leaf)
        torch.testing.assert_close(steep, (0.01 * up).expand(16, -1), atol=1e-6, rtol=1e-3)
        torch.testing.assert_close(signed, (0.01 * up.sign()).expand(16, -1))


def test_adco_learns_its_negatives():
    """Two steps up by hand: a negative of length one goes towards the queries that find it likely."""
    m, (a, b) = method("adco"), views(128)
    q, keys = unit(torch.cat([m.projector(x.features) for x in (a, b)])), unit(torch.cat([b.target, a.target]))
    loss = [nce(q[half], keys[half], m.queue.expand(N, -1, -1), 0.14) for half in (slice(N), slice(N, None))]
    torch.testing.assert_close(m.loss(a, b), sum(loss) / 2)
    negatives, velocity = m.queue.clone(), 0.0
    for _ in range(2):
        length = negatives.norm(dim=1, keepdim=True)
        n = negatives / length
        likely = (torch.cat([cosine(q, keys)[:, None], q @ n.T], 1) / 0.03).softmax(1)[:, 1:]
        towards = (q[:, None] - (q @ n.T)[..., None] * n) / length
        slope = (likely[..., None] * towards).sum(0) / (2 * N * 0.03)
        velocity = 0.9 * velocity + slope - 1e-4 * negatives
        negatives = negatives + 3 * velocity
    before = m.loss(a, b)
    for _ in range(2):
        with torch.no_grad():
            m.update([a, b])
    torch.testing.assert_close(m.queue, negatives, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(m.velocity, velocity, rtol=1e-4, atol=1e-5)
    assert m.loss(a, b) > before
    assert {"queue", "velocity"} <= m.state_dict().keys()
    assert "place" not in m.state_dict()


def test_infomin_is_moco_with_other_views():
    m, (a, b) = method("infomin"), views(128)
    q = [unit(m.projector(x.features)) for x in (a, b)]
    both = [nce(q[i], unit((b, a)[i].target), m.queue.expand(N, -1, -1), 0.15) for i in (0, 1)]
    torch.testing.assert_close(m.loss(a, b), sum(both) / 2)
    place, look = step.augmentations(configure(["--method", "infomin"]), (3, 32, 32))
    kinds = [type(part).__name__ for part in (*place, *look)]
    assert kinds == ["RandomResizedCrop", "RandomHorizontalFlip", "ColorJitter", "RandAugment", "RandomGrayscale"]


def test_randaugment_draws_for_each_image():
    torch.manual_seed(0)
    image = cifar10_sample()[0][:1]
    views = controls.RandAugment(2)(image.repeat(24, 1, 1, 1))
    assert views.shape == (24, *image.shape[1:])
    assert 0 <= views.min() <= views.max() <= 1
    assert len({tuple(view.flatten().tolist()) for view in views}) > 12


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
    model = Model(configure(["--method", "moco", "--scale", "smoke"]), 32)
    before = copy.deepcopy(model.target)
    nn.init.ones_(model.backbone.conv1.weight)
    model.follow()
    expected = 0.99 * before[0].conv1.weight + 0.01
    torch.testing.assert_close(model.target[0].conv1.weight, expected)
    x = model.normalise(cifar10_sample()[0][:4])
    torch.testing.assert_close(F.normalize(model(x).target), F.normalize(model.target[1](model.target[0](x))))
