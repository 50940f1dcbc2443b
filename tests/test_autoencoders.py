"""ConvVAE: the paper's networks, any size that fits, and the beta-VAE objective."""

import pytest
import torch
from conftest import tiny_vae
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from idaa_transforms import IDAATransform
from idaa_transforms.autoencoders import ConvVAE, Posterior


@pytest.mark.parametrize(
    ("size", "latent_dim", "millions", "features"),
    [(32, 512, 13.52, 8), (32, 128, 4.08, 8), (64, 512, 13.58, 8), (84, 512, 20.66, 10), (224, 3072, 58.82, 7)],
)
def test_the_papers_networks(size, latent_dim, millions, features):
    """Parameter counts and bottlenecks as in the authors' code (the table of networks in tests/reference.py)."""
    vae = ConvVAE(size, latent_dim).eval()
    assert round(sum(p.numel() for p in vae.parameters()) / 1e6, 2) == millions
    assert vae.to_mean.in_features == 128 * features**2
    with torch.no_grad():
        assert vae(torch.zeros(1, 3, size, size)).shape == (1, 3, size, size)


@given(height=st.integers(8, 70), width=st.integers(8, 70), channels=st.sampled_from([1, 3]))
def test_any_size_comes_back(height, width, channels):
    vae = ConvVAE((height, width), 4, width=16, channels=channels, mean=[0.5] * channels, std=[0.5] * channels).eval()
    x = torch.zeros(2, channels, height, width)
    posterior = vae.encode(x)
    assert posterior.mean.shape == posterior.log_variance.shape == (2, 4)
    assert vae(x).shape == x.shape


@given(depth=st.integers(1, 4), norm=st.booleans(), beta=st.floats(0, 10), latent_dim=st.integers(1, 40))
def test_config_builds_it_again(depth, norm, beta, latent_dim):
    vae = ConvVAE(32, latent_dim, width=16, depth=depth, bottleneck_norm=norm, beta=beta, latent_scale=2.0)
    again = ConvVAE(**vae.config)
    assert again.config == vae.config
    again.load_state_dict(vae.state_dict())


def test_kl_is_torchs(vae, x):
    mean, log_variance = vae.encode(x)
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(Posterior(mean, log_variance).kl(), expected)


def test_the_objective_is_the_authors_loss_in_nats():
    """mse + kl * KL / (B * 3 * z) times 3 * H * W / 2, for beta = kl * H * W / (2 * z)."""
    size, latent_dim, kl = 16, 32, 0.1
    vae = tiny_vae(size, latent_dim, beta=kl * size * size / (2 * latent_dim))
    x = torch.randn(5, 3, size, size)
    torch.manual_seed(0)
    loss, distortion, rate = vae.objective(x)
    torch.manual_seed(0)
    posterior = vae.encode(x)
    mse = nn.functional.mse_loss(vae.decode(posterior.sample()), x)
    authors = mse + kl * posterior.kl().sum() / (5 * 3 * latent_dim)
    torch.testing.assert_close(loss, authors * 3 * size * size / 2)
    torch.testing.assert_close(loss, distortion + vae.beta * rate)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": 7, "depth": 3}, "image_size=7 does not fit 3 halvings"),
        ({"width": 6, "depth": 3}, "width=6 cannot be halved 2 times"),
        ({"channels": 1, "mean": [0.5] * 3}, "need one number for each of 1 channels"),
        ({"std": [0.2, 0.0, 0.2]}, "must be above 0"),
        ({"latent_dim": 100, "spatial": True}, "does not fill 64 places evenly; use a multiple of them"),
    ],
)
def test_configurations_that_do_not_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        ConvVAE(**arguments)


@given(
    ours=st.tuples(st.floats(0, 1), st.floats(0.1, 1)),
    theirs=st.tuples(st.floats(0, 1), st.floats(0.1, 1)),
    seed=st.integers(0, 2**31),
)
def test_the_autoencoder_gets_images_in_its_own_range(ours, theirs, seed):
    class Recorder(nn.Module):
        mean, std, latent_scale = [theirs[0]], [theirs[1]], 1.0

        def encode(self, x):
            self.seen = x
            return x

        def decode(self, z):
            return z

    unit = torch.rand(2, 1, 3, 3, generator=torch.Generator().manual_seed(seed))
    for x, statistics in (((unit - ours[0]) / ours[1], {"mean": [ours[0]], "std": [ours[1]]}), (unit, {})):
        recorder = Recorder()
        found = IDAATransform(recorder, 0.1, **statistics).explain(x, loss_fn=lambda v: v.sum())
        torch.testing.assert_close(recorder.seen, (unit - theirs[0]) / theirs[1], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found.reconstruction, x, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [(32, 32), (24, 40), (64,)])
def test_a_map_as_latent_moves_the_image_around_one_place_only(size):
    """At the same size of z, with as many numbers for each place of the bottleneck."""
    torch.manual_seed(0)
    places = [n // 4 for n in size]
    vae = ConvVAE(size, 2 * torch.tensor(places).prod().item(), width=16, depth=2, spatial=True).eval()
    x = torch.rand(2, 3, *size)
    z = vae.encode_mean(x)
    assert z.shape == (2, vae.latent_dim)
    step = torch.zeros(2, *places)
    step[(0, *(0 for _ in places))] = 1  # one of the two channels, at the first place
    with torch.no_grad():
        moved = (vae.decode(z + step.flatten()) - vae.decode(z)).abs().amax((0, 1))
    assert moved[tuple(0 for _ in size)] > 0
    assert moved[tuple(n - 1 for n in size)] == 0
    again = ConvVAE(**vae.config)
    again.load_state_dict(vae.state_dict())
