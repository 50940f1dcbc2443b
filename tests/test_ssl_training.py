"""The training runs of examples/ssl: every method learns with every view, on one process or two, interrupted or not."""

import csv

import datasets
import evaluate
import numpy as np
import pytest
import ranks
import torch
from config import configure
from conftest import tiny_vae
from methods import METHODS
from network import Model
from torch import distributed, nn
from train import learning_rate, main, train

from examples.shared.parallel import synchronise
from examples.shared.views import VIEWS
from idaa_transforms import IDAATransform
from idaa_transforms.sample import cifar10_sample

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """A toy run: the quarters of 64 real images, mild augmentation, and a VAE that costs nothing."""
    folder = tmp_path_factory.mktemp("ssl")
    IDAATransform(tiny_vae(32)).save_pretrained(folder / "vae")
    large, y = cifar10_sample((64, 64))
    quarters = torch.cat([large[:, :, i : i + 32, j : j + 32] for i in (0, 32) for j in (0, 32)])
    x = (quarters * 255).byte().permute(0, 2, 3, 1).numpy()
    np.savez(folder / "toy.npz", x_train=x[:96], y_train=y.repeat(2)[:96], x_test=x[192:212], y_test=y[:20])
    data = ["--data", str(folder / "toy.npz"), "--weights", str(folder / "vae")]
    return ["--scale", "smoke", *data, "--crop", "0.25", "--jitter", "0.4", "0.4", "0.4", "0.1"]


def run(options, out, *more):
    return train(configure([*options, "--out", str(out), *map(str, more)]))


def log(folder):
    with (folder / "log.csv").open() as lines:
        return [{key: float(value or "nan") for key, value in row.items()} for row in csv.DictReader(lines)]


def checkpoint(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)


@pytest.fixture(scope="module")
def untrained(options, tmp_path_factory):
    """The loss of one epoch of the same views without learning."""
    found = {}

    def loss(method, view):
        key = method, view if view in ("third", "same-crop") else "none"  # whose random views are others
        if key not in found:
            more = ["--method", method, "--view", key[1], "--lr", 0]
            found[key] = run(options, tmp_path_factory.mktemp("untrained"), *more)["log"][0]["loss"]
        return found[key]

    return loss


@pytest.mark.parametrize(
    ("method", "view"), [*((m, "idaa") for m in METHODS), *(("simclr", v) for v in VIEWS if v != "idaa")]
)
def test_one_epoch_lowers_the_loss(method, view, options, untrained, tmp_path):
    result = run(options, tmp_path, "--method", method, "--view", view)
    (row,) = result["log"]
    assert row["loss"] < untrained(method, view) - 0.03
    assert (row["extra_loss"] == row["loss"]) == (view == "none")
    attacked = 96 if view not in ("none", "third", "same-crop") else 0  # latent: for the length of the step
    assert result["attack"].get("attacked", 0) == attacked
    assert result["config"]["method"] == method
    assert "out" not in result["config"]


@pytest.mark.parametrize(
    "more",
    [
        ["--pair", "replace", "--view", "clae"],
        ["--no-dual-bn", "--alpha", "0.5"],
        ["--bf16"],
    ],
)
def test_other_settings_learn(more, options, tmp_path):
    untrained, trained = (run(options, tmp_path / str(lr), *more, "--lr", lr)["log"][0] for lr in (0, 1e-3))
    learned = "extra_loss" if "replace" in more else "loss"  # where x' replaces x1, the loss of x1 is not in use
    assert trained[learned] < untrained[learned] - 0.03


@pytest.mark.parametrize(("method", "view"), [("moco", "idaa"), ("simclr", "idaa-grad")])
def test_an_interrupted_run_ends_with_the_same_weights(method, view, options, tmp_path):
    """Also where the last epoch is a part of one."""
    more = ["--method", method, "--view", view, "--epochs", 2.5, "--train-images", 64]
    whole = run(options, tmp_path / "whole", *more)
    assert checkpoint(tmp_path / "whole")["optimiser"]["state"][0].get("step", 10) == 4 + 4 + 2
    assert run(options, tmp_path / "parts", *more, "--stop-after", 1) == {}
    torch.manual_seed(99)  # a new process starts elsewhere
    parts = run(options, tmp_path / "parts", *more)
    one, two = (checkpoint(tmp_path / name) for name in ("whole", "parts"))
    assert all(torch.equal(value, two["model"][key]) for key, value in one["model"].items())
    assert parts["metrics"] == whole["metrics"]
    assert evaluate.main(tmp_path / "parts") == whole["metrics"]
    assert [row["epoch"] for row in parts["log"]] == [1, 2, 3]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("view", ["idaa", "idaa-grad", "clae"])
@pytest.mark.parametrize("more", [(), ("--bf16",), ("--compile",)])
def test_a_run_on_a_gpu_learns(view, more, options, tmp_path):
    result = run(options, tmp_path, "--device", "cuda", "--view", view, "--epochs", 3, *more)
    losses = [row["loss"] for row in result["log"]]
    assert losses[-1] < losses[0]
    assert "no GPU" not in result["run"]["machine"]


def test_a_run_without_epochs_measures_the_network_as_it_begins(options, tmp_path):
    found = run(options, tmp_path, "--view", "none", "--epochs", 0)
    assert found["log"] == []
    assert found["metrics"] == run(options, tmp_path / "again", "--view", "none", "--epochs", 0)["metrics"]


def test_a_checkpoint_of_another_run_is_refused(options, tmp_path):
    run(options, tmp_path, "--view", "none", "--train-images", 16)
    with pytest.raises(ValueError, match=r"made with lr 0\.001, not 0\.1; use another --out"):
        run(options, tmp_path, "--view", "none", "--train-images", 16, "--lr", 0.1)


@pytest.mark.parametrize(
    ("method", "view", "images", "tolerance"),
    [("moco", "third", 64, 1e-4), ("simsiam", "idaa-grad", 16, 1e-3)],  # one step: rounding may turn a later sign
)
def test_two_processes_do_what_one_does(method, view, images, tolerance, options, tmp_path):
    """The same global batch: same views, same losses, same gradients, up to the order of sums."""
    more = [*options, "--optimiser", "sgd", "--lr", "0.01", "--method", method, "--view", view]
    more += ["--train-images", str(images)]
    two = ranks.start(2, tmp_path / "said", [*more, "--out", tmp_path / "two"])
    run(more, tmp_path / "one")
    assert [status for status, _ in ranks.ended(two, tmp_path / "said")] == [0, 0]
    for a, b in zip(log(tmp_path / "one"), log(tmp_path / "two"), strict=True):
        for name in ("loss", "extra_loss"):
            assert b[name] == pytest.approx(a[name], rel=tolerance, abs=tolerance)
    torch.manual_seed(0)
    before = Model(configure(more), 32).state_dict()
    one, two = (checkpoint(tmp_path / name)["model"] for name in ("one", "two"))
    moved, apart = (torch.cat([(one[k] - other[k]).flatten().float() for k in one]).norm() for other in (before, two))
    assert apart < 10 * tolerance * moved


def test_synced_batch_norm_of_one_process_is_torchs(tmp_path):
    """Over many processes it is tested by training, above."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        theirs, ours = nn.BatchNorm2d(3), synchronise(nn.Sequential(nn.BatchNorm2d(3)))
        for training in (True, True, False):
            left = torch.randn(6, 3, 4, 4, requires_grad=True)
            right = left.detach().clone().requires_grad_()
            a, b = theirs.train(training)(left), ours.train(training)(right)
            (a**3).sum().backward()
            (b**3).sum().backward()
            torch.testing.assert_close(a, b)
            torch.testing.assert_close(left.grad, right.grad)
        for key, value in theirs.state_dict().items():
            torch.testing.assert_close(ours[0].state_dict()[key], value)
    finally:
        distributed.destroy_process_group()


def test_batch_norms_of_many_gpus_are_torchs():
    """Whose training mode needs one; eval mode does not."""
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    x = torch.randn(2, 3, 8, 8)
    before, keys = plain(x), list(plain.state_dict())
    synced = synchronise(plain, "cuda")
    assert isinstance(synced[1], nn.SyncBatchNorm)
    assert torch.equal(synced(x), before)
    assert list(synced.state_dict()) == keys


def test_learning_rates_of_the_paper():
    simclr, simsiam, plain = (configure(["--method", name]) for name in ("simclr", "simsiam", "plain"))
    assert [learning_rate(simclr, e) / 3e-4 for e in (0, 9, 155, 300)] == pytest.approx([1, 1, 0.5, 0])
    assert [learning_rate(simsiam, e) / 0.03 for e in (0, 5, 10, 155)] == pytest.approx([0, 0.5, 1, 0.5])
    assert [learning_rate(plain, e) / 0.03 for e in (0, 119, 120, 160, 200)] == pytest.approx([1, 1, 0.1, 0.05, 0.01])


def test_a_fresh_clone_without_a_network_is_told_what_to_do(tmp_path, monkeypatch):
    """No data/cifar10.npz: CIFAR-10 of the Hub is what is looked for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(SystemExit, match=r"train.py: 'uoft-cs/cifar10' is no file or folder, and no data set.*[^\n]$"):
        main(["--scale", "small", "--out", "run"])


def test_what_cannot_be_combined(capsys):
    for wrong, message in (
        (
            ["--view", "third", "--pair", "replace"],
            "--pair replace is for --view idaa and clae, not third",
        ),
        (["--view", "idaa", "--pair", "both", "--no-dual-bn"], "--pair both is for --view idaa-grad, not idaa"),
        (["--view", "idaa-grad", "--pair", "both"], "no view is left for the clean batch norms; add --no-dual-bn"),
        (["--data", "pictures"], "no VAE is shipped for 'pictures'"),
        (["--method", "dino"], "invalid choice: 'dino'"),
    ):
        with pytest.raises(SystemExit):
            configure(wrong)
        assert message in capsys.readouterr().err
