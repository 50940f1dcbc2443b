"""Frozen reference models for identity.py: two that others trained, read from files, and two trained here.

    python -m benchmarks.reference_models supervised data/cifar10.npz   # runs/reference/supervised.safetensors
    python -m benchmarks.reference_models simclr data/cifar10.npz       # runs/reference/simclr.safetensors

Both are timm's residual network, one block a stage and a stem of stride 2, 2.4 M parameters. ``supervised`` is trained
with cross-entropy under crops, flips, colour jitter and erased patches, another recipe than the attacked network's;
``simclr`` with NT-Xent and no labels. Each takes images in [0, 1] and returns logits or features.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import kornia.augmentation as K
import numpy as np
import torch
from safetensors.torch import load_file, save_file
from timm import create_model
from timm.models.resnet import BasicBlock as TimmBlock
from timm.models.resnet import ResNet
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import mobilenet_v2
from torchvision.transforms import v2

from idaa_transforms._util.precision import has_bfloat16
from idaa_transforms.autoencoders.conv import CIFAR_STATISTICS, IMAGENET_STATISTICS
from idaa_transforms.losses import nt_xent

CLASSES = 10


class BasicBlock(nn.Module):
    """He et al. (2015), section 4.2: the shortcut has no weights; it takes every other pixel and pads channels."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.stride, self.padding = stride, (outer - inner) // 2

    def forward(self, x: Tensor) -> Tensor:
        """(B, inner, H, W) to (B, outer, H / stride, W / stride)."""
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        shortcut = functional.pad(x[..., :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return functional.relu(y + shortcut)


class ResNet20(nn.Module):
    """The supervised CIFAR-10 network of data/README.md (akamaster/pytorch_resnet_cifar10, BSD-2)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        for stage, (inner, outer) in enumerate(((16, 16), (16, 32), (32, 64)), 1):
            blocks = [BasicBlock(inner if i == 0 else outer, outer, 1 + (i == 0 and stage > 1)) for i in range(3)]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.linear = nn.Linear(64, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        """Normalised images to (B, 64)."""
        x = functional.relu(self.bn1(self.conv1(x)))
        return self.layer3(self.layer2(self.layer1(x))).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images to (B, 10) logits."""
        return self.linear(self.features(x))


def small_resnet() -> ResNet:
    """timm's ResNet, one block in each of four stages, for 32x32 images; logits, or features with reset_classifier."""
    network = ResNet(TimmBlock, (1, 1, 1, 1), CLASSES, channels=(64, 128, 256, 256))
    network.conv1 = nn.Conv2d(3, 64, 4, stride=2, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


def frozen(network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], size: int | None = None) -> nn.Module:
    """``network`` in eval mode, for images in [0, 1], after resizing to ``size`` and normalisation."""
    resize = [v2.Resize(size, antialias=True)] if size else []
    return nn.Sequential(*resize, v2.Normalize(mean, std), network).eval().requires_grad_(False)


def resnet20(file: Path) -> nn.Module:
    """Logits of the attacked network of identity.py."""
    network = ResNet20()
    network.load_state_dict(load_file(file))
    return frozen(network, *IMAGENET_STATISTICS, size=32)


def trained(file: Path) -> nn.Module:
    """What this script saved: logits of ``supervised``, features (B, 256) of ``simclr``."""
    network = small_resnet()
    if "fc.weight" not in (state := load_file(file)):
        network.reset_classifier(0)
    network.load_state_dict(
        {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    )
    return frozen(network, *CIFAR_STATISTICS, size=32)


def mobilenet(file: Path, size: int | None = 64, logits: bool = False) -> nn.Module:
    """Features (B, 1280), or logits (B, 1000), of torchvision's MobileNetV2 for ImageNet, images of ``size``."""
    network = mobilenet_v2()
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    if not logits:
        network.classifier = nn.Identity()
    return frozen(network, *IMAGENET_STATISTICS, size=size)


def efficientnet(file: Path, logits: bool = False) -> nn.Module:
    """The same of timm's EfficientNet-Lite0, whose ``file`` has timm's tensors in order, by other names."""
    network = create_model("efficientnet_lite0")
    values = list(torch.load(file, map_location="cpu", weights_only=True).values())
    network.load_state_dict(dict(zip(network.state_dict(), values, strict=True)))
    if not logits:
        network.reset_classifier(0)
    return frozen(network, *IMAGENET_STATISTICS)


def supervised_augmentation() -> nn.Module:
    """Crops, flips, colours and erased patches for images (B, 3, 32, 32) in [0, 1]."""
    return nn.Sequential(
        K.RandomCrop((32, 32), padding=4),
        K.RandomHorizontalFlip(),
        v2.ColorJitter(0.3, 0.3, 0.3),  # one draw a batch, which is what a CPU can pay for
        K.RandomErasing(p=0.5, scale=(0.02, 0.2)),
    )


def nesterov(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """SGD for what is trained with labels."""
    return torch.optim.SGD(parameters, lr=0.2, momentum=0.9, weight_decay=5e-4, nesterov=True)


def optimise(
    optimiser: torch.optim.Optimizer, loss_of: Callable[[Tensor], Tensor], count: int, epochs: int, batch_size: int
) -> None:
    """One-cycle training: ``loss_of(rows)`` for random rows of ``count`` images, batch by batch."""
    steps, peak = count // batch_size, optimiser.defaults["lr"]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, peak, total_steps=epochs * steps, pct_start=0.2)
    for epoch in range(epochs):
        started, summed = time.perf_counter(), 0.0
        for rows in torch.randperm(count)[: steps * batch_size].view(steps, -1):
            loss = loss_of(rows)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            summed += loss.item()
        print(
            f"epoch {epoch + 1}/{epochs}: loss {summed / steps:.4f}, {time.perf_counter() - started:.0f} s", flush=True
        )


def train(kind: str, images: Tensor, labels: Tensor, epochs: int, batch_size: int = 256) -> ResNet:
    """One-cycle SGD with Nesterov momentum, or AdamW for ``simclr``; bfloat16 autocast where
    the machine has it; seed 0."""
    torch.manual_seed(0)
    network = small_resnet().to(memory_format=torch.channels_last)
    head: nn.Module = nn.Identity()
    augment = supervised_augmentation()
    if kind == "simclr":
        network.reset_classifier(0)
        head = nn.Sequential(nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 64))
        augment = nn.Sequential(
            K.RandomResizedCrop((32, 32), scale=(0.2, 1.0)),
            K.RandomHorizontalFlip(),
            K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
            K.RandomGrayscale(p=0.2),
        )
    normalise = v2.Normalize(*CIFAR_STATISTICS)
    parameters = [*network.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=1e-3) if kind == "simclr" else nesterov(parameters)

    def embed(x: Tensor) -> Tensor:
        x = normalise(augment(x)).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16("cpu")):
            return head(network(x)).float()

    def loss_of(rows: Tensor) -> Tensor:
        x = images[rows].float() / 255
        if kind == "simclr":
            return nt_xent(embed(x), embed(x), temperature=0.2).mean()
        return functional.cross_entropy(embed(x), labels[rows], label_smoothing=0.1)

    optimise(optimiser, loss_of, len(images), epochs, batch_size)
    return network.eval()


def main() -> None:
    """Train one reference model, report its accuracy on the test images, and save it in float16."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["supervised", "simclr"])
    parser.add_argument("data", help="an .npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("runs/reference"))
    args = parser.parse_args()
    with np.load(args.data) as data:
        x, y, x_test, y_test = (torch.from_numpy(data[k]) for k in ("x_train", "y_train", "x_test", "y_test"))
    x, x_test = x.permute(0, 3, 1, 2), x_test.permute(0, 3, 1, 2)
    state = train(args.kind, x, y, args.epochs).state_dict()
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / f"{args.kind}.safetensors"
    save_file({k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in state.items()}, file)
    network = trained(file)
    with torch.no_grad():
        out = torch.cat([network(part.float() / 255) for part in x_test.split(500)])
        if args.kind == "simclr":  # by the nearest of the first 10,000 training images
            bank = functional.normalize(
                torch.cat([network(part.float() / 255) for part in x[:10000].split(500)]), dim=1
            )
            right = y[(functional.normalize(out, dim=1) @ bank.T).argmax(1)] == y_test
        else:
            right = out.argmax(1) == y_test
    print(f"{file}: {right.float().mean():.4f} of {len(y_test)} test images right")


if __name__ == "__main__":
    main()
