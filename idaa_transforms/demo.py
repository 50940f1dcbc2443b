"""``idaa demo``: real images, real weights, a few SimCLR steps with hard views in the loop, a table and a picture."""

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
from .transforms import CLAETransform, Explanation, IDAATransform

CLAE_EPS = 0.006  # the paper's 0.03 on normalised pixels, in units of [0, 1]


def demo(out: Path, weights: str = "cifar10-vae", steps: int = 30, device: str = "cpu", **where: Any) -> None:
    """Train a small encoder with NT-Xent on clean pairs and IDAA views, then compare what views do to its loss.

    Args:
        out: folder of the picture.
        weights: name, folder or repository; the images are resized to what they take, and grey for one channel.
        steps: of training.
        where: revision, subfolder and so on, of ``from_pretrained``.
    """
    require("all", "kornia", "timm", "tqdm", "matplotlib")
    import timm
    from tqdm import trange

    idaa, clae = IDAATransform.from_pretrained(weights, **where).to(device), CLAETransform(CLAE_EPS).to(device)
    torch.manual_seed(0)
    x = _sample(idaa.autoencoder).to(device)
    encoder = timm.create_model("resnet10t", num_classes=128, pretrained=False, in_chans=x.shape[1]).to(device)
    if max(x.shape[2:]) <= 64:
        encoder.maxpool = nn.Identity()  # they are small enough
    random = _random((x.shape[2], x.shape[3]), x.shape[1])

    def attack(view: Tensor) -> Tensor:
        return nt_xent(encoder(view), anchor)

    optimiser = torch.optim.Adam(encoder.parameters(), lr=1e-3)
    bar = trange(steps, desc="SimCLR + IDAA", unit="step")
    for _ in bar:
        x1, x2 = random(x), random(x)
        z1, z2 = encoder(x1), encoder(x2)
        anchor = z2.detach()
        hard = idaa(x1, loss_fn=attack)
        loss = nt_xent(z1, z2).mean() + nt_xent(z1, encoder(hard)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        bar.set_postfix(loss=f"{loss.item():.3f}")

    encoder.eval()
    x1, x2 = random(x), random(x)
    with torch.no_grad():
        anchor = encoder(x2)

    made: dict[str, Callable[[], Tensor]] = {
        "clean": lambda: x1,
        "random": lambda: random(x1),
        "CLAE": lambda: clae(x1, loss_fn=attack),
        "IDAA": lambda: idaa(x1, loss_fn=attack),
    }
    deltas = {"CLAE": clae.explain(x1, loss_fn=attack).delta, "IDAA": idaa.explain(x1, loss_fn=attack).delta}
    print(f"\n{idaa!r}\n{len(x)} CIFAR-10 test images on {device}, NT-Xent of one random view against another\n")
    print(f"{'view':8} {'loss':>7} {'max |delta|':>12} {'|x1 - view|':>12} {'ms a batch':>11}")
    _rows(made, deltas, attack)
    found = idaa.explain(x, loss_fn=attack)
    file = out / "demo.png"
    _picture(x, found, file, f"{idaa!r}: hard views of CIFAR-10 test images")
    print(f"\ndelta: of IDAA in the latent, of CLAE in the pixels. |x1 - view|: L2, mean over images. Picture: {file}")


def _sample(autoencoder: Any) -> Tensor:
    """The sample images in the size and with the channels that ``autoencoder`` takes."""
    x, channels = cifar10_sample(getattr(autoencoder, "image_size", (32, 32)))[0], len(autoencoder.mean)
    if channels == 1:
        return rgb_to_grayscale(x)
    if channels != x.shape[1]:
        raise ValueError(f"the demo's images are in colour or grey, and these weights take {channels} channels")
    return x


def _random(size: tuple[int, int], channels: int) -> nn.Module:
    import kornia.augmentation as K

    # kornia's generators draw on the CPU; its images stay where they are.
    colours = [K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8), K.RandomGrayscale(p=0.2)] if channels == 3 else []
    return nn.Sequential(K.RandomResizedCrop(size, scale=(0.2, 1.0)), K.RandomHorizontalFlip(), *colours)


def _milliseconds(make: Callable[[], Tensor], repeats: int = 5) -> float:
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        make()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times)


def _rows(made: dict[str, Callable[[], Tensor]], deltas: dict[str, Tensor], attack: Callable[[Tensor], Tensor]) -> None:
    for name, make in made.items():
        view = make()
        with torch.no_grad():
            harder = attack(view).mean().item()
        delta = f"{deltas[name].abs().max().item():.3f}" if name in deltas else "-"
        moved = (view - made["clean"]()).flatten(1).norm(dim=1).mean().item()
        taken = f"{_milliseconds(make):.0f}" if name != "clean" else "-"
        print(f"{name:8} {harder:7.3f} {delta:>12} {moved:12.2f} {taken:>11}")


def _picture(x: Tensor, found: Explanation, file: Path, title: str) -> None:
    save_grid(
        {
            "x": x[:10],
            "G(x) = D(E(x))": found.reconstruction[:10],
            "R(x) = x - G(x), + 0.5": found.residual[:10] + 0.5,
            "x' = R(x) + D(E(x) + delta)": found.views[:10],
            "|x' - x|, times 8": 8 * (found.views - x)[:10].abs(),
        },
        file,
        title,
    )
