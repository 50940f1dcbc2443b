"""MoCo with lightly's parts. Its loss takes in the keys at every call with a gradient: the hard view reads the queue.

python examples/lightly_moco.py
"""

import copy

import kornia.augmentation as K
import timm
import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import MoCoProjectionHead
from lightly.models.utils import deactivate_requires_grad, update_momentum
from torch import nn

from idaa_transforms import IDAATransform, objectives
from idaa_transforms.losses import info_nce
from idaa_transforms.sample import cifar10_sample

DEVICE = "cpu"
STEPS = 12


def main() -> list[float]:
    """Train; return the loss of every step."""
    torch.manual_seed(0)
    backbone = timm.create_model("resnet10t", num_classes=0)
    backbone.maxpool = nn.Identity()  # for small images
    model = nn.Sequential(backbone, MoCoProjectionHead(512, 256, 64)).to(DEVICE)
    momentum_model = copy.deepcopy(model)
    deactivate_requires_grad(momentum_model)
    random = nn.Sequential(
        K.RandomResizedCrop((32, 32), scale=(0.2, 1.0)), K.RandomHorizontalFlip(), K.ColorJitter(0.4, 0.4)
    )
    idaa = IDAATransform.from_pretrained("cifar10-vae-small").to(DEVICE)
    criterion = NTXentLoss(temperature=0.2, memory_bank_size=(128, 64)).to(DEVICE)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    images = cifar10_sample()[0].to(DEVICE)

    losses = []
    for step in range(STEPS):
        x = images[torch.randperm(64)[:32]]
        x1, x2 = random(x), random(x)
        update_momentum(model, momentum_model, m=0.9)
        with torch.no_grad():
            keys = momentum_model(x2)
        queue = criterion.memory_bank.bank
        hard = idaa(x1, loss_fn=objectives.moco(model, keys, queue, temperature=0.2))
        loss_hard = info_nce(model(hard), keys, 0.2, queue).mean()  # before the criterion takes in the keys
        loss = (criterion(model(x1), keys) + loss_hard) / 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        print(f"step {step + 1:2}: loss {losses[-1]:.3f}")
    return losses


if __name__ == "__main__":
    main()
