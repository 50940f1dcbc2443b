"""IDAA in the authors' order of operations (after their published code), gradients of everything included."""

from itertools import pairwise

import torch
from torch import nn

from idaa_transforms.autoencoders import Posterior


def authors_views(x, vae, loss_fn, eps):
    """``x`` in the VAE's own normalised space; one step, L-infinity, no random start, no clamp."""
    vae.requires_grad_(True)
    with torch.no_grad():
        z = vae.encode(x).mean
        residual = x - vae.decode(z)
    z = nn.Parameter(z.clone())
    view = residual + vae.decode(z)
    loss_fn(view).sum().backward()
    with torch.no_grad():
        z += eps * z.grad.sign()
        view = residual + vae.decode(z)
    vae.requires_grad_(False)
    vae.zero_grad()
    return view


class _Residual(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.convs = nn.Sequential(
            nn.LeakyReLU(), nn.Conv2d(d, d, 3, padding=1), nn.BatchNorm2d(d), nn.LeakyReLU(), nn.Conv2d(d, d, 1)
        )

    def forward(self, x):
        return x + self.convs(x)


TABLE = {32: (2, 8), 64: (3, 8), 84: (3, 10), 224: (5, 7)}  # size: stages, f


class AuthorsVAE(nn.Module):
    """The authors' networks by the layers of their published code, with their state-dict keys."""

    def __init__(self, size, latent_dim, width=128):
        super().__init__()
        stages, f = TABLE[size]
        large = size == 224
        down = [3, *(width // 2**i for i in reversed(range(stages)))]
        layers = []
        for a, b in pairwise(down):
            layers += [nn.Conv2d(a, b, 4, 2, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
        layers += [_Residual(width), nn.BatchNorm2d(width), _Residual(width)]
        self.encoder = nn.Sequential(*layers, *[nn.BatchNorm2d(width)] * large)
        layers = [nn.BatchNorm2d(width)] * large
        layers += [_Residual(width), nn.BatchNorm2d(width), _Residual(width), nn.BatchNorm2d(width)]
        for i, (a, b) in enumerate(zip(down[:0:-1], down[-2::-1], strict=True)):
            padding = 0 if size == 84 and i == 1 else 1
            layers.append(nn.ConvTranspose2d(a, b, 4, 2, padding, bias=False))
            layers += [nn.BatchNorm2d(b), nn.LeakyReLU()] if b != 3 else []
        self.decoder = nn.Sequential(*layers)
        self.bn = nn.BatchNorm2d(3)
        self.shape = (width, f, f)
        features = width * f * f
        self.fc11, self.fc12 = nn.Linear(features, latent_dim), nn.Linear(features, latent_dim)
        self.fc21 = nn.Linear(latent_dim, features)

    def encode(self, x):
        features = self.encoder(x).flatten(1)
        return Posterior(self.fc11(features), self.fc12(features))

    def decode(self, z):
        return self.bn(torch.tanh(self.decoder(self.fc21(z).unflatten(1, self.shape))))
