"""examples/transfer against scikit-learn called directly, on toys with a known answer; and the backbones it takes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torchvision import datasets

from examples.semi.config import configure as configure_semi
from examples.semi.train import train as train_semi
from examples.shared.backbones import build_backbone, load_backbone
from examples.transfer import evaluate, probe, report, sets
from idaa_transforms.batchnorm import convert_dual_batchnorm
from idaa_transforms.sample import cifar10_sample

ROOT = Path(__file__).parents[1]


def save_toy(file, count=60, size=32):
    """Images of three plain colours, a little noisy: a set that any network's features tell apart."""
    generator = np.random.default_rng(0)
    y = np.arange(count) % 3
    x = np.eye(3)[y][:, None, None] * 200 + generator.integers(0, 50, (count, size, size, 3))
    part = count * 2 // 3
    np.savez(file, x_train=x[:part].astype("uint8"), y_train=y[:part], x_test=x[part:].astype("uint8"), y_test=y[part:])


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A folder with a set, and a short run of examples/semi to transfer from."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    save_toy(tmp_path / "data" / "toy.npz")
    train_semi(configure_semi(["--scale", "smoke", "--view", "third", "--out", "backbone"]))
    return tmp_path


def blobs(count, seed, spread):
    """Features (N, 4) of three classes."""
    generator = np.random.default_rng(seed)
    y = np.arange(count) % 3
    centres = np.array([[3.0, 0, 0, 0], [0, 3, 0, 0], [0, 0, 3, 0]])
    return centres[y] + spread * generator.normal(size=(count, 4)), y


def test_the_c_that_is_chosen_and_its_score_are_scikit_learns():
    learn, validate, test = (blobs(count, seed, 2.5) for count, seed in ((60, 0), (90, 1), (300, 2)))
    candidates = 10.0 ** np.array([-6, -3.25, -0.5, 2.25, 5])
    scores = [LogisticRegression(C=c, max_iter=1000).fit(*learn).score(*validate) for c in candidates]
    best = candidates[int(np.argmax(scores))]
    both = [np.concatenate(pair) for pair in zip(learn, validate, strict=True)]
    expected = LogisticRegression(C=best, max_iter=1000).fit(*both).score(*test)
    found = probe.transfer(learn, validate, test, values=5)
    assert len(set(scores)) > 2  # the choice matters
    assert found == (pytest.approx(expected), pytest.approx(best), pytest.approx(max(scores)))


def test_accuracy_of_images_and_of_classes():
    truth, guess = np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 1, 0])
    assert probe.accuracy(truth, guess, per_class=False) == pytest.approx(4 / 6)
    assert probe.accuracy(truth, guess, per_class=True) == pytest.approx((3 / 4 + 1 / 2) / 2)


def test_validation_images_are_held_out_of_training_ones():
    learn, validate = sets.held_out(102)
    assert sorted([*learn.tolist(), *validate.tolist()]) == list(range(102))
    assert len(validate) == 21
    assert validate.tolist() != sorted(validate.tolist())  # a random order: sets are often sorted by class


@pytest.mark.parametrize("name", ["wrn-10-1", "resnet10t"])
def test_a_backbone_is_loaded_with_its_clean_batch_norms(name, tmp_path):
    torch.manual_seed(0)
    small = name == "resnet10t"
    options = {"channels": [8, 8, 8, 8], "stem_width": 4} if small else {"channels": 4}
    network = build_backbone(name, options, small=True, maxpool=True)
    x = cifar10_sample()[0][:8]
    convert_dual_batchnorm(network)
    network(x)  # statistics of its own
    state = {f"backbone.{key}": value for key, value in network.state_dict().items()} | {"head.bias": torch.zeros(1)}
    config = {"backbone": name, "backbone_options": options, "data": "cifar10", "maxpool": True}
    torch.save({"model": state, "config": config}, tmp_path / "checkpoint.pt")
    for source in (tmp_path, tmp_path / "checkpoint.pt"):
        found = load_backbone(str(source))
        torch.testing.assert_close(found.network(x), network.eval()(x))
        assert found.mean == pytest.approx((0.4914, 0.4822, 0.4465))
        assert found.name == tmp_path.name


def test_of_a_run_of_fixmatch_the_average_is_loaded(toy):
    saved = torch.load(toy / "backbone" / "checkpoint.pt", weights_only=True)
    stem = load_backbone("backbone").network.conv1.weight
    assert torch.equal(stem, saved["ema"]["backbone.conv1.weight"])
    assert not torch.equal(stem, saved["model"]["backbone.conv1.weight"])


@pytest.fixture
def fake_pets(tmp_path, monkeypatch):
    """torchvision's sets are downloads: here are pictures in their place, behind the same interface."""

    class Pets:
        def __init__(self, root, split, transform, download):
            if split not in ("trainval", "test"):
                raise AssertionError(split)
            count = 6 if split == "trainval" else 4
            self.pictures = [Image.new("L" if i == 0 else "RGB", (20, 40), 40 * i) for i in range(count)]
            self._labels, self.transform = [i % 2 for i in range(count)], transform

        def __len__(self):
            return len(self.pictures)

        def __getitem__(self, i):
            return self.transform(self.pictures[i]), self._labels[i]

    monkeypatch.setattr(datasets, "OxfordIIITPet", Pets)


def test_torchvisions_sets_are_scaled_and_read_in_order(fake_pets, tmp_path):
    parts = sets.load("pets", tmp_path, 16, 0)
    (x,) = parts.train.batches()
    assert x.shape == (6, 3, 16, 16)
    assert x[:, 0, 8, 8].tolist() == pytest.approx([0] + [40 * i / 255 for i in range(1, 6)])
    assert parts.val is None
    assert parts.test.labels.tolist() == [0, 1, 0, 1]


def test_a_toy_is_transferred_to_and_not_again(toy, monkeypatch, capsys):
    config = evaluate.configure(["--backbone", "backbone", "--sets", "toy", "--scale", "smoke"])
    result = evaluate.evaluate(config)
    assert result["sets"]["toy"]["score"] == 1
    assert [result["sets"]["toy"][part] for part in ("train", "validation", "test")] == [32, 8, 20]
    assert result["backbone"]["view"] == "third"
    assert capsys.readouterr().out == "toy: 100.00 (top-1)\n"
    monkeypatch.setattr(evaluate, "on_one_set", None)  # it is not called again
    assert evaluate.evaluate(config)["sets"] == result["sets"]
    with pytest.raises(ValueError, match="backbone-smoke has results of other settings; use another --out"):
        evaluate.evaluate(evaluate.configure(["--backbone", "backbone", "--out", config.out]))


def test_the_table_has_gains_over_the_control(tmp_path):
    """Numbers are made up to test the table's arithmetic, and nothing else."""
    origin = {"machine": "a CPU, no GPU", "commit": "abc1234", "date": "2026-01-01"}
    scores = {("third", 0): (0.4, 0.6), ("third", 1): (0.5, 0.5), ("idaa", 0): (0.5, 0.6), ("idaa", 1): (0.6, 0.6)}
    for i, ((view, seed), (one, two)) in enumerate(scores.items()):
        about = {"name": f"{i}", "view": view, "seed": seed, "data": "cifar10", "method": "simclr", "eps": 0.1}
        measured = {"a": one, "b": two}
        parts = {name: {"score": s, "train": 30, "validation": 10} for name, s in measured.items()}
        run = {"run": origin, "config": {"scale": "small"}, "backbone": about, "sets": parts}
        (tmp_path / f"{i}.json").write_text(json.dumps(run))
    report.write(tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert "| a (40 images) | b (40 images) |" in text
    assert "| third | 0 1 | 45.0 ± 7.1 | 55.0 ± 7.1 | 50.0 ± 0.0 | - |" in text
    assert "| idaa, eps 0.1 | 0 1 | 55.0 ± 7.1 | 60.0 ± 0.0 | 57.5 ± 3.5 | +7.5 ± 3.5 |" in text
