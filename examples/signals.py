"""Signals instead of images: a VAE in one dimension, trained here, SimCLR with its hard views, and a picture of these.

    python examples/signals.py
    python examples/signals.py recordings.npz signals.png

Without a file the signals are made up: three channels, eight kinds of two tones each, phases and noise at random. A
file has x_train (N, C, L) in units of its own: docs/signals.md says where real ones come from, and trains longer.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from idaa_transforms import IDAATransform, objectives
from idaa_transforms._util.pictures import save_lines
from idaa_transforms.autoencoders import ConvVAE
from idaa_transforms.losses import nt_xent
from idaa_transforms.training.data import statistics
from idaa_transforms.training.signals import SignalAugmentation, load_signals


def made_up(count: int = 256, length: int = 64) -> Tensor:
    """(count, 3, length), the kinds one after another."""
    time = torch.linspace(0, 2 * torch.pi, length)
    tones = torch.tensor([[1 + k % 4, 5 + k // 4] for k in range(8)]).repeat(count // 8, 1)[:, None, :, None]
    phase = 2 * torch.pi * torch.rand(count, 3, 2, 1)
    return torch.sin(tones * time + phase).sum(2) + 0.1 * torch.randn(count, 3, length)


def train_a_vae(x: Tensor, steps: int) -> ConvVAE:
    """By its own objective, on slightly changed signals."""
    mean, std = statistics(x)
    vae = ConvVAE((x.shape[2],), 16, channels=x.shape[1], width=32, mean=mean, std=std)
    shift, scale = (torch.tensor(values)[:, None] for values in (mean, std))
    change, optimiser = SignalAugmentation(std), torch.optim.Adam(vae.parameters(), lr=3e-3)
    for _ in range(steps):
        optimiser.zero_grad()
        vae.objective((change(x[torch.randint(len(x), (64,))]) - shift) / scale).loss.backward()
        optimiser.step()
    return vae


def main(file: str = "", picture: str = "") -> list[float]:
    """Train; return the loss of every step."""
    torch.manual_seed(0)
    x = load_signals(file).train if file else made_up()
    idaa, std, losses = IDAATransform(train_a_vae(x, 800 if file else 150), eps=0.2), statistics(x)[1], []
    convolutions = nn.Conv1d(x.shape[1], 32, 7, 2), nn.ReLU(), nn.Conv1d(32, 32, 7, 2), nn.ReLU()
    model = nn.Sequential(*convolutions, nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(128, 32))
    random, optimiser = SignalAugmentation(std, crop=0.8), torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(16):
        x1, x2 = random(batch := x[torch.randperm(len(x))[:256]]), random(batch)
        z1, z2 = model(x1), model(x2)
        found = idaa.explain(x1, loss_fn=objectives.simclr(model, z2))
        loss = nt_xent(z1, z2).mean() + nt_xent(z1, model(found.views)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        print(f"step {step + 1:2}: loss {losses[-1]:.3f}")
    if picture:
        rows = {"x": x1, "G(x)": found.reconstruction, "R(x)": found.residual, "hard view x'": found.views}
        save_lines({label: signals[:6] for label, signals in rows.items()}, Path(picture), file)
    return losses


if __name__ == "__main__":
    main(*sys.argv[1:])
