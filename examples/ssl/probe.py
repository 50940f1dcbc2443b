"""Linear evaluation of a backbone on pictures that stream: a classifier of frozen features, at the size of training.

    python examples/ssl/evaluate.py runs/ssl/NAME

As in SimCLR (Chen et al., ICML 2020, appendix B.6): SGD with Nesterov momentum, 90 epochs, batches of 4096, a learning
rate of .1 for each 256 images that falls as a cosine, random crops and flips, no weight decay. The last epoch counts.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from config import PLACE, Config
from crops import Cropped, load, middle
from network import Model
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torchvision.transforms import v2
from tqdm import tqdm

from examples.shared.parallel import average_gradients
from examples.shared.runs import now, resume, save, since
from idaa_transforms.training.pictures import Pictures


@torch.no_grad()
def features(model: Model, crops: Tensor) -> Tensor:
    """Of uint8 crops (b, 3, H, W), (b, width)."""
    return model.encode(model.normalise(crops.to(model.config.device, non_blocking=True).float() / 255))


def probe(
    config: Config, model: Model, learning: Pictures, testing: Pictures, folder: Path, rank: int = 0, world: int = 1
) -> dict[str, float]:
    """Top-1 and top-5 accuracy on ``testing`` of a linear classifier trained on ``learning``.

    It goes on where it was interrupted, from linear.pt in the ``folder`` of the run, after each epoch.
    """
    model.eval()
    size = max(world, min(config.probe_batch, len(learning)) // world * world)
    steps, classes = len(learning) // size, int(learning.labels.max()) + 1
    classifier = nn.Linear(model.backbone.num_features, classes).to(config.device)
    nn.init.zeros_(classifier.weight)
    nn.init.zeros_(classifier.bias)
    rate = config.probe_lr * size / 256
    crop = v2.Compose([v2.RandomResizedCrop(config.image_size, (0.08, 1.0), antialias=True), v2.RandomHorizontalFlip()])
    optimiser = torch.optim.SGD(classifier.parameters(), rate, momentum=0.9, nesterov=True)
    state = {"classifier": classifier, "optimiser": optimiser}
    first, spent = resume(folder / "linear.pt", config, state, (*PLACE, "data"))
    for epoch in tqdm(range(first, config.probe_epochs), desc="linear", initial=first, disable=rank > 0):
        started = now()
        dataset = Cropped(learning, crop, f"linear {config.seed} {epoch}")
        order = config.seed, epoch, 0
        for i, (crops, labels) in enumerate(load(dataset, size, config.workers, config.patience, rank, world, order)):
            progress = (epoch + i / steps) / config.probe_epochs
            optimiser.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * progress)) / 2
            optimiser.zero_grad()
            F.cross_entropy(classifier(features(model, crops)), labels.to(config.device)).backward()
            average_gradients(classifier.parameters())
            optimiser.step()
        spent = {name: value + since(started)[name] for name, value in spent.items()}
        if rank == 0:
            save(folder / "linear.pt", config, state, epoch + 1, spent)
        if world > 1:
            distributed.barrier()
    return accuracy(config, model, classifier, testing, rank, world)


@torch.no_grad()
def accuracy(
    config: Config, model: Model, classifier: nn.Module, testing: Pictures, rank: int = 0, world: int = 1
) -> dict[str, float]:
    """Of the middles of all pictures, each process taking its share."""
    dataset = Cropped(testing, middle(config.image_size))
    right = torch.zeros(3, device=config.device, dtype=torch.float64)
    for crops, labels in load(dataset, 250 * world, config.workers, config.patience, rank, world):
        best = classifier(features(model, crops)).topk(min(5, classifier.out_features)).indices
        found = best == labels.to(config.device)[:, None]
        right += torch.stack([found[:, 0].sum(), found.sum(), torch.tensor(len(labels), device=config.device)])
    if world > 1:
        distributed.all_reduce(right)
    top1, top5, many = right.tolist()
    return {"linear_top1": top1 / many, "linear_top5": top5 / many}
