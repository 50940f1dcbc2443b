"""examples/semi: FixMatch's parts against a few lines by hand, its runs, and what it says to bad input."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from examples.semi import augment, fixmatch, report, run_table, split
from examples.semi.config import PLACE, configure
from examples.semi.step import Batch, Model, make_attack, update
from examples.semi.train import batches, load_data, train
from idaa_transforms.sample import cifar10_sample

ROOT = Path(__file__).parents[1]


def run(out, *more):
    return train(configure(["--scale", "smoke", "--out", str(out), *map(str, more)]))


def checkpoint(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)


# Parts ---------------------------------------------------------------------------------------------------------------


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


# Random views --------------------------------------------------------------------------------------------------------


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


OF_TORCHVISION = {  # index in OPERATIONS: torchvision's function, the amount here, the amount there
    3: ("adjust_brightness", 0.4, 0.4),
    4: ("adjust_saturation", 0.4, 0.4),
    5: ("adjust_contrast", 0.4, 0.4),
    6: ("adjust_sharpness", 0.4, 0.4),
}


@pytest.mark.parametrize("index", OF_TORCHVISION)
def test_operations_are_torchvisions(index):
    name, here, there = OF_TORCHVISION[index]
    x = cifar10_sample()[0][:8]
    ours = augment.OPERATIONS[index][0](x, torch.full((8,), here))
    theirs = getattr(augment.v2.functional, name)(x, there)
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


def test_strong_views_differ_from_image_to_image():
    x = cifar10_sample()[0][:1].expand(64, -1, -1, -1)
    torch.manual_seed(0)
    views = augment.strong(x)
    assert views.shape == x.shape
    assert views.min() >= 0
    assert views.max() <= 1
    assert len({tuple(view.flatten()[:300].tolist()) for view in views}) > 50
    grey = (views == 0.5).all(1).float().mean((1, 2))  # Cutout
    assert 0.15 < grey.max() < 0.5
    assert torch.equal(x, cifar10_sample()[0][:1].expand(64, -1, -1, -1))


# Splits --------------------------------------------------------------------------------------------------------------

LABELS = torch.arange(60) % 3


def test_a_split_is_balanced_and_comes_back_by_its_seed(tmp_path):
    rows = split.draw(LABELS, 12, seed=1)
    assert LABELS[rows].bincount().tolist() == [4, 4, 4]
    assert len(set(rows)) == 12
    assert split.draw(LABELS, 12, seed=1) == rows != split.draw(LABELS, 12, seed=2)
    split.save(tmp_path / "split.json", rows, 1)
    assert split.load(tmp_path / "split.json", LABELS) == rows


@pytest.mark.parametrize(
    ("labels", "count", "message"),
    [
        (LABELS, 10, "--labels 10 is no multiple of the 3 classes: say 9"),
        (LABELS[:7], 9, "class 1 has 2 training images, fewer than the 3 that --labels 9 asks of each class: say"),
    ],
)
def test_labels_that_cannot_be_drawn(labels, count, message):
    with pytest.raises(ValueError, match=message):
        split.draw(labels, count, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no json", "cannot be read"),
        ('{"rows": [0, 1, 1, 2]}', "not a list of different rows of the 60"),
        ('{"rows": [0, 1, 3]}', "leaves class 2 without a label"),
    ],
)
def test_files_that_are_no_split(text, message, tmp_path):
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(ValueError, match=f"split.json.*{message}"):
        split.load(tmp_path / "split.json", LABELS)


# Runs ----------------------------------------------------------------------------------------------------------------


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


@pytest.mark.slow
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_run_on_a_gpu_ends(tmp_path):
    assert "no GPU" not in run(tmp_path, "--view", "idaa", "--device", "cuda")["run"]["machine"]


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


def test_the_split_of_another_run_is_taken(tmp_path):
    few = ["--view", "none", "--steps", 1, "--every", 1]
    run(tmp_path / "one", *few)
    file = tmp_path / "one" / "split.json"
    run(tmp_path / "two", *few, "--seed", 5, "--split", file)
    one, two = (json.loads((tmp_path / name / "split.json").read_text())["rows"] for name in ("one", "two"))
    assert one == two
    assert one != split.draw(load_data(configure(["--scale", "smoke"])).train_labels, 20, 5)
    with pytest.raises(ValueError, match="has 20 rows, not 10: say --labels 20"):
        run(tmp_path / "three", *few, "--labels", 10, "--split", file)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--labels", "40"], "class 1 has 3 training images, fewer than the 4 that"),
        (["--split", "missing.json"], "--split missing.json cannot be read"),
        (["--backbone", "wrn-11-1"], "wrn-11-1: the depth is 10, 16, 22, 28"),
        (["--backbone", "nonsense"], "'nonsense' is no network that timm knows, and none of the kind wrn-28-2"),
    ],
)
def test_bad_input_is_answered_in_one_line(words, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        run(tmp_path / "run", *words)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_the_command_answers_with_that_line_alone(tmp_path):
    command = [sys.executable, "-m", "examples.semi.train", "--scale", "smoke", "--out", str(tmp_path), "--labels", "5"]
    told = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert told.returncode == 1
    assert told.stderr == "train.py: --labels 5 is no multiple of the 10 classes: say 10\n"


def test_checkpoints_of_other_runs_are_refused(tmp_path):
    run(tmp_path, "--view", "none", "--stop-after", 1)
    with pytest.raises(ValueError, match=r"tau.*use another --out"):
        run(tmp_path, "--view", "none", "--tau", 0.5)
    (tmp_path / "checkpoint.pt").write_text("text")
    with pytest.raises(ValueError, match="is truncated, damaged or no checkpoint"):
        run(tmp_path, "--view", "none")


def test_options_that_do_not_fit_and_weights_by_the_data(capsys):
    with pytest.raises(SystemExit):
        configure(["--data", "pictures"])
    assert "no VAE is shipped for 'pictures'" in capsys.readouterr().err
    assert configure([]).weights == configure(["--data", "cifar10"]).weights == "cifar10-vae"
    assert configure(["--scale", "small"]).weights == "cifar10-vae-small"


# The table -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_grid_from_the_command_line_to_the_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    words = ["run_table", "--results", "results", "--scale", "smoke", "--views", "none", "third", "--", "--mu", "1"]
    monkeypatch.setattr(sys, "argv", words)
    run_table.main()
    names = [f"{view}-sample-20labels-smoke-s0-mu=1.json" for view in ("none", "third")]
    assert sorted(file.name for file in (tmp_path / "results").glob("*.json")) == names
    text = (tmp_path / "results" / "table.md").read_text()
    assert "| third | mu 1 | 0 |" in text


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
