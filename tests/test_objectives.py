"""Losses against plain formulas, and ready closures: each gives a direction from a zero start, and harder views."""

import inspect

import lightly.loss
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from idaa_transforms import IDAATransform, ZeroGradientWarning, objectives
from idaa_transforms.losses import info_nce, instance_spreading, nt_xent

A, B = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))


def cosine(a, b):
    return F.cosine_similarity(a[:, None], b[None], dim=2)


def test_nt_xent_by_hand():
    rows = torch.cat([A, B])
    similarity = cosine(rows, rows) / 0.5
    losses = []
    for i in range(10):
        others = [j for j in range(10) if j != i]
        losses.append(similarity[i, others].logsumexp(0) - similarity[i, (i + 5) % 10])
    torch.testing.assert_close(nt_xent(A, B), torch.stack(losses).view(2, 5).mean(0))


def test_info_nce_by_hand():
    similarity = cosine(A, B) / 0.1
    torch.testing.assert_close(info_nce(A, B), similarity.logsumexp(1) - similarity.diagonal())
    queue = torch.randn(7, 6)
    scores = torch.cat([F.cosine_similarity(A, B)[:, None], cosine(A, queue)], dim=1) / 0.2
    torch.testing.assert_close(info_nce(A, B, 0.2, queue), scores.logsumexp(1) - scores[:, 0])


def test_instance_spreading_by_hand():
    rows = torch.cat([A, B])
    similarity = cosine(rows, rows) / 0.1
    losses = []
    for i in range(10):
        others = [j for j in range(10) if j != i]
        p = torch.zeros(10)
        p[others] = similarity[i, others].softmax(0)
        partner = (i + 5) % 10
        losses.append(-p[partner].log() - sum((1 - p[j]).log() for j in others if j != partner))
    torch.testing.assert_close(instance_spreading(A, B), torch.stack(losses).view(2, 5).mean(0), atol=1e-4, rtol=1e-4)


def test_the_second_factor_of_uel_is_held_fixed():
    a = A.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(instance_spreading(a, B).sum(), a)
    moved = F.normalize(a, dim=1)
    rows = torch.cat([F.normalize(A, dim=1), F.normalize(B, dim=1)])
    scores = (torch.cat([moved, rows[5:]]) @ rows.T / 0.1).masked_fill(torch.eye(10, dtype=torch.bool), float("-inf"))
    p = scores.softmax(1)
    keep = (
        torch.ones(10, 10, dtype=torch.bool)
        ^ torch.eye(10, dtype=torch.bool)
        ^ torch.eye(10, dtype=torch.bool).roll(5, 1)
    )
    loss = -(p[torch.eye(10, dtype=torch.bool).roll(5, 1)].log().sum() + (1 - p[keep]).log().sum()) / 2
    (expected,) = torch.autograd.grad(loss, a)
    torch.testing.assert_close(gradient, expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("loss", [nt_xent, info_nce, instance_spreading])
@pytest.mark.parametrize(("a", "b"), [(A[:4], B[:2]), (A, B[:, :5]), (A[0], B[0])])
def test_embeddings_that_do_not_pair(loss, a, b):
    with pytest.raises(ValueError, match=r"embeddings have shapes \(.*\) and \(.*\); both must be \(B, D\)"):
        loss(a, b)


def closures(encoder, x):
    torch.manual_seed(3)
    with torch.inference_mode(False):
        predictor, prototypes = nn.Linear(6, 6), nn.Linear(6, 4, bias=False)
    with torch.no_grad():
        same, other = encoder(x), encoder(x.flip(-1))
        codes = (prototypes(F.normalize(other, dim=1)) / 0.05).softmax(1)
    return {
        "simclr, same image": objectives.simclr(encoder, same),
        "simclr, other view": objectives.simclr(encoder, other),
        "plain, same image": objectives.plain(encoder, same),
        "uel, same image": objectives.uel(encoder, same),
        "simsiam, same image": objectives.simsiam(encoder, predictor, same),
        "byol, other view": objectives.simsiam(encoder, predictor, other),
        "moco": objectives.moco(encoder, other, torch.randn(16, 6)),
        "dino": objectives.dino(encoder, other, torch.full((1, 1, 6), 0.1)),
        "swav": objectives.swav(encoder, prototypes, codes),
        "redundancy_reduction, barlow twins": objectives.redundancy_reduction(
            encoder, lightly.loss.BarlowTwinsLoss(), other
        ),
        "redundancy_reduction, vicreg": objectives.redundancy_reduction(encoder, lightly.loss.VICRegLoss(), other),
        "supervised": objectives.supervised(encoder, torch.arange(4)),
        "fixmatch": objectives.fixmatch(encoder, 100 * same),
    }


KINDS = 13


def test_no_closure_is_left_out(x, encoder):
    assert len(closures(encoder, x)) == KINDS
    made = {name.split(",")[0] for name in closures(encoder, x)} - {"byol"}
    ready = {n for n, f in vars(objectives).items() if inspect.isfunction(f) and f.__module__ == objectives.__name__}
    assert made == {name for name in ready if not name.startswith("_")}


@pytest.mark.parametrize("kind", range(KINDS))
def test_each_closure_gives_harder_views(kind, x, vae, encoder):
    loss_fn = list(closures(encoder.eval(), x).values())[kind]
    found = IDAATransform(vae, 0.2).explain(x, loss_fn=loss_fn)
    assert found.loss_after.sum() > found.loss_before.sum()
    assert found.loss_after.shape in ((), (4,))


@pytest.mark.parametrize("kind", range(KINDS))
def test_each_closure_in_inference_mode(kind, x, vae, encoder):
    """As in Lightning's validation, where anchors, labels and keys are inference tensors."""
    encoder.eval()
    expected = IDAATransform(vae, 0.2)(x, loss_fn=list(closures(encoder, x).values())[kind])
    with torch.inference_mode():
        views = IDAATransform(vae, 0.2)(x.clone(), loss_fn=list(closures(encoder, x.clone()).values())[kind])
    torch.testing.assert_close(views, expected, atol=1e-5, rtol=0)


def test_dino_is_lightlys_without_its_diagonal():
    criterion = lightly.loss.DINOLoss(6, teacher_temp=0.07, student_temp=0.2)
    center = torch.linspace(-1, 1, 6)
    criterion.center = center.view(1, 1, 6).clone()  # which its call moves
    teacher, student = torch.randn(2, 5, 6), torch.randn(3, 5, 6)  # two global crops and a local one

    def ours(i, others):
        loss_fn = objectives.dino(lambda view: view, teacher[others], center, 0.2, 0.07)
        return loss_fn(student[i]).mean()

    expected = criterion(list(teacher), list(student))  # of four terms: two are on the diagonal
    torch.testing.assert_close((ours(0, 1) + ours(1, 0) + 2 * ours(2, [0, 1])) / 4, expected)


def test_unsure_images_are_warned_of_and_stay(x, vae, encoder):
    encoder.eval()
    logits = torch.zeros(4, 6)
    logits[0, 2] = 50.0
    with pytest.warns(ZeroGradientWarning, match="zero for some images"):
        views = IDAATransform(vae)(x, loss_fn=objectives.fixmatch(encoder, logits))
    torch.testing.assert_close(views[1:], x[1:], atol=1e-6, rtol=0)
    assert (views[0] != x[0]).any()


def test_a_memory_bank_of_lightlys_stays_as_it_was(x, vae, encoder):
    """lightly enqueues at every call whose query needs a gradient, hence in an attack too; it is put back."""
    encoder.eval()
    criterion = lightly.loss.NTXentLoss(memory_bank_size=(32, 6))
    criterion(encoder(x), encoder(x))
    bank = criterion.memory_bank.bank.clone()
    anchor = encoder(x.flip(-1)).detach()
    views = IDAATransform(vae)(x, loss_fn=lambda v: criterion(encoder(v), anchor))
    assert (views != x).any()
    assert torch.equal(criterion.memory_bank.bank, bank)
