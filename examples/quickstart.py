"""SimCLR with a third, adversarial view: kornia's random augmentation, a timm backbone, IDAA.

    python examples/quickstart.py

Runs in under a minute on a CPU, on the 64 CIFAR-10 images that come with the package. Put your own loader in their
place, and "cuda" below.
"""

import kornia.augmentation as K
import timm
import torch
from torch import nn

from idaa_transforms import IDAATransform
from idaa_transforms.losses import nt_xent
from idaa_transforms.sample import cifar10_sample

DEVICE = "cpu"
STEPS = 20
ALPHA = 1.0  # weight of the adversarial term; the paper's


class Model(nn.Module):
    """A backbone for 32x32 images and SimCLR's projection head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = timm.create_model("resnet10t", num_classes=0)
        self.backbone.maxpool = nn.Identity()
        width = self.backbone.num_features
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 3, 32, 32) in [0, 1] to embeddings (B, 64)."""
        return self.head(self.backbone(x))


def main() -> list[float]:
    """Train; return the loss of every step."""
    torch.manual_seed(0)
    model = Model().to(DEVICE)
    random = nn.Sequential(
        K.RandomResizedCrop((32, 32), scale=(0.08, 1.0)),
        K.RandomHorizontalFlip(),
        K.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        K.RandomGrayscale(p=0.2),
    )
    idaa = IDAATransform.from_pretrained("cifar10-vae").to(DEVICE)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    x = cifar10_sample()[0].to(DEVICE)

    losses = []
    for step in range(STEPS):
        x1, x2 = random(x), random(x)
        z1, z2 = model(x1), model(x2)
        hard = idaa(x1, loss_fn=lambda views, anchor=z2: nt_xent(model(views), anchor.detach()))
        loss = nt_xent(z1, z2).mean() + ALPHA * nt_xent(z1, model(hard)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        print(f"step {step + 1:2}: loss {losses[-1]:.3f}")
    return losses


if __name__ == "__main__":
    main()
