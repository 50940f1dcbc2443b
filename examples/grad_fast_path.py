"""The fast path, written out: the training step's own gradient at x is all that one step from zero needs.

    python examples/grad_fast_path.py

The clean loss goes back to the images first, without the gradients of the parameters. The hard view then costs the VAE
alone, and one pass back serves both losses. View 1 keeps its gradient in the second: where it is held fixed, training
learns next to nothing (docs/board.md).
"""

import kornia.augmentation as K
import timm
import torch
from torch import nn

from idaa_transforms import IDAATransform
from idaa_transforms.losses import nt_xent
from idaa_transforms.util.sample import cifar10_sample

DEVICE = "cpu"
STEPS = 8


def main() -> list[float]:
    """Train; return the loss of every step."""
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=64)
    model.maxpool = nn.Identity()  # for small images
    model.to(DEVICE)
    random = nn.Sequential(K.RandomResizedCrop((32, 32)), K.RandomHorizontalFlip(), K.ColorJitter(0.4, 0.4, 0.4))
    idaa = IDAATransform.from_pretrained("cifar10-vae").to(DEVICE)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    x = cifar10_sample()[0][:32].to(DEVICE)

    losses = []
    for step in range(STEPS):
        optimiser.zero_grad()
        x1, x2 = random(x).requires_grad_(), random(x)
        z1, z2 = model(x1), model(x2)
        clean = nt_xent(z1, z2).mean()
        (slope,) = torch.autograd.grad(clean, x1, retain_graph=True)
        hard = idaa(x1.detach(), grad=slope)
        loss = clean + nt_xent(z1, model(hard)).mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        print(f"step {step + 1:2}: loss {losses[-1]:.3f}")
    return losses


if __name__ == "__main__":
    main()
