"""What a trained backbone knows: weighted kNN and a linear classifier, on frozen features of the last epoch.

    python examples/ssl/evaluate.py runs/ssl/simclr-idaa-cifar10-small-s0

Both on the backbone's features and on the embedding that the loss compares. train.py does the same at its end. No
choice is made on the test set. Of pictures that stream there is the linear classifier of probe.py alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from config import Config
from lightly.utils.benchmarking.knn import knn_predict
from network import Model
from probe import evaluate_stream
from torch import Tensor, nn
from torch.nn import functional as F

from idaa_transforms.training.images import Images


@torch.no_grad()
def features(model: Model, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features (N, width) and embeddings (N, D) of all ``images``, by the clean batch norms in eval mode."""
    model.eval()
    scale = 1 if images.is_floating_point() else 255  # signals have their own units
    encoded = torch.cat([model.encode(model.normalise(batch.float() / scale)) for batch in images.split(500)])
    return encoded, torch.cat([model.method.embed(rows) for rows in encoded.split(500)])


def knn(memory: Tensor, labels: Tensor, queries: Tensor, answers: Tensor, k: int = 200, sigma: float = 0.1) -> float:
    """Share of ``queries`` (M, D) whose ``k`` nearest rows of ``memory`` (N, D) by cosine vote for their label, each
    with the weight exp(cosine / sigma) (Wu et al., CVPR 2018)."""
    memory, classes = F.normalize(memory, dim=1).T, int(labels.max()) + 1
    k, right = min(k, len(labels)), 0
    for rows, truth in zip(F.normalize(queries, dim=1).split(500), answers.split(500), strict=True):
        right += (knn_predict(rows, memory, labels, classes, k, sigma)[:, 0] == truth).sum().item()
    return right / len(answers)


def linear(
    memory: Tensor, labels: Tensor, queries: Tensor, answers: Tensor, epochs: int = 100, batch_size: int = 256
) -> float:
    """Accuracy on ``queries`` of a linear classifier of the cached features ``memory``: Adam with learning rate 3e-4,
    as in the paper, after the last epoch."""
    generator = torch.Generator().manual_seed(0)
    classifier = nn.Linear(memory.shape[1], int(labels.max()) + 1, device=memory.device)
    nn.init.zeros_(classifier.weight)
    nn.init.zeros_(classifier.bias)
    optimiser = torch.optim.Adam(classifier.parameters(), lr=3e-4)
    for _ in range(epochs):
        for rows in torch.randperm(len(memory), generator=generator).to(memory.device).split(batch_size):
            optimiser.zero_grad()
            F.cross_entropy(classifier(memory[rows]), labels[rows]).backward()
            optimiser.step()
    with torch.no_grad():
        return (classifier(queries).argmax(1) == answers).float().mean().item()


def monitor(model: Model, data: Images, sigma: float) -> float:
    """kNN accuracy on backbone features, for the log of a training run."""
    memory, queries = features(model, data.train)[0], features(model, data.test)[0]
    return knn(memory, data.train_labels, queries, data.test_labels, sigma=sigma)


def evaluate(model: Model, data: Images, sigma: float) -> dict[str, float]:
    """kNN and linear accuracy, on backbone features and on the embedding."""
    metrics = {}
    pairs = zip(features(model, data.train), features(model, data.test), strict=True)
    for name, (memory, queries) in zip(("backbone", "embedding"), pairs, strict=True):
        metrics[f"knn_{name}"] = knn(memory, data.train_labels, queries, data.test_labels, sigma=sigma)
        metrics[f"linear_{name}"] = linear(memory, data.train_labels, queries, data.test_labels)
    return metrics


def main(folder: Path) -> dict[str, float]:
    """Evaluate the checkpoint in the folder of a run; print the metrics."""
    from train import load_data, make_model

    saved = torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)
    config = Config(**saved["config"])
    data = None if config.stream else load_data(config)
    model = make_model(config, data.train if data else None)
    model.load_state_dict(saved["model"])
    metrics = evaluate(model, data, config.sigma) if data else evaluate_stream(config, model, folder)
    print(json.dumps(metrics, indent=1))
    return metrics


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
