"""AdvProp (Xie et al., CVPR 2020): supervised training with hard views that have batch statistics of their own.

python examples/advprop.py
"""

import timm
import torch
from torch import nn
from torchvision.transforms import v2

from idaa_transforms import IDAATransform, objectives
from idaa_transforms.batchnorm import branch, convert_dual_batchnorm, strip_dual_batchnorm
from idaa_transforms.sample import cifar10_sample

DEVICE = "cpu"
STEPS = 8


def main() -> list[float]:
    """Train a classifier; return the loss of every step."""
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=10)
    model.maxpool = nn.Identity()  # for small images
    model = convert_dual_batchnorm(model).to(DEVICE)
    idaa = IDAATransform.from_pretrained("cifar10-vae-small").to(DEVICE)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    images, labels = (t.to(DEVICE) for t in cifar10_sample())
    flip = v2.RandomHorizontalFlip()

    losses = []
    for step in range(STEPS):
        rows = torch.randperm(64, device=DEVICE)[:32]
        x, y = flip(images[rows]), labels[rows]
        with branch(model, "adversarial"):
            hard = idaa(x, loss_fn=objectives.supervised(model, y))
            loss_hard = nn.functional.cross_entropy(model(hard), y)
        loss = nn.functional.cross_entropy(model(x), y) + loss_hard
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        print(f"step {step + 1:2}: loss {losses[-1]:.3f}")

    strip_dual_batchnorm(model)  # a plain timm model again, with the statistics of clean images
    timm.create_model("resnet10t", num_classes=10).load_state_dict(model.state_dict())
    return losses


if __name__ == "__main__":
    main()
