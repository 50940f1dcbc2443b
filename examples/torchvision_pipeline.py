"""torchvision v2: CutMix, then hard views of the mixed images, in the collate function and as a batch transform.

python examples/torchvision_pipeline.py
"""

import timm
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, default_collate
from torchvision.transforms import v2

from idaa_transforms import IDAATransform, objectives
from idaa_transforms.sample import cifar10_sample

DEVICE = "cpu"
EPOCHS = 4
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def main() -> list[float]:
    """Train a classifier; return the mean loss of every epoch."""
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=10)
    model.maxpool = nn.Identity()  # for small images
    model.to(DEVICE)
    # It stands after Normalize.
    idaa = IDAATransform.from_pretrained("cifar10-vae-small", mean=MEAN, std=STD).to(DEVICE)
    pipeline = v2.Compose(
        [v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD), idaa]
    )
    cutmix = v2.CutMix(num_classes=10)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)

    images, labels = cifar10_sample()
    dataset = TensorDataset((255 * images).byte(), labels)
    # CutMix in the collate function runs in the workers; the attack needs the model and stays in this process.
    loader = DataLoader(dataset, 32, shuffle=True, collate_fn=lambda batch: cutmix(*default_collate(batch)))

    losses = []
    for epoch in range(EPOCHS):
        total = 0.0
        for x, y in loader:
            x, y = x.to(DEVICE), y.to(DEVICE)  # y: (B, 10), mixed labels
            with idaa.bound(objectives.supervised(model, y)):
                views, y = pipeline(x, y)
            loss = nn.functional.cross_entropy(model(views), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += loss.item() / len(loader)
        losses.append(total)
        print(f"epoch {epoch + 1}: loss {total:.3f}")
    return losses


if __name__ == "__main__":
    main()
