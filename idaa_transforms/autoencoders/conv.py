"""ConvVAE: the paper's variational autoencoders, all sizes of them, as one configurable module."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

Pair = tuple[int, int]
CIFAR_STATISTICS = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
IMAGENET_STATISTICS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def authors_beta(image_size: Sequence[int], latent_dim: int, kl: float = 0.1) -> float:
    """What the authors' weight ``kl`` is as the beta of :meth:`ConvVAE.objective`: kl * H * W / (2 * latent_dim)."""
    return kl * image_size[0] * image_size[1] / (2 * latent_dim)


class Posterior(NamedTuple):
    """The Gaussian q(z | x): ``mean`` and ``log_variance``, both of shape (B, latent_dim)."""

    mean: Tensor
    log_variance: Tensor

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """One draw z = mean + sd * noise for each row."""
        noise = torch.empty_like(self.mean).normal_(generator=generator)
        return self.mean + torch.exp(0.5 * self.log_variance) * noise

    def kl(self) -> Tensor:
        """KL(q(z | x) || N(0, I)) in nats, shape (B,)."""
        square = self.mean.square() + self.log_variance.exp() - 1 - self.log_variance
        return 0.5 * square.flatten(1).sum(1)


class Objective(NamedTuple):
    """The beta-VAE objective and its terms, in nats an image, averaged over the batch."""

    loss: Tensor
    distortion: Tensor
    kl: Tensor


class ResidualBlock(nn.Sequential):
    """x + [LeakyReLU, 3x3 convolution, batch norm, LeakyReLU, 1x1 convolution]."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            OrderedDict(
                act1=nn.LeakyReLU(),
                conv1=nn.Conv2d(channels, channels, 3, padding=1),
                norm=nn.BatchNorm2d(channels),
                act2=nn.LeakyReLU(),
                conv2=nn.Conv2d(channels, channels, 1),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) to the same."""
        return x + super().forward(x)


class ConvVAE(nn.Module):
    """A convolutional VAE with a flat latent; input and output are images normalised by ``mean`` and ``std``.

    The networks of the IDAA paper (Yang et al., ICML 2022): stride-2 convolutions down to about 8x8, two residual
    blocks, one linear layer each to the posterior's mean and log variance, and the mirror image of it back. ``tanh``
    and an affine batch norm end the decoder, so that it reaches any normalised pixel value.

    Args:
        image_size: height and width, or one number for both. Any size of at least ``2 ** depth`` fits.
        latent_dim: length of z.
        channels: channels of the images.
        width: channels at the bottleneck; each stage further out has half as many.
        depth: number of stride-2 stages. Default: as many as lead to about 8x8 (2 at 32, 3 at 64 and 84, 5 at 224).
        bottleneck_norm: a further batch norm on both sides of the bottleneck. Default: for five stages and more, as
            in the paper's 224x224 network.
        mean, std: per-channel statistics that normalise [0, 1] images into this network's range.
        latent_scale: the unit of ``eps``, in the latent's own numbers. The prior is N(0, I), hence 1.0.
        beta: weight of the KL term in the standard form ``|x - D(z)|^2 / 2 + beta * KL``, see :meth:`objective`.
    """

    def __init__(
        self,
        image_size: int | Sequence[int] = 32,
        latent_dim: int = 512,
        *,
        channels: int = 3,
        width: int = 128,
        depth: int | None = None,
        bottleneck_norm: bool | None = None,
        mean: Sequence[float] = CIFAR_STATISTICS[0],
        std: Sequence[float] = CIFAR_STATISTICS[1],
        latent_scale: float = 1.0,
        beta: float = 0.1,
    ) -> None:
        super().__init__()
        size = (image_size,) * 2 if isinstance(image_size, int) else tuple(image_size)
        depth = max(1, round(math.log2(min(size) / 8))) if depth is None else depth
        if len(size) != 2 or min(size) < 2**depth:
            raise ValueError(f"image_size={image_size!r} does not fit {depth} halvings; use a smaller depth")
        if width % 2 ** (depth - 1):
            raise ValueError(f"width={width} cannot be halved {depth - 1} times; use a multiple of {2 ** (depth - 1)}")
        if not len(mean) == len(std) == channels:
            raise ValueError(f"mean={tuple(mean)} and std={tuple(std)} need one number for each of {channels} channels")
        self.image_size, self.latent_dim, self.channels = size, latent_dim, channels
        self.width, self.depth = width, depth
        self.bottleneck_norm = depth >= 5 if bottleneck_norm is None else bottleneck_norm
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        self.latent_scale, self.beta = float(latent_scale), float(beta)

        stages = [channels, *(width // 2**k for k in reversed(range(depth)))]
        sizes: list[Pair] = [(size[0], size[1])]
        for _ in range(depth):
            sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
        norm = [nn.BatchNorm2d(width)] if self.bottleneck_norm else []

        self.encoder = nn.Sequential(
            *(_down(stages[i], stages[i + 1]) for i in range(depth)),
            *(ResidualBlock(width), nn.BatchNorm2d(width), ResidualBlock(width), *norm),
            nn.Flatten(),
        )
        features = width * sizes[-1][0] * sizes[-1][1]
        self.to_mean = nn.Linear(features, latent_dim)
        self.to_log_variance = nn.Linear(features, latent_dim)
        self.from_latent = nn.Linear(latent_dim, features)
        self.decoder = nn.Sequential(
            nn.Unflatten(1, (width, *sizes[-1])),
            *(nn.BatchNorm2d(width) for _ in norm),
            *(ResidualBlock(width), nn.BatchNorm2d(width), ResidualBlock(width), nn.BatchNorm2d(width)),
            *(_up(stages[i], stages[i - 1], *_growth(sizes, i), last=i == 1) for i in range(depth, 0, -1)),
            nn.Tanh(),
            nn.BatchNorm2d(channels),
        )

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that build this network again, as plain JSON values."""
        names = "image_size latent_dim channels width depth bottleneck_norm mean std latent_scale beta"
        values = {name: getattr(self, name) for name in names.split()}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def encode(self, x: Tensor) -> Posterior:
        """Normalised images (B, channels, H, W) to the posterior over z, (B, latent_dim) each."""
        features = self.encoder(x)
        return Posterior(self.to_mean(features), self.to_log_variance(features))

    def encode_mean(self, x: Tensor) -> Tensor:
        """The mean of :meth:`encode` alone, (B, latent_dim): one linear layer less."""
        return self.to_mean(self.encoder(x))

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, latent_dim) to normalised images (B, channels, H, W)."""
        return self.decoder(self.from_latent(z))

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct: through a sample of z in training mode, through its mean in eval mode."""
        posterior = self.encode(x)
        return self.decode(posterior.sample() if self.training else posterior.mean)

    def objective(self, x: Tensor) -> Objective:
        """The loss to minimise: ``|x - D(z)|^2 / 2 + beta * KL(q(z | x) || N(0, I))`` with z drawn from q(z | x).

        In nats an image, up to the constant of a Gaussian likelihood of unit variance on normalised pixels. The
        authors write it as mean squared error + kl * KL / (3 * latent_dim), which is this times 2 / (3 * H * W) where
        beta = kl * H * W / (2 * latent_dim): their kl = 0.1 is beta = 0.1 at 32x32 and z = 512, and 0.4 at z = 128.
        """
        posterior = self.encode(x)
        error = self.decode(posterior.sample()).float() - x
        distortion, kl = 0.5 * error.square().flatten(1).sum(1).mean(), posterior.kl().mean()
        return Objective(distortion + self.beta * kl, distortion, kl)


def _down(inner: int, outer: int) -> nn.Sequential:
    conv = nn.Conv2d(inner, outer, 4, stride=2, padding=1, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(outer), act=nn.ReLU()))


def _up(inner: int, outer: int, padding: Pair, output_padding: Pair, last: bool) -> nn.Sequential:
    conv = nn.ConvTranspose2d(inner, outer, 4, stride=2, padding=padding, output_padding=output_padding, bias=False)
    if last:
        return nn.Sequential(OrderedDict(conv=conv))
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(outer), act=nn.LeakyReLU()))


def _growth(sizes: Sequence[Pair], stage: int) -> tuple[Pair, Pair]:
    """Padding and output padding that lead from the decoder's size at ``stage`` to that at ``stage - 1``.

    The encoder halves odd sizes downwards. The decoder makes the lost pixel up one stage later, as the authors' 84x84
    network does (84, 42, 21, 10 down; 10, 20, 42, 84 up), and in the last stage where the image itself is odd.
    """

    def decoder_size(i: int) -> list[int]:
        inside = 0 < i < len(sizes) - 1
        return [n - n % 2 if inside else n for n in sizes[i]]

    high, wide = (big - 2 * small for big, small in zip(decoder_size(stage - 1), decoder_size(stage), strict=True))
    return (1 - high // 2, 1 - wide // 2), (high % 2, wide % 2)
