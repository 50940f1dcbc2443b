"""What a trained backbone knows: weighted kNN and a linear classifier, on frozen features of the last epoch.

    python examples/ssl/evaluate.py runs/ssl/simclr-idaa-cifar10-small-s0

Both on the backbone's features and on the embedding that the loss compares. train.py does the same at its end. No
choice is made on the test set. Of pictures that stream there is the linear classifier of probe.py alone.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from config import Config
from crops import labelled_pictures
from lightly.utils.benchmarking.knn import knn_predict
from network import Model
from probe import probe
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn

from idaa_transforms.training.images import Images


@torch.no_grad()
def features(model: Model, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features (N, width) and embeddings (N, D) of all ``images``, by the clean batch norms in eval mode."""
    model.eval()
    encoded = torch.cat([model.encode(batch) for batch in normalised(model, images)])
    return encoded, torch.cat([model.method.embed(rows) for rows in encoded.split(500)])


def normalised(model: Model, images: Tensor, size: int = 500) -> Iterator[Tensor]:
    """Batches of what the network takes, of uint8 images or of signals, which have units of their own."""
    scale = 1 if images.is_floating_point() else 255
    return (model.normalise(batch.float() / scale) for batch in images.split(size))


@torch.no_grad()
def on_clean_images(model: Model, images: Tensor) -> Model:
    """A copy whose batch norms have the statistics of ``images`` without augmentation, whatever views it was trained
    on."""
    model = copy.deepcopy(model)
    whole = (batch for batch in normalised(model, images) if len(batch) > 1)
    update_bn(whole, Embedding(model))
    return model


class Embedding(nn.Module):
    """All of a model that the embedding of an image goes through."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (b, C, H, W) to embeddings (b, D)."""
        return self.model.method.embed(self.model.encode(x))


def knn(memory: Tensor, labels: Tensor, queries: Tensor, answers: Tensor, k: int = 200, sigma: float = 0.1) -> float:
    """Share of ``queries`` (M, D) whose ``k`` nearest rows of ``memory`` (N, D) by cosine vote for their label, each
    with the weight exp(cosine / sigma) (Wu et al., CVPR 2018)."""
    memory, classes, right = F.normalize(memory, dim=1).T, int(labels.max()) + 1, 0
    k = min(k, len(labels))
    for rows, truth in zip(F.normalize(queries, dim=1).split(500), answers.split(500), strict=True):
        right += (knn_predict(rows, memory, labels, classes, k, sigma)[:, 0] == truth).sum()
    return int(right) / len(answers)


def linear(
    memory: Tensor, labels: Tensor, queries: Tensor, answers: Tensor, epochs: int = 100, batch_size: int = 256
) -> float:
    """Accuracy on ``queries`` of a linear classifier of the cached features ``memory``, both standardised by the mean
    and standard deviation of ``memory``: Adam with learning rate 3e-4, as in the paper, after the last epoch."""
    generator = torch.Generator().manual_seed(0)
    deviation, mean = torch.std_mean(memory, 0)
    memory, queries = ((rows - mean) / deviation.clamp(min=1e-6) for rows in (memory, queries))
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


def evaluate(model: Model, data: Images, sigma: float) -> dict[str, float]:
    """kNN and linear accuracy, on backbone features and on the embedding, with batch norm statistics of the training
    images."""
    metrics, model = {}, on_clean_images(model, data.train)
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
    if data:
        metrics = evaluate(model, data, config.sigma)
    else:
        parts = labelled_pictures(config.data, config.root, config.train_images, config.test_images)
        metrics = probe(config, model, *parts, folder)
    print(json.dumps(metrics, indent=1))
    return metrics


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
