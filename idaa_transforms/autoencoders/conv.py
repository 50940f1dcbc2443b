"""ConvVAE: the paper's variational autoencoders of any size, for images and signals."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

# By the number of axes after the channels: 1 of signals, 2 of images.
CONV: dict[int, type[nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d}
UP: dict[int, type[nn.Module]] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d}
NORM: dict[int, type[nn.Module]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}

Size = tuple[int, ...]
CIFAR_STATISTICS = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
IMAGENET_STATISTICS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def authors_beta(image_size: Sequence[int], latent_dim: int, kl: float = 0.1) -> float:
    """What the authors' weight ``kl`` is as the beta of :meth:`ConvVAE.objective`: kl * H * W / (2 * latent_dim)."""
    return kl * math.prod(image_size) / (2 * latent_dim)


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

    def __init__(self, channels: int, axes: int = 2) -> None:
        super().__init__(
            OrderedDict(
                act1=nn.LeakyReLU(),
                conv1=CONV[axes](channels, channels, 3, padding=1),
                norm=NORM[axes](channels),
                act2=nn.LeakyReLU(),
                conv2=CONV[axes](channels, channels, 1),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W), or (B, channels, L), to the same."""
        return x + super().forward(x)


class ConvVAE(nn.Module):
    """A convolutional VAE with a flat latent; input and output are images, or signals, normalised by ``mean`` and
    ``std``.

    The networks of the IDAA paper (Yang et al., ICML 2022): stride-2 convolutions down to about 8x8, two residual
    blocks, one linear layer each to the posterior's mean and log variance, and the mirror image of it back. ``tanh``
    and an affine batch norm end the decoder, so that it reaches any normalised pixel value.

    Args:
        image_size: height and width, or one number for both; of signals (B, C, L), the length alone: ``(128,)``. Any
            size of at least ``2 ** depth`` fits.
        latent_dim: length of z.
        channels: channels of the images.
        width: channels at the bottleneck; each stage further out has half as many.
        depth: number of stride-2 stages. Default: as many as lead to about 8x8 (2 at 32, 3 at 64 and 84, 5 at 224),
            or as ``width`` can be halved.
        spatial: keep z a map: ``latent_dim`` numbers are ``latent_dim / (h * w)`` channels at each of the h x w places
            of the bottleneck, by 1x1 convolutions instead of linear layers. Not in the paper: 14 times fewer
            parameters at z = 512, and a step in z moves the image around one place only.
        bottleneck_norm: a further batch norm on both sides of the bottleneck. Default: for five stages and more, as
            in the paper's 224x224 network.
        mean, std: per-channel statistics that normalise [0, 1] images, or signals in their own units, into this
            network's range. Default: CIFAR-10's for three channels, and 0 and 1 for any other number.
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
        spatial: bool = False,
        bottleneck_norm: bool | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        latent_scale: float = 1.0,
        beta: float = 0.1,
    ) -> None:
        super().__init__()
        size = (image_size,) * 2 if isinstance(image_size, int) else tuple(image_size)
        axes = len(size)
        if axes not in CONV or min(size) < 1:
            raise ValueError(f"image_size={image_size!r} is neither (height, width) nor, of signals, (length,)")
        if depth is None:
            halvings = (width & -width).bit_length()  # as long as a whole number of channels is left
            depth = max(1, min(round(math.log2(min(size) / 8)), halvings))
        if not 1 <= depth <= math.log2(min(size)):
            raise ValueError(f"image_size={image_size!r} does not fit {depth} halvings; use another depth")
        if width % 2 ** (depth - 1):
            raise ValueError(f"width={width} cannot be halved {depth - 1} times; use a multiple of {2 ** (depth - 1)}")
        if mean is None:
            mean = CIFAR_STATISTICS[0] if channels == 3 else [0.0] * channels
        if std is None:
            std = CIFAR_STATISTICS[1] if channels == 3 else [1.0] * channels
        if not len(mean) == len(std) == channels:
            raise ValueError(f"mean={tuple(mean)} and std={tuple(std)} need one number for each of {channels} channels")
        if not min(latent_scale, *std) > 0:
            raise ValueError(f"latent_scale={latent_scale} and std={tuple(std)} must be above 0")
        self.image_size, self.latent_dim, self.channels = size, latent_dim, channels
        self.width, self.depth, self.spatial = width, depth, bool(spatial)
        self.bottleneck_norm = depth >= 5 if bottleneck_norm is None else bottleneck_norm
        self.mean, self.std = tuple(map(float, mean)), tuple(map(float, std))
        self.latent_scale, self.beta = float(latent_scale), float(beta)

        stages = [channels, *(width // 2**k for k in reversed(range(depth)))]
        sizes = [tuple(n // 2**k for n in size) for k in range(depth + 1)]
        if spatial and latent_dim % (count := math.prod(sizes[-1])):
            raise ValueError(f"latent_dim={latent_dim} does not fill {count} places evenly; use a multiple of them")
        norm = [NORM[axes](width)] if self.bottleneck_norm else []

        self.encoder = nn.Sequential(
            *(_down(stages[i], stages[i + 1], axes) for i in range(depth)),
            *(ResidualBlock(width, axes), NORM[axes](width), ResidualBlock(width, axes), *norm),
            nn.Flatten(),
        )
        features, places = width * math.prod(sizes[-1]), sizes[-1] if spatial else None
        self.to_mean = _linear(features, latent_dim, places)
        self.to_log_variance = _linear(features, latent_dim, places)
        self.from_latent = _linear(latent_dim, features, places)
        self.decoder = nn.Sequential(
            nn.Unflatten(1, (width, *sizes[-1])),
            *(NORM[axes](width) for _ in norm),
            *(ResidualBlock(width, axes), NORM[axes](width), ResidualBlock(width, axes), NORM[axes](width)),
            *(_up(stages[i], stages[i - 1], *_growth(sizes, i), last=i == 1) for i in range(depth, 0, -1)),
            nn.Tanh(),
            NORM[axes](channels),
        )

    @property
    def config(self) -> dict[str, Any]:
        """The arguments that build this network again, as plain JSON values."""
        names = "image_size latent_dim channels width depth spatial bottleneck_norm mean std latent_scale beta"
        values = {name: getattr(self, name) for name in names.split()}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    def encode(self, x: Tensor) -> Posterior:
        """Normalised images (B, channels, H, W), or signals (B, channels, L), to the posterior over z, (B, latent_dim)
        each."""
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


def _linear(inner: int, outer: int, places: Size | None) -> nn.Module:
    """(B, inner) to (B, outer): by one matrix or, where the rows are maps of ``places``, by one at each place."""
    if places is None:
        return nn.Linear(inner, outer)
    count = math.prod(places)
    conv = CONV[len(places)](inner // count, outer // count, 1)
    return nn.Sequential(OrderedDict(map=nn.Unflatten(1, (inner // count, *places)), conv=conv, flat=nn.Flatten()))


def _down(inner: int, outer: int, axes: int) -> nn.Sequential:
    conv = CONV[axes](inner, outer, 4, stride=2, padding=1, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, norm=NORM[axes](outer), act=nn.ReLU()))


def _up(inner: int, outer: int, padding: Size, output_padding: Size, last: bool) -> nn.Sequential:
    axes = len(padding)
    conv = UP[axes](inner, outer, 4, stride=2, padding=padding, output_padding=output_padding, bias=False)
    if last:
        return nn.Sequential(OrderedDict(conv=conv))
    return nn.Sequential(OrderedDict(conv=conv, norm=NORM[axes](outer), act=nn.LeakyReLU()))


def _growth(sizes: Sequence[Size], stage: int) -> tuple[Size, Size]:
    """Padding and output padding that lead from the decoder's size at ``stage`` to that at ``stage - 1``.

    The encoder halves odd sizes downwards. The decoder makes the lost pixel up one stage later, as the authors' 84x84
    network does (84, 42, 21, 10 down; 10, 20, 42, 84 up), and in the last stage where the image itself is odd.
    """

    def decoder_size(i: int) -> list[int]:
        inside = 0 < i < len(sizes) - 1
        return [n - n % 2 if inside else n for n in sizes[i]]

    missing = [big - 2 * small for big, small in zip(decoder_size(stage - 1), decoder_size(stage), strict=True)]
    return tuple(1 - n // 2 for n in missing), tuple(n % 2 for n in missing)
