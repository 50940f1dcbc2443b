"""
The network that is attacked
============================

**What this teaches:** hard views are hard for one network, so every page of this gallery attacks the same one.

It is small, and trained in seconds by SimCLR on the 64 images of CIFAR-10 that come with the package. The other pages
import this one as ``network``, so keep it beside them.
"""

from collections.abc import Sequence
from functools import cache

import kornia.augmentation as K
import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from idaa_transforms import objectives
from idaa_transforms.functional import Loss
from idaa_transforms.losses import nt_xent
from idaa_transforms.sample import cifar10_sample

random_views = nn.Sequential(
    K.RandomResizedCrop((32, 32), scale=(0.2, 1.0)),
    K.RandomHorizontalFlip(),
    K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
    K.RandomGrayscale(p=0.2),
)


@cache
def trained(steps: int = 150) -> tuple[nn.Module, list[float]]:
    """The network, from images of any size to 64 numbers, and its loss at every step."""
    torch.manual_seed(0)
    x, _ = cifar10_sample()
    layers = [part for a, b in ((3, 32), (32, 64), (64, 128)) for part in (nn.Conv2d(a, b, 3, 2, 1), nn.ReLU())]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(512, 64))
    optimiser, losses = torch.optim.Adam(model.parameters(), lr=2e-3), []
    for _ in range(steps):
        loss = nt_xent(model(random_views(x)), model(random_views(x)), 0.2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return model.eval(), losses


def loss_of(x: Tensor) -> Loss:
    """What a view of ``x`` shall raise: NT-Xent against the mirrored images, one number for each."""
    model, _ = trained()
    return objectives.simclr(model, model(x.flip(3)), temperature=0.2)


def show(
    rows: dict[str, Sequence[Tensor]], title: str, captions: Sequence[Sequence[str]] = (), size: float = 1.0
) -> None:
    """Rows of images (3, H, W), with a label for each row and, where they are given, a caption above each image."""
    columns = max(map(len, rows.values()))
    height = 0.5 + 1.05 * size * len(rows) + 0.2 * len(captions)
    figure, axes = plt.subplots(len(rows), columns, figsize=(1.5 + size * columns, height), squeeze=False)
    figure.suptitle(title, fontsize=11)
    for number, (line, (label, images)) in enumerate(zip(axes, rows.items(), strict=True)):
        line[0].set_ylabel(label, rotation=0, ha="right", va="center")
        for axis in line:
            axis.set(xticks=[], yticks=[], frame_on=False)
        for place, (axis, image) in enumerate(zip(line, images, strict=False)):
            axis.imshow(image.detach().clamp(0, 1).permute(1, 2, 0).numpy())
            if number < len(captions) and place < len(captions[number]):
                axis.set_title(captions[number][place], fontsize=9, pad=3)
    plt.show()


# %%
# These are the images, and this is how its loss fell:

if __name__ == "__main__":
    images, _ = cifar10_sample()
    mosaic = images.unflatten(0, (4, 16)).permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.3), width_ratios=(2, 1))
    figure.suptitle("64 test images of CIFAR-10, and the loss of the network in training", fontsize=11)
    left.imshow(mosaic.permute(1, 2, 0).numpy())
    left.axis("off")
    right.plot(trained()[1])
    right.set(xlabel="step", ylabel="NT-Xent")
    plt.show()
