"""SimSiam with lightly's parts: the hard view pairs with the image that it was made of, through the predictor.

python examples/lightly_simsiam.py
"""

import kornia.augmentation as K
import timm
import torch
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules import SimSiamPredictionHead, SimSiamProjectionHead
from torch import nn

from idaa_transforms import IDAATransform, objectives
from idaa_transforms.util.sample import cifar10_sample

DEVICE = "cpu"
STEPS = 8


def main() -> list[float]:
    """Train; return the loss of every step."""
    torch.manual_seed(0)
    backbone = timm.create_model("resnet10t", num_classes=0)
    backbone.maxpool = nn.Identity()  # for small images
    model = nn.Sequential(backbone, SimSiamProjectionHead(512, 256, 128)).to(DEVICE)
    predictor = SimSiamPredictionHead(128, 64, 128).to(DEVICE)
    random = nn.Sequential(
        K.RandomResizedCrop((32, 32), scale=(0.2, 1.0)), K.RandomHorizontalFlip(), K.ColorJitter(0.4, 0.4)
    )
    idaa = IDAATransform.from_pretrained("cifar10-vae").to(DEVICE)
    criterion = NegativeCosineSimilarity()
    optimiser = torch.optim.SGD([*model.parameters(), *predictor.parameters()], lr=0.06, momentum=0.9)
    x = cifar10_sample()[0][:32].to(DEVICE)

    def both_ways(z: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return (criterion(predictor(z), other.detach()) + criterion(predictor(other), z.detach())) / 2

    losses = []
    for step in range(STEPS):
        x1, x2 = random(x), random(x)
        z1, z2 = model(x1), model(x2)
        hard = idaa(x1, loss_fn=objectives.simsiam(model, predictor, z1))
        loss = both_ways(z1, z2) + both_ways(z1, model(hard))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        print(f"step {step + 1:2}: loss {losses[-1]:.3f}")
    return losses


if __name__ == "__main__":
    main()
