"""Signals instead of images: a VAE in one dimension, trained here, and SimCLR with its hard views.

    python examples/signals.py

The signals are made up: three channels, eight kinds of two tones each, phases and noise at random. Of your own, as an
.npz of x_train (N, C, L), `idaa_transforms.training.signals.load_signals` reads them and `train_vae` trains the VAE
with a log, a checkpoint and a model card; docs/signals.md has it line by line.
"""

import math

import torch
from torch import Tensor, nn

from idaa_transforms import IDAATransform, objectives
from idaa_transforms.autoencoders import ConvVAE
from idaa_transforms.losses import nt_xent
from idaa_transforms.training.data import statistics
from idaa_transforms.training.signals import SignalAugmentation

DEVICE = "cpu"
STEPS = 16


def recordings(count: int = 256, length: int = 64) -> Tensor:
    """(count, 3, length), the kinds one after another."""
    time = torch.linspace(0, 2 * math.pi, length)
    tones = torch.tensor([[1 + k % 4, 5 + k // 4] for k in range(8)]).repeat(count // 8, 1)[:, None, :, None]
    phase = 2 * math.pi * torch.rand(count, 3, 2, 1)
    return torch.sin(tones * time + phase).sum(2) + 0.1 * torch.randn(count, 3, length)


def train_a_vae(x: Tensor, steps: int = 150) -> ConvVAE:
    """By its own objective, on slightly changed signals."""
    mean, std = statistics(x)
    vae = ConvVAE((x.shape[2],), 16, channels=x.shape[1], width=32, mean=mean, std=std).to(DEVICE)
    shift, scale = (torch.tensor(values, device=DEVICE)[:, None] for values in (mean, std))
    change, optimiser = SignalAugmentation(std).to(DEVICE), torch.optim.Adam(vae.parameters(), lr=3e-3)
    for _ in range(steps):
        batch = change(x[torch.randint(len(x), (64,))])
        optimiser.zero_grad()
        vae.objective((batch - shift) / scale).loss.backward()
        optimiser.step()
    return vae


def main() -> list[float]:
    """Train; return the loss of every step."""
    torch.manual_seed(0)
    x = recordings().to(DEVICE)
    idaa = IDAATransform(train_a_vae(x), eps=0.2)
    convolutions = nn.Conv1d(3, 32, 7, 2), nn.ReLU(), nn.Conv1d(32, 32, 7, 2), nn.ReLU(), nn.AdaptiveAvgPool1d(4)
    model = nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(128, 32)).to(DEVICE)
    random, optimiser = SignalAugmentation([1.0] * 3, crop=0.8), torch.optim.Adam(model.parameters(), lr=1e-3)
    random, losses = random.to(DEVICE), []
    for step in range(STEPS):
        x1, x2 = random(x), random(x)
        z1, z2 = model(x1), model(x2)
        hard = idaa(x1, loss_fn=objectives.simclr(model, z2))
        loss = nt_xent(z1, z2).mean() + nt_xent(z1, model(hard)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        print(f"step {step + 1:2}: loss {losses[-1]:.3f}")
    return losses


if __name__ == "__main__":
    main()
