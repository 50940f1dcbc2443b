"""examples/semi: FixMatch's parts against a few lines by hand, its runs, and what it says to bad input."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from examples.semi import augment, fixmatch, report, split
from examples.semi.config import PLACE, configure
from examples.semi.step import Batch, Model, make_attack, update
from examples.semi.train import batches, load_data, train
from idaa_transforms.sample import cifar10_sample

ROOT = Path(__file__).parents[1]


def run(out, *more):
    return train(configure(["--scale", "smoke", "--out", str(out), *map(str, more)]))


def checkpoint(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def test_labels_are_guessed_from_tau_on():
    logits = torch.tensor([[0.0, 4.0, 0.0], [0.0, 0.0, 2.0], [1.0, 0.0, 0.0]], requires_grad=True)
    confidence = [math.exp(4) / (math.exp(4) + 2), math.exp(2) / (math.exp(2) + 2), math.e / (math.e + 2)]
    assert confidence[0] > 0.95 > confidence[1] > 0.75 > confidence[2]
    guessed = fixmatch.guess(logits, 0.75)
    assert guessed.labels.tolist() == [1, 2, 0]
    assert guessed.sure.tolist() == [1, 1, 0]
    assert fixmatch.guess(logits, 0.95).sure.tolist() == [1, 0, 0]
    assert not guessed.sure.requires_grad


def test_the_loss_of_strong_views_by_hand():
    strong = torch.tensor([[1.0, 0.0, 0.0], [0.0, 3.0, 0.0], [5.0, 0.0, 0.0]], requires_grad=True)
    guessed = fixmatch.Guess(torch.tensor([1, 2, 0]), torch.tensor([1.0, 1.0, 0.0]))
    first = -math.log(1 / (math.e + 2))
    second = -math.log(1 / (math.exp(3) + 2))
    loss = fixmatch.strong_loss(strong, guessed)
    assert loss.item() == pytest.approx((first + second + 0) / 3)
    loss.backward()
    assert strong.grad[2].abs().max() == 0  # of what is not sure
    assert strong.grad[:2].abs().min() > 0


def test_the_contrastive_term_by_hand():
    generator = torch.Generator().manual_seed(0)
    views, weak = (torch.randn(3, 5, generator=generator, requires_grad=True) for _ in range(2))
    cosine = lambda a, b: (a @ b / (a.norm() * b.norm())).item()  # noqa: E731
    losses = []
    for i in range(3):
        scores = [math.exp(cosine(views[i], weak[j]) / 0.5) for j in range(3)]
        losses.append(-math.log(scores[i] / sum(scores)))
    loss = fixmatch.contrast(views, weak, torch.tensor([1.0, 0.0, 1.0]), 0.5)
    assert loss.item() == pytest.approx((losses[0] + losses[2]) / 3, rel=1e-5)
    loss.backward()
    assert weak.grad is None
    assert views.grad[1].abs().max() == 0


def test_the_average_by_hand():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    nn.init.ones_(model[0].weight)
    average = fixmatch.Average(model, 0.9)
    for value in (2.0, 3.0):
        nn.init.constant_(model[0].weight, value)
        model[1].running_mean.fill_(value)
        average.follow(model)
    assert average.model[0].weight.item() == pytest.approx(0.9 * (0.9 * 1 + 0.1 * 2) + 0.1 * 3)
    assert average.model[1].running_mean.item() == 3
    assert not average.model[0].weight.requires_grad


def test_the_learning_rate_falls_to_a_fifth():
    rates = [fixmatch.learning_rate(0.03, step, 8) / 0.03 for step in (0, 4, 8)]
    assert rates == pytest.approx([1, math.cos(7 * math.pi / 32), math.sin(math.pi / 16)])


def test_weak_views_are_images_moved_by_whole_pixels():
    x = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    views, found = augment.weak(x), set()
    padded = F.pad(x, [2] * 4, mode="reflect")
    for image, view in zip(padded, views, strict=True):
        places = [(d, r, f) for d in range(5) for r in range(5) for f in (False, True)]
        crop = lambda d, r, f: image[:, d : d + 16, r : r + 16].flip(2) if f else image[:, d : d + 16, r : r + 16]  # noqa: B023, E731
        match = [place for place in places if torch.equal(crop(*place), view)]
        assert len(match) == 1
        found.update(match)
    assert len(found) > 30


@pytest.mark.parametrize(("index", "name"), enumerate(("brightness", "saturation", "contrast", "sharpness"), 3))
def test_operations_are_torchvisions(index, name):
    x = cifar10_sample()[0][:8]
    ours = augment.OPERATIONS[index][0](x, torch.full((8,), 0.4))
    theirs = getattr(augment.v2.functional, f"adjust_{name}")(x, 0.4)
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)


def test_posterize_solarize_and_moves_by_hand():
    x = torch.tensor([0.0, 100.0, 200.0, 255.0]).view(1, 1, 1, 4) / 255
    assert (augment.OPERATIONS[7][0](x, torch.tensor([4.0])) * 255).flatten().tolist() == pytest.approx(
        [0, 96, 192, 240]
    )
    assert (augment.OPERATIONS[8][0](x, torch.tensor([0.5])) * 255).flatten().tolist() == pytest.approx([0, 100, 55, 0])
    moved = augment.OPERATIONS[12][0](x, torch.tensor([0.25]))  # by a quarter of the width
    assert (moved * 255).flatten().tolist() == pytest.approx([100, 200, 255, 0], abs=1e-3)
    turned = augment.OPERATIONS[9][0](torch.eye(4).view(1, 1, 4, 4), torch.tensor([math.pi / 2]))
    torch.testing.assert_close(turned[0, 0], torch.eye(4).flip(0), atol=1e-5, rtol=0)


def test_a_split_is_balanced_and_comes_back_by_its_seed(tmp_path):
    labels = torch.arange(60) % 3
    rows = split.draw(labels, 12, seed=1)
    assert labels[rows].bincount().tolist() == [4, 4, 4]
    assert len(set(rows)) == 12
    assert split.draw(labels, 12, seed=1) == rows != split.draw(labels, 12, seed=2)
    split.save(tmp_path / "split.json", rows, 1)
    assert split.load(tmp_path / "split.json", labels) == rows


@pytest.mark.slow
def test_one_batch_is_learned():
    """The same images again and again: every loss falls, the view's too."""
    config = configure(["--scale", "smoke", "--view", "idaa-grad", "--lr", "0.05"])
    data = load_data(config)
    torch.manual_seed(0)
    model = Model(config, 10, 32)
    attack = make_attack(config, model)
    optimiser = torch.optim.SGD(model.parameters(), config.lr, momentum=0.9, nesterov=True)
    rows = torch.tensor(split.draw(data.train_labels, 20, 0))
    x, y = data.train[rows].float() / 255, data.train_labels[rows]
    losses = torch.stack([update(model, attack, optimiser, Batch(x, y, x, y), slice(None)) for _ in range(25)])
    first, last = losses[:5].mean(0), losses[-5:].mean(0)
    assert last[0] < first[0] - 0.1
    assert last[2] < first[2] - 0.02
    assert attack.stats()["attacked"] == 25 * 20


def test_batches_have_every_image_equally_often():
    config = configure(["--scale", "smoke"])
    data = load_data(config)
    rows = torch.tensor(split.draw(data.train_labels, 20, 0))
    drawn = list(batches(config, data, rows, 6, torch.Generator().manual_seed(0)))
    assert [len(part) for part in drawn[0]] == [8, 8, 16, 16]
    seen = torch.cat([batch.unlabelled for batch in drawn])  # 6 x 16: each of the 48 images twice
    assert all((seen == image.float() / 255).flatten(1).all(1).sum() == 2 for image in data.train)
    labels = torch.cat([batch.labels for batch in drawn]).bincount()
    assert labels.sum() == 48
    assert labels.min() >= 4  # twice each image, and 8 of the 20 once more


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_same_weights(tmp_path):
    whole = run(tmp_path / "whole", "--view", "idaa-grad")
    assert run(tmp_path / "parts", "--view", "idaa-grad", "--stop-after", 1) == {}
    torch.manual_seed(99)  # a new process starts elsewhere
    parts = run(tmp_path / "parts", "--view", "idaa-grad")
    one, two = (checkpoint(tmp_path / name) for name in ("whole", "parts"))
    for part in ("model", "ema"):
        assert all(torch.equal(value, two[part][key]) for key, value in one[part].items())
    assert parts["metrics"] == whole["metrics"]
    assert [row["epoch"] for row in parts["log"]] == [1, 2]
    assert not set(PLACE) & whole["config"].keys()
    assert len(json.loads((tmp_path / "whole" / "split.json").read_text())["rows"]) == 20


def fake(view, seed, accuracy, **config):
    """A result file's content. Numbers are made up to test the table's arithmetic, and nothing else."""
    told = vars(configure(["--view", view, "--seed", str(seed)])) | config
    told = {name: value for name, value in told.items() if name not in PLACE}
    metrics = {"accuracy": accuracy, "accuracy_without_average": accuracy - 0.1}
    origin = {"machine": "a GPU", "commit": "abc1234", "date": "2026-01-01"}
    return {"run": origin, "config": told, "metrics": metrics, "log": [{"sure": 0.5, "right": 0.75}], "hours": 2.0}


def test_the_table_has_gains_over_the_control_and_the_reported_numbers(tmp_path):
    runs = [fake("third", 0, 0.40), fake("third", 1, 0.42), fake("idaa", 0, 0.43), fake("idaa", 1, 0.46)]
    runs += [fake("idaa", 0, 0.5, backbone="wrn-28-2")]
    for i, one in enumerate(runs):
        (tmp_path / f"{i}.json").write_text(json.dumps(one))
    report.write(tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert "| idaa |  | 0 1 | 44.5 ± 2.1 | 34.5 ± 2.1 | +3.5 ± 0.7 | 50.0 ± 0.0 | 75.0 ± 0.0 | 7200 |" in text
    assert "| `idaa` | 52.88 | 44.5 ± 2.1 | 50.0 | 68.96 | not run |" in text
