"""TAEF2 (madebyollin/taesd, MIT: 8x down, 32 latent channels), which stands for the autoencoders of the Hub: it
reconstructs photographs of 256x256 almost perfectly."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from idaa_transforms.autoencoders import Wrapped


class Block(nn.Module):
    """relu(three 3x3 convolutions of y, plus y), where y is x or x with a sight of what is around."""

    def __init__(self, pool: bool) -> None:
        super().__init__()
        widths = (nn.Conv2d(64, 64, 3, padding=1) for _ in range(3))
        self.conv = nn.Sequential(*(layer for conv in widths for layer in (conv, nn.ReLU())))[:-1]
        self.pool = None
        if pool:
            grow, shrink = nn.Conv2d(64, 256, 1, bias=False), nn.Conv2d(256, 64, 1, bias=False)
            self.pool = nn.Sequential(grow, nn.GroupNorm(4, 256), nn.ReLU(), shrink)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 64, H, W) to the same."""
        y = x if self.pool is None else x + self.pool(x)
        return functional.relu(self.conv(y) + y)


class Clamp(nn.Module):
    """3 tanh(z / 3)."""

    def forward(self, z: Tensor) -> Tensor:
        """Any shape to the same."""
        return 3 * torch.tanh(z / 3)


class TAEF2(nn.Module):
    """The layout that data/README.md of the weights describes. Images in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, padding=1), Block(False)]
        for stage in range(3):
            layers += [nn.Conv2d(64, 64, 3, stride=2, padding=1, bias=False), *(Block(stage == 2) for _ in range(3))]
        self.encoder = nn.Sequential(*layers, nn.Conv2d(64, 32, 3, padding=1))
        layers = [Clamp(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU()]
        for stage in range(3):
            layers += [*(Block(stage == 0) for _ in range(3)), nn.Upsample(scale_factor=2)]
            layers += [nn.Conv2d(64, 64, 3, padding=1, bias=False)]
        self.decoder = nn.Sequential(*layers, Block(False), nn.Conv2d(64, 3, 3, padding=1))


def taef2(file: Path, latent_scale: float = 1.0) -> Wrapped:
    """It, with its weights, as an autoencoder."""
    network = TAEF2().eval()
    network.load_state_dict({key: value.float() for key, value in load_file(file).items()})
    return Wrapped(network.encoder, network.decoder, factor=8, latent_scale=latent_scale)
