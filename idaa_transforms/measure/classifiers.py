"""Two small CIFAR-10 classifiers that come with the package: one to attack, and one as a reference model.

They are for the app, for trying things out, and for tests without a network. Your own networks are what counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..autoencoders.conv import CIFAR_STATISTICS
from ..hub.folder import CONFIG, WEIGHTS, check_hash, fill, read_json, read_weights
from ..hub.registry import installed

CLASSIFIERS = {  # sha256 of the files
    "cifar10-classifier": "d65471b015846518466e7367f6c5f80054c078a2b9bffeb89aac8c99bf5dec6c",
    "cifar10-reference": "8f769653b3d03efc7e94844707f8e39021a9fd0b23616dba197eed19c062aca2",
}
SIZE = 32


class Classifier(nn.Module):
    """A residual network (He et al., 2015) of one block a stage, for images in [0, 1] of any size, seen at 32x32.

    Args:
        widths: channels of the stages, each half as high and wide as the one before.
        stride: of the first layer.
        classes: their names.
        logits: return their scores; else the features below them.

    Shape:
        (B, 3, H, W) to (B, classes), or (B, widths[-1]).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, widths: Sequence[int], stride: int, classes: Sequence[str], logits: bool = True) -> None:
        super().__init__()
        self.config = {"widths": list(widths), "stride": stride, "classes": list(classes)}
        self.classes, self.logits = tuple(classes), logits
        mean, std = (torch.tensor(numbers).view(-1, 1, 1) for numbers in CIFAR_STATISTICS)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.stem = _conv(3, widths[0], stride)
        outer = (widths[0], *widths)
        self.blocks = nn.Sequential(*(_Block(a, b, 1 + (i > 0)) for i, (a, b) in enumerate(zip(outer, widths))))  # noqa: B905
        self.head = nn.Linear(widths[-1], len(classes))

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the classes, or features."""
        if x.shape[-2:] != (SIZE, SIZE):
            x = F.interpolate(x, (SIZE, SIZE), mode="bilinear", antialias=True)
        features = self.blocks(F.relu(self.stem((x - self.mean) / self.std))).mean((2, 3))
        return self.head(features) if self.logits else features


class _Block(nn.Module):
    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.first, self.second = _conv(inner, outer, stride), _conv(outer, outer)
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(inner, outer, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))


def _conv(inner: int, outer: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inner, outer, 3, stride, 1, bias=False), nn.BatchNorm2d(outer))


def load_classifier(name: str, logits: bool = True) -> Classifier:
    """One of :data:`CLASSIFIERS`, frozen and in eval mode.

    Raises:
        WeightsError: its file is missing or damaged.
    """
    folder = installed(name)
    check_hash(folder / WEIGHTS, CLASSIFIERS[name])
    network = Classifier(**read_json(folder / CONFIG)["classifier"], logits=logits)
    fill(network, read_weights(folder / WEIGHTS, network.state_dict()))
    return network.eval().requires_grad_(False).to(memory_format=torch.channels_last)
