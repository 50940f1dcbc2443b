"""What a trained backbone knows: weighted kNN and a linear classifier, on frozen features of the last epoch.

    python examples/ssl/evaluate.py runs/ssl/simclr-idaa-cifar10-small-s0

Each on the backbone's features and on the embedding that the loss compares. train.py does this itself at the end.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightly.utils.benchmarking.knn import knn_predict
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from train import Model


@torch.no_grad()
def features(model: Model, images: Tensor, batch_size: int = 500) -> tuple[Tensor, Tensor]:
    """Features (N, width) and embeddings (N, D) of uint8 ``images``, in eval mode with the clean batch norms, last
    partial batch included."""
    model.eval()
    parts = [model.describe(batch) for batch in images.split(batch_size)]
    model.train()
    first, second = (torch.cat(part) for part in zip(*parts, strict=True))
    return first, second


def knn(memory: Tensor, labels: Tensor, queries: Tensor, answers: Tensor, k: int = 200, sigma: float = 0.1) -> float:
    """Share of ``queries`` (M, D) whose ``k`` nearest rows of ``memory`` (N, D) by cosine vote for their label, each
    with weight exp(cosine / sigma) (Wu et al., CVPR 2018)."""
    memory, classes = F.normalize(memory, dim=1).T, int(labels.max()) + 1
    k, right = min(k, len(labels)), 0
    for rows, truth in zip(F.normalize(queries, dim=1).split(500), answers.split(500), strict=True):
        right += (knn_predict(rows, memory, labels, classes, k, sigma)[:, 0] == truth).sum().item()
    return right / len(answers)


def linear(
    memory: Tensor, labels: Tensor, queries: Tensor, answers: Tensor, epochs: int = 100, batch_size: int = 256
) -> float:
    """Accuracy of a linear classifier on cached features: Adam with learning rate 3e-4, as in the paper, taken after
    the last epoch. The test set chooses nothing."""
    generator = torch.Generator().manual_seed(0)
    classifier = nn.Linear(memory.shape[1], int(labels.max()) + 1)
    nn.init.zeros_(classifier.weight)
    nn.init.zeros_(classifier.bias)
    classifier = classifier.to(memory.device)
    optimiser = torch.optim.Adam(classifier.parameters(), lr=3e-4)
    for _ in range(epochs):
        order = torch.randperm(len(memory), generator=generator).to(memory.device)
        for rows in order.split(batch_size):
            optimiser.zero_grad()
            F.cross_entropy(classifier(memory[rows]), labels[rows]).backward()
            optimiser.step()
    with torch.no_grad():
        return (classifier(queries).argmax(1) == answers).float().mean().item()


def evaluate(model: Model, data: Any, sigma: float) -> dict[str, float]:
    """kNN and linear accuracy, on backbone features and on the embedding."""
    metrics = {}
    train, test = features(model, data.train), features(model, data.test)
    for name, memory, queries in zip(("backbone", "embedding"), train, test, strict=True):
        metrics[f"knn_{name}"] = knn(memory, data.train_labels, queries, data.test_labels, sigma=sigma)
        metrics[f"linear_{name}"] = linear(memory, data.train_labels, queries, data.test_labels)
    return metrics


def main(folder: Path) -> dict[str, float]:
    """Evaluate the checkpoint of a run's folder; print the metrics."""
    from train import Config, Model, load_data

    saved = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    config = Config(**saved["config"])
    data = load_data(config)
    model = Model(config, data.test.shape[2]).to(config.device)
    model.load_state_dict(saved["model"])
    metrics = evaluate(model, data, config.sigma)
    print(json.dumps(metrics, indent=1))
    return metrics


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
