"""SimCLR on images for which nobody knows a random augmentation: crops, flips, and a hard step for both views.

    python examples/both_hard.py

At equal time this form did most for such images in short runs of a small network; a ResNet-18 learned more from a third
view (docs/board.md). One gradient serves both views, and it is taken at half the resolution, which costs a quarter.
Runs in under a minute on a CPU, on the 64 images of the package.
"""

import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision.transforms import v2

from idaa_transforms import IDAATransform, preserve_state
from idaa_transforms.losses import nt_xent
from idaa_transforms.sample import cifar10_sample

DEVICE = "cpu"
EPOCHS = 4
EPS = 0.5  # a long step: more of the class is lost than at the default, see `idaa calibrate`


def main() -> list[float]:
    """Train; return the mean loss of every epoch."""
    torch.manual_seed(0)
    images = cifar10_sample()[0].to(DEVICE)
    random = v2.Compose([v2.RandomResizedCrop((32, 32), scale=(0.4, 1.0)), v2.RandomHorizontalFlip()])
    model = torchvision.models.resnet18(num_classes=64)
    model.maxpool = nn.Identity()  # for small images
    model.to(DEVICE)
    idaa = IDAATransform.from_pretrained("cifar10-vae-small", eps=EPS).to(DEVICE)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)

    losses = []
    for epoch in range(EPOCHS):
        total = 0.0
        for batch in images[torch.randperm(len(images))].split(32):
            x = torch.stack([random(image) for image in [*batch, *batch]]).requires_grad_()  # x1, then x2
            with preserve_state(model):  # this pass leaves no trace in the batch norms
                z1, z2 = model(F.avg_pool2d(x, 2)).chunk(2)
            (grad,) = torch.autograd.grad(nt_xent(z1, z2).sum(), x)
            hard1, hard2 = idaa(x.detach(), grad=grad).chunk(2)

            loss = nt_xent(model(hard1), model(hard2)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() * len(batch) / len(images)
        losses.append(total)
        print(f"epoch {epoch + 1}: loss {total:.3f}")
    return losses


if __name__ == "__main__":
    main()
