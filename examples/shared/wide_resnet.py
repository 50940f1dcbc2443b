"""Wide residual networks (Zagoruyko and Komodakis, BMVC 2016) as FixMatch uses them: leaky ReLU, one 3x3 stem."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SLOPE = 0.1  # of leaky ReLU


class Block(nn.Module):
    """Norm, activation, 3x3 convolution, twice; the shortcut is 1x1 where the shape changes."""

    def __init__(self, inside: int, outside: int, stride: int, momentum: float) -> None:
        super().__init__()
        self.bn1, self.bn2 = (nn.BatchNorm2d(n, momentum=momentum) for n in (inside, outside))
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        changes = stride > 1 or inside != outside
        self.shortcut = nn.Conv2d(inside, outside, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, inside, H, W) to (B, outside, H / stride, W / stride)."""
        activated = F.leaky_relu(self.bn1(x), SLOPE)
        y = self.conv2(F.leaky_relu(self.bn2(self.conv1(activated)), SLOPE))
        return y + (x if self.shortcut is None else self.shortcut(activated))


class WideResNet(nn.Module):
    """From images (B, 3, H, W) to features (B, ``num_features``): three stages, then the mean over all places.

    Args:
        depth: 6 n + 4, with n blocks in a stage: 28, or 10 for the smallest.
        width: times 16, 32 and 64 channels.
        channels: of the narrowest stage before widening.
        momentum: of the batch norms. FixMatch's is .001, for its 2^20 steps.
    """

    def __init__(self, depth: int, width: int, channels: int = 16, momentum: float = 0.1) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6 or width < 1:
            raise ValueError(f"wrn-{depth}-{width}: the depth is 10, 16, 22, 28, ..., and the width at least 1")
        blocks, wide = (depth - 4) // 6, [channels * width * 2**i for i in range(3)]
        self.num_features = wide[-1]
        self.conv1 = nn.Conv2d(3, channels, 3, padding=1, bias=False)
        layers, inside = [], channels
        for stage, outside in enumerate(wide):
            for i in range(blocks):
                layers.append(Block(inside, outside, 2 if stage and not i else 1, momentum))
                inside = outside
        self.layers = nn.Sequential(*layers)
        self.bn = nn.BatchNorm2d(inside, momentum=momentum)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, SLOPE, mode="fan_out", nonlinearity="leaky_relu")

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) to (B, num_features)."""
        return torch.mean(F.leaky_relu(self.bn(self.layers(self.conv1(x))), SLOPE), (2, 3))
