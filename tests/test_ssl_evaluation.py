"""kNN and linear evaluation of examples/ssl against scikit-learn, on features of real images."""

import math

import numpy as np
import pytest
import torch
from config import configure
from evaluate import evaluate, features, knn, linear, on_clean_images
from network import Model
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler
from torch import nn
from train import load_data

from idaa_transforms.sample import cifar10_sample
from idaa_transforms.training.images import Images

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rows():
    """Pixels of 64 images and of noisy copies: features with something to find. Memory, labels, queries, answers."""
    x, y = cifar10_sample((8, 8))
    memory = torch.cat([x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(i)) for i in range(9)])
    queries = torch.cat(
        [x + 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(i)) for i in range(20, 28)]
    )
    return memory.flatten(1) - 0.5, y.repeat(9), queries.flatten(1) - 0.5, y.repeat(8)


@pytest.mark.parametrize(("k", "sigma"), [(1, 0.1), (20, 0.1), (200, 0.5)])
def test_knn_is_scikit_learns(rows, k, sigma):
    """576 rows of memory: more than one batch of 500, the last one partial."""
    memory, labels, queries, answers = rows
    weights = lambda distances: np.exp((1 - distances) / sigma)  # noqa: E731
    theirs = KNeighborsClassifier(k, metric="cosine", weights=weights).fit(memory.numpy(), labels.numpy())
    predicted = torch.from_numpy(theirs.predict(queries.numpy()))
    assert knn(memory, labels, queries, predicted, k, sigma) == 1.0
    assert knn(memory, labels, queries, answers, k, sigma) == pytest.approx(
        theirs.score(queries.numpy(), answers.numpy())
    )


def test_knn_with_a_memory_smaller_than_k(rows):
    memory, labels, queries, answers = rows
    everything = knn(memory[:50], labels[:50], queries, answers, 50)
    assert knn(memory[:50], labels[:50], queries, answers, 200) == everything


def test_linear_is_scikit_learns(rows):
    """Three labels that eight of the features separate in part. There is one optimum, and both get there."""
    memory, labels, queries, answers = rows
    memory, queries, labels, answers = 100 * memory[:, ::24], 100 * queries[:, ::24], labels % 3, answers % 3
    scaler = StandardScaler().fit(memory.numpy())
    theirs = LogisticRegression(C=math.inf, max_iter=1000).fit(scaler.transform(memory.numpy()), labels.numpy())
    score = theirs.score(scaler.transform(queries.numpy()), answers.numpy())
    assert linear(memory, labels, queries, answers, epochs=800, batch_size=64) == pytest.approx(score, abs=0.03)
    assert 0.4 < score < 0.9


def test_features_of_all_images_by_the_clean_statistics():
    model = Model(configure(["--scale", "smoke"]), 32).train()
    images = (cifar10_sample()[0] * 255).byte().repeat(9, 1, 1, 1)[:517]
    found, embedded = features(model, images)
    model.eval()
    for name, module in model.named_modules():
        if name.endswith("adversarial"):
            nn.init.constant_(module.weight, 7.0)
    with torch.no_grad():
        expected = model.encode(model.normalise(images[-20:] / 255))
        torch.testing.assert_close(found[-20:], expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(embedded[-20:], model.method.projector(expected), rtol=1e-4, atol=1e-5)
    assert len(found) == len(embedded) == 517


def test_batch_norms_take_the_statistics_of_clean_images():
    """Those of all images at once, whatever the model saw before; the model itself stays as it is."""
    model = Model(configure(["--scale", "smoke", "--view", "third"]), 32).train()
    images = (cifar10_sample()[0] * 255).byte()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = on_clean_images(model, images)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    first = next(module for module in found.modules() if isinstance(module, nn.BatchNorm2d))
    with torch.no_grad():
        seen = model.backbone.conv1(model.normalise(images / 255))
    torch.testing.assert_close(first.running_mean, seen.mean((0, 2, 3)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(first.running_var, seen.transpose(0, 1).flatten(1).var(1), rtol=1e-4, atol=1e-4)


def test_evaluate_measures_both_spaces():
    config = configure(["--scale", "smoke"])
    data: Images = load_data(config)
    metrics = evaluate(Model(config, 32), data._replace(test=data.train, test_labels=data.train_labels), 0.1)
    assert set(metrics) == {f"{way}_{where}" for way in ("knn", "linear") for where in ("backbone", "embedding")}
    assert metrics["linear_backbone"] > 0.15  # of images it was trained on, with ten classes
