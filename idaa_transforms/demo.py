"""``idaa demo``: train a small network with hard views for a few steps, then print a table and draw a picture."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import rgb_to_grayscale

from ._util.extras import require
from ._util.pictures import save_grid
from .losses import nt_xent
from .sample import cifar10_sample
from .transforms import CLAETransform, IDAATransform

CLAE_EPS = 0.006  # the paper's 0.03 on normalised pixels, in units of [0, 1]


def demo(out: Path, weights: str = "cifar10-vae-small", steps: int = 20, device: str = "cpu", **where: Any) -> None:
    """Train a small network with SimCLR and hard views, then compare what views do to its loss.

    Args:
        out: folder of the picture.
        weights: name, folder or repository; the images are resized to what they take, and grey for one channel.
        steps: of training.
        where: revision, subfolder and so on, of ``from_pretrained``.
    """
    require("train", "kornia", "tqdm", "matplotlib")
    from tqdm import trange

    idaa, clae = IDAATransform.from_pretrained(weights, **where).to(device), CLAETransform(CLAE_EPS).to(device)
    torch.manual_seed(0)
    x = _sample(idaa.autoencoder).to(device)
    network, random = _network(x.shape[1]).to(device), _random((x.shape[2], x.shape[3]), x.shape[1])
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    bar = trange(steps, desc="SimCLR with hard views", unit="step", leave=False)
    for _ in bar:
        x1, x2 = random(x).requires_grad_(), random(x)
        z1, z2 = network(x1), network(x2)
        loss = nt_xent(z1, z2).mean()
        (gradient,) = torch.autograd.grad(loss, x1, retain_graph=True)
        loss = loss + nt_xent(z1, network(idaa(x1.detach(), grad=gradient))).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        bar.set_postfix(loss=f"{loss.item():.2f}")

    network.eval()
    anchor = network(random(x)).detach()

    def attack(views: Tensor) -> Tensor:
        return nt_xent(network(views), anchor)

    made: dict[str, Callable[[], Tensor]] = {
        "image": lambda: x,
        "random view": lambda: random(x),
        "CLAE view": lambda: clae(x, loss_fn=attack),
        "hard view": lambda: idaa(x, loss_fn=attack),
    }
    print(f"Loss of a small network on {len(x)} CIFAR-10 images, after {steps} steps of SimCLR. {idaa!r}\n")
    print(f"{'':12} {'mean loss':>10} {'distance in pixels (L2)':>24} {'ms a batch':>11}")
    for name, make in made.items():
        taken, view = _timed(make)
        with torch.no_grad():
            loss = attack(view).mean()
        moved = (view - x).flatten(1).norm(dim=1).mean()
        print(f"{name:12} {loss:10.3f} {moved:24.2f} {taken if name != 'image' else '':>11}")
    result = idaa.explain(x, loss_fn=attack)
    change = (result.views - x)[:10]
    most = change.abs().max().clamp(min=1e-6)
    file = out / "demo.png"
    rows = {
        "image": x[:10],
        "reconstruction": result.reconstruction[:10],
        "detail": result.residual[:10] + 0.5,
        "hard view": result.views[:10],
        f"change, {most:.2f} at most": 0.5 + change / (2 * most),
    }
    save_grid(rows, file, f"{idaa!r}: the reconstruction moves, the detail stays")
    print(f"\nPicture: {file}")


def _sample(autoencoder: Any) -> Tensor:
    """The sample images in the size and with the channels that ``autoencoder`` takes."""
    x, channels = cifar10_sample(getattr(autoencoder, "image_size", (32, 32)))[0], len(autoencoder.mean)
    if channels == 1:
        return rgb_to_grayscale(x)
    if channels != x.shape[1]:
        raise ValueError(f"the demo's images are in colour or grey, and these weights take {channels} channels")
    return x


def _network(channels: int) -> nn.Module:
    pairs = ((channels, 32), (32, 64), (64, 128))
    layers = [part for a, b in pairs for part in (nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU())]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(512, 64))


def _random(size: tuple[int, int], channels: int) -> nn.Module:
    import kornia.augmentation as K

    # kornia's generators draw on the CPU; its images stay where they are.
    colours = [K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8), K.RandomGrayscale(p=0.2)] if channels == 3 else []
    return nn.Sequential(K.RandomResizedCrop(size, scale=(0.2, 1.0)), K.RandomHorizontalFlip(), *colours)


def _timed(make: Callable[[], Tensor], repeats: int = 3) -> tuple[str, Tensor]:
    """The median time in milliseconds, and what was made."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        view = make()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - started))
    return f"{statistics.median(times):.0f}", view
