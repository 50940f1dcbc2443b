"""A hard view from inside the training step of lightly's losses: every method trains, queues and centres move once."""

import copy

import lightly.loss
import pytest
import torch
from lightly.models.modules import SwaVPrototypes
from lightly.models.utils import deactivate_requires_grad, update_momentum
from torch import nn
from torch.nn import functional as F

from idaa_transforms import IDAATransform, objectives
from idaa_transforms.losses import info_nce

pytestmark = pytest.mark.slow


class Method:
    """A tiny network, and one of lightly's losses. ``loss`` is a training step on two views, and a hard one of them."""

    def __init__(self, aug, width=8):
        torch.manual_seed(4)
        self.aug = aug
        self.model = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(392, width)
        )
        self.extra = nn.Identity()
        self.target = copy.deepcopy(self.model)
        deactivate_requires_grad(self.target)

    def step(self, x0, x1, optimiser):
        update_momentum(self.model, self.target, m=0.9)
        loss = self.loss(x0, x1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


class DINO(Method):
    criterion = lightly.loss.DINOLoss(8, teacher_temp=0.05)

    def loss(self, x0, x1):
        with torch.no_grad():
            teacher = [self.target(x0), self.target(x1)]
        student = [self.model(x0), self.model(x1)]
        hard = self.aug(x0, loss_fn=objectives.dino(self.model, teacher[1], self.criterion.center))
        return self.criterion(teacher, [*student, self.model(hard)])


class SwAV(Method):
    criterion = lightly.loss.SwaVLoss()

    def __init__(self, aug):
        super().__init__(aug)
        self.extra = SwaVPrototypes(8, 6)

    def loss(self, x0, x1):
        scores = lambda x: self.extra(F.normalize(self.model(x), dim=1))  # noqa: E731
        high = [scores(x0), scores(x1)]
        # the hard view is a further crop, without codes of its own; the loss has shape () here, (1,) in older versions
        attack = lambda v: self.criterion([s.detach() for s in high], [scores(v)]).sum()  # noqa: E731
        return self.criterion(high, [scores(self.aug(x0, loss_fn=attack))])


class MoCo(Method):
    criterion = lightly.loss.NTXentLoss(0.2, memory_bank_size=(40, 8))

    def loss(self, x0, x1):
        with torch.no_grad():
            keys = self.target(x1)
        queue = self.criterion.memory_bank.bank
        hard = self.aug(x0, loss_fn=objectives.moco(self.model, keys, queue))
        loss_hard = info_nce(self.model(hard), keys, 0.2, queue).mean()
        return self.criterion(self.model(x0), keys) + loss_hard  # the one call that enqueues


@pytest.mark.parametrize("kind", [DINO, SwAV, MoCo])
def test_each_loss_trains_with_a_hard_view(kind, vae):
    method = kind(IDAATransform(vae, 0.2))
    method.criterion = copy.deepcopy(kind.criterion)
    start = copy.deepcopy([method.model, method.extra])
    optimiser = torch.optim.Adam([*method.model.parameters(), *method.extra.parameters()], lr=3e-3)
    x = torch.rand(8, 3, 16, 16)
    for _ in range(8):
        method.step(x, x.flip(-1), optimiser)
    untrained = copy.deepcopy(method)  # queue, centre and target as they are now: a loss compares only with itself
    untrained.model, untrained.extra = start
    assert method.loss(x, x.flip(-1)) < untrained.loss(x, x.flip(-1))


def test_a_queue_that_is_asked_once_takes_each_key_once(vae):
    method = MoCo(IDAATransform(vae, 0.2))
    method.criterion = lightly.loss.NTXentLoss(0.2, memory_bank_size=(40, 8))
    x = torch.rand(8, 3, 16, 16)
    method.loss(x, x.flip(-1))
    bank = method.criterion.memory_bank
    assert int(bank.bank_ptr) == 8
    torch.testing.assert_close(bank.bank[:8], F.normalize(method.target(x.flip(-1)), dim=1), atol=1e-4, rtol=1e-3)


def test_a_centre_moves_once_a_step(vae):
    method = DINO(IDAATransform(vae, 0.2))
    method.criterion = lightly.loss.DINOLoss(8)
    method.target.eval()
    x = torch.rand(8, 3, 16, 16)
    method.loss(x, x.flip(-1))
    mean = torch.cat([method.target(x), method.target(x.flip(-1))]).mean(0)
    torch.testing.assert_close(method.criterion.center.flatten(), 0.1 * mean)
