"""What an autoencoder that reconstructs almost perfectly leaves to R(x), beside the paper's narrow VAE.

    python -m benchmarks.high_fidelity DATA.npz TAEF2.safetensors

TAEF2 (madebyollin/taesd, MIT: 8x down, 32 latent channels) stands for the autoencoders of the Hub. Measured on the test
images of DATA.npz, 32x32 as they are and enlarged to 256x256, the size such autoencoders are made for: PSNR, numbers in
the latent over numbers in the image, share of the energy in R, and what a random delta of the same relative size moves.
Writes results/high-fidelity.json.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from idaa_transforms import hub
from idaa_transforms._core.codec import Codec
from idaa_transforms.autoencoders import Wrapped
from idaa_transforms.training.data import load_images

from . import harness


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


@torch.no_grad()
def measure(name: str, codec: Codec, x: Tensor, size: int, eps: float = 0.1) -> dict[str, float | str | int]:
    """One row: reconstruction, residual, and what delta = eps * sd(z) * random signs moves."""
    x = x if size == x.shape[2] else functional.interpolate(x, size=size, mode="bicubic", antialias=True).clamp(0, 1)
    z = torch.cat([codec.encode(part) for part in x.split(50)])
    g = torch.cat([codec.decode(part, x.shape) for part in z.split(50)])
    scale = z.std().item()
    moved = z + eps * scale * torch.randint(0, 2, z.shape, generator=torch.Generator().manual_seed(0)).mul(2).sub(1)
    change = torch.cat([codec.decode(part, x.shape) for part in moved.split(50)]) - g
    centred = x - x.mean((0, 2, 3), keepdim=True)
    energy = centred.square().sum()
    return {
        "autoencoder": name,
        "size": size,
        "psnr": (-10 * (x - g).square().flatten(1).mean(1).log10()).mean().item(),
        "latent_over_image": z[0].numel() / x[0].numel(),
        "energy_r": ((x - g).square().sum() / energy).item(),
        "latent_sd": scale,
        "moved": (change.square().sum() / energy).sqrt().item(),
    }


def main() -> None:
    """Measure, save, print. Energies and distances are relative to the images, their mean colour taken off."""
    data, weights = sys.argv[1:]
    x = load_images(data).test[:1000].float() / 255
    wide = Codec(taef2(Path(weights)), None, None)
    rows = [measure(name, Codec(hub.load(name)[0], None, None), x, 32) for name in ("cifar10-vae",)]
    rows += [measure("TAEF2", wide, x, 32), measure("TAEF2", wide, x[:100], 256)]
    file = harness.save("high-fidelity", {"data": Path(data).name, "weights": Path(weights).name, "eps": 0.1}, rows)
    print(*rows, file, sep="\n")


if __name__ == "__main__":
    main()
