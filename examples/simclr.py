"""SimCLR in plain PyTorch and torchvision, with a third view that is hard.

    python examples/simclr.py             # from the gradient that the training step has: the view costs the VAE alone
    python examples/simclr.py loss_fn     # from a closure: one more pass of the model, forward and back

Runs in under a minute on a CPU, on the 64 CIFAR-10 images that come with the package. Put your own dataset in their
place, and "cuda" below.
"""

import sys

import torch
import torchvision
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from idaa_transforms import IDAATransform, objectives
from idaa_transforms.losses import nt_xent
from idaa_transforms.sample import cifar10_sample

DEVICE = "cpu"
EPOCHS = 4
ALPHA = 1.0  # weight of the adversarial term; the paper's


class TwoViews(Dataset):
    """Two random augmentations of each image."""

    def __init__(self) -> None:
        self.images = cifar10_sample()[0]
        jitter = v2.RandomApply([v2.ColorJitter(0.8, 0.8, 0.8, 0.2)], p=0.8)
        crop = v2.RandomResizedCrop((32, 32), scale=(0.08, 1.0))
        self.random = v2.Compose([crop, v2.RandomHorizontalFlip(), jitter, v2.RandomGrayscale(0.2)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.random(self.images[i]), self.random(self.images[i])


def main(by: str = "grad") -> list[float]:
    """Train; return the mean loss of every epoch."""
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=64)
    model.maxpool = nn.Identity()  # for small images
    model.to(DEVICE)
    idaa = IDAATransform.from_pretrained("cifar10-vae-small").to(DEVICE)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    loader = DataLoader(TwoViews(), batch_size=32, shuffle=True, drop_last=True)

    losses = []
    for epoch in range(EPOCHS):
        total = 0.0
        for x1, x2 in loader:
            x1, x2 = x1.to(DEVICE).requires_grad_(), x2.to(DEVICE)
            z1, z2 = model(x1), model(x2)
            clean = nt_xent(z1, z2).mean()
            if by == "grad":  # the clean loss goes back to the images first, without the parameters' gradients
                (grad,) = torch.autograd.grad(clean, x1, retain_graph=True)
                hard = idaa(x1.detach(), grad=grad)
            else:
                hard = idaa(x1.detach(), loss_fn=objectives.simclr(model, z2))
            loss = clean + ALPHA * nt_xent(z1, model(hard)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() / len(loader)
        losses.append(total)
        print(f"epoch {epoch + 1}: loss {total:.3f}")
    return losses


if __name__ == "__main__":
    main(*sys.argv[1:])
