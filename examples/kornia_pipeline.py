"""A kornia pipeline with IDAA in it: images and masks together, on the device, and the same views again.

python examples/kornia_pipeline.py
"""

import kornia.augmentation as K
import timm
import torch
from torch import nn

from idaa_transforms import objectives
from idaa_transforms.kornia import RandomIDAA
from idaa_transforms.losses import nt_xent
from idaa_transforms.sample import cifar10_sample

DEVICE = "cpu"
STEPS = 8


def main() -> list[float]:
    """Train; return the loss of every step."""
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=64)
    model.maxpool = nn.Identity()  # for small images
    model.to(DEVICE)
    hard = RandomIDAA.from_pretrained("cifar10-vae-small", p=0.8)
    pipeline = K.AugmentationSequential(
        K.RandomResizedCrop((32, 32), scale=(0.2, 1.0)),
        K.RandomHorizontalFlip(),
        K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
        hard,  # after the random ones, so that nothing random stands between the attack and the model
        data_keys=["input", "mask"],
    ).to(DEVICE)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    x = cifar10_sample()[0][:32].to(DEVICE)
    masks = (x.mean(1, keepdim=True) > 0.5).float()  # in place of a segmentation

    losses = []
    for step in range(STEPS):
        z = model(x)
        with hard.bound(objectives.simclr(model, z)):
            views, moved_masks = pipeline(x, masks)
        loss = nt_xent(z, model(views)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        print(f"step {step + 1:2}: loss {losses[-1]:.3f}, {moved_masks.mean():.2f} of the masks are set")

    again, _ = pipeline(x, masks, params=pipeline._params)  # replay: neither the closure nor the VAE is needed
    assert torch.equal(again, views)
    return losses


if __name__ == "__main__":
    main()
