"""The terms of Theorem 3.5: a linear VAE in closed form, and real weights against the separate measurement."""

import math

import pytest
import torch
from torch import nn

from idaa_transforms import hub
from idaa_transforms.autoencoders import ConvVAE, Posterior
from idaa_transforms.sample import cifar10_sample
from idaa_transforms.training.evaluation import evaluate_vae, theorem_terms


class LinearVAE(nn.Module):
    """z | x ~ N(A x, diag(s^2)), D(z) = W z + b: the expectations over z are sums of squares."""

    mean, std, beta = (0.5,), (0.25,), 0.5
    objective = ConvVAE.objective

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.w = nn.Linear(16, 3, bias=False), nn.Linear(3, 16)
        self.log_variance = nn.Parameter(torch.tensor([-1.0, 0.5, -3.0]))

    def encode(self, x):
        mean = self.a(x.flatten(1))
        return Posterior(mean, self.log_variance.expand_as(mean))

    def decode(self, z):
        return self.w(z).view(-1, 1, 4, 4)


def test_a_linear_vae_in_closed_form():
    vae = LinearVAE()
    images = torch.randint(0, 256, (40, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    found = theorem_terms(vae, images, batch_size=16, draws=4000)

    x = ((images.float() / 255 - 0.5) / 0.25).flatten(1)
    mean, variance = x @ vae.a.weight.T, vae.log_variance.exp()
    error = x - mean @ vae.w.weight.T - vae.w.bias
    distortion = 0.5 * (error.square().sum(1) + (variance * vae.w.weight.square()).sum()).mean().item()
    kl = 0.5 * (mean.square() + variance - 1 - variance.log()).sum(1).mean().item()
    assert found["distortion"] == pytest.approx(distortion, rel=2e-3)
    assert found["kl"] == pytest.approx(kl, rel=1e-5)
    assert found["objective"] == pytest.approx(found["distortion"] + 0.5 * found["kl"])
    assert found["subtracted"] == pytest.approx((found["objective"] + found["kl"]) / 0.5)
    assert found["identity"] == pytest.approx(math.log(40))
    assert vae.training


def test_real_weights():
    vae, _ = hub.load("cifar10-vae-small")
    images = (cifar10_sample()[0] * 255).round().byte()
    before = torch.get_rng_state()
    found, measured = theorem_terms(vae, images), evaluate_vae(vae, images)
    assert torch.equal(torch.get_rng_state(), before)
    assert found == theorem_terms(vae, images)
    assert found["kl"] == pytest.approx(measured["kl"], rel=1e-4)
    assert found["distortion"] > 0.5 * measured["mse"] * images[0].numel()  # a draw of z costs more than its mean
