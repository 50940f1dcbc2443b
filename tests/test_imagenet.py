"""The recipe of ImageNet on a toy: what interrupts a run costs no more than the steps since its last checkpoint."""

import csv
import os
import signal
import time

import evaluate
import kornia.augmentation as K
import pytest
import ranks
import torch
from config import configure
from conftest import tiny_vae
from crops import load
from methods import IMAGENET
from picture_files import PICTURES, write
from torch import nn
from train import make_model, make_optimiser, set_rate, train

from examples.shared.parallel import augment_share
from idaa_transforms import IDAATransform
from idaa_transforms.training.run import TrainingError

pytestmark = pytest.mark.slow

SMALL = ["--backbone", "resnet10t", "--backbone-options", '{"channels": [8, 8, 8, 8], "stem_width": 4}']


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """26 pictures of three classes, six steps."""
    folder = tmp_path_factory.mktemp("imagenet")
    IDAATransform(tiny_vae(16)).save_pretrained(folder / "vae")
    for i in range(3):
        write(folder / "pictures" / "train" / str(i), PICTURES[i:26:3], size=(40, 32))
        write(folder / "pictures" / "val" / str(i), PICTURES[26 + i : 27 + i])
    chosen = ["--recipe", "imagenet", *SMALL, "--data", str(folder / "pictures"), "--weights", str(folder / "vae")]
    size = ["--image-size", "16", "--batch-size", "8", "--epochs", "2", "--probe-epochs", "2", "--probe-batch", "16"]
    return [*chosen, *size, "--device", "cpu", "--no-bf16", "--threads", "1", "--workers", "0", "--every", "2"]


def run(options, out, *more):
    return train(configure(list(map(str, [*options, "--out", out, *more]))))


def checkpoint(folder):
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def rows(folder):
    with (folder / "log.csv").open() as lines:
        return list(csv.DictReader(lines))


def assert_same(one, two):
    """The same bits."""
    one, two = checkpoint(one), checkpoint(two)
    assert one["epoch"] == two["epoch"]
    assert all(torch.equal(value, two["model"][key]) for key, value in one["model"].items())
    for key, state in one["optimiser"]["state"].items():
        assert torch.equal(state["momentum_buffer"], two["optimiser"]["state"][key]["momentum_buffer"])


class Killed(BaseException):
    """What no handler knows."""


FORMS = [
    ["--method", "simsiam", "--view", "idaa", "--pair", "replace"],
    ["--method", "simclr", "--view", "idaa-grad", "--pair", "both", "--coarse", "--no-dual-bn"],
]


@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_a_run_killed_in_the_middle_of_an_epoch_ends_bit_for_bit_the_same(form, options, tmp_path, monkeypatch):
    """Killed after step 5, of which step 4 is kept; then with workers, which change nothing."""
    import large

    whole = run(options, tmp_path / "whole", *form)
    learn, done = large.learn, []

    def killed(*arguments):
        if len(done) == 5:
            raise Killed
        done.append(1)
        return learn(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(large, "learn", killed)
        with pytest.raises(Killed):
            run(options, tmp_path / "parts", *form)
    assert checkpoint(tmp_path / "parts")["epoch"] == 4
    torch.manual_seed(99)
    parts = run(options, tmp_path / "parts", *form, "--workers", 1)
    assert_same(tmp_path / "whole", tmp_path / "parts")
    assert parts["metrics"] == whole["metrics"]
    assert set(whole["metrics"]) == {"linear_top1", "linear_top5"}
    assert [row["step"] for row in parts["log"]] == [2, 4, 6]
    assert [row["loss"] for row in parts["log"]] == [row["loss"] for row in whole["log"]]
    assert all(0 < row["data_seconds"] < row["seconds"] for row in whole["log"])


def test_evaluation_of_a_folder(options, tmp_path):
    result = run(options, tmp_path, "--method", "simclr", "--view", "none", "--epochs", 1)
    (tmp_path / "linear.pt").unlink()
    assert evaluate.main(tmp_path) == result["metrics"]
    assert evaluate.main(tmp_path) == result["metrics"]  # from linear.pt


def test_processes_do_what_one_does(options, tmp_path):
    """The same pictures, crops, colours, losses and gradients, up to the order of sums."""
    more = [*options, "--method", "simclr", "--view", "third", "--optimiser", "sgd", "--lr", 0.01, "--epochs", 1]
    many = ranks.start(2, tmp_path, [*more, "--out", tmp_path / "many"])
    run(more, tmp_path / "one")
    assert [status for status, _ in ranks.ended(many, tmp_path)] == [0, 0]
    for a, b in zip(rows(tmp_path / "one"), rows(tmp_path / "many"), strict=True):
        assert float(b["loss"]) == pytest.approx(float(a["loss"]), abs=2e-3)
    config = configure(list(map(str, more)))
    torch.manual_seed(config.seed)
    before = make_model(config, None).state_dict()
    one, many = (checkpoint(tmp_path / name)["model"] for name in ("one", "many"))
    learned = [key for key in one if not torch.equal(one[key], before[key]) and "running" not in key]
    moved, apart = (
        torch.cat([(one[k] - other[k]).flatten().float() for k in learned]).norm() for other in (before, many)
    )
    assert apart < 0.02 * moved


def until_checkpoint(started, folder):
    while not (folder / "checkpoint.pt").exists():
        assert [process.exitcode for process in started] == [None] * len(started)
        time.sleep(0.02)


def test_a_rank_that_dies(options, tmp_path):
    """The other one says so in a line, with how to go on."""
    more = ["--method", "simclr", "--view", "none", "--epochs", 40, "--patience", 8, "--out", tmp_path / "run"]
    one, other = ranks.start(2, tmp_path, [*options, *more])
    until_checkpoint([one, other], tmp_path / "run")
    other.kill()
    ((status, line),) = ranks.ended([one], tmp_path)
    assert status == 1
    assert line.startswith("train.py: another process of this run ended or does not answer (")
    assert line.endswith(f"the same command goes on from {tmp_path / 'run' / 'checkpoint.pt'}")


def test_a_process_that_is_told_to_end_says_how_to_go_on(options, tmp_path):
    more = ["--method", "simclr", "--view", "none", "--epochs", 500, "--workers", 1, "--out", tmp_path / "run"]
    (process,) = started = ranks.start(1, tmp_path / "said", [*options, *more])
    until_checkpoint(started, tmp_path / "run")
    os.kill(process.pid, signal.SIGTERM)
    told = f"train.py: stopped; the same command goes on from {tmp_path / 'run' / 'checkpoint.pt'}"
    assert ranks.ended(started, tmp_path / "said") == [(1, told)]


def test_what_cannot_be_combined(options, tmp_path, capsys):
    for wrong, message in (
        (["--recipe", "imagenet", "--method", "uel"], "and moco, not uel"),
        (["--stream", "--data", "x"], "with --stream pictures have any size; add --image-size"),
    ):
        with pytest.raises(SystemExit):
            configure(wrong)
        assert message in capsys.readouterr().err
    with pytest.raises(ValueError, match="26 pictures in batches of 32 for 1 processes leave some empty"):
        run(options, tmp_path, "--batch-size", 32)
    with pytest.raises(ValueError, match=r"'nothing' is no file or folder; a data set of the Hub"):
        run([*options, "--data", "nothing"], tmp_path)


def test_a_worker_that_dies_is_one_line(options, tmp_path, monkeypatch):
    import large

    monkeypatch.setattr(large.RandomCrops, "__call__", lambda *_: os._exit(1))
    with pytest.raises(
        TrainingError, match=r"workers that decode pictures ended or did not.* no checkpoint yet"
    ) as told:
        run(options, tmp_path, "--view", "none", "--workers", 1)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_processes_share_each_batch_and_go_on_in_the_middle(world):
    """Whatever has been seen, by however many processes and workers."""
    rows = torch.arange(21)
    epoch = [list(load(rows, 8, 0, 60, order=(3, 1, 0))), list(load(rows, 8, 1, 60, order=(3, 1, 0)))]
    assert [batch.tolist() for batch in epoch[0]] == [batch.tolist() for batch in epoch[1]]
    assert len(torch.cat(epoch[0]).unique()) == 16
    second = [next(load(rows, 8, 0, 60, rank, world, (3, 1, 1))) for rank in range(world)]
    assert torch.equal(torch.stack(second, 1).flatten(), epoch[0][1])
    assert [b.tolist() for b in load(rows, 8, 0, 60, order=(3, 2, 0))] != [b.tolist() for b in epoch[0]]
    apart = [torch.cat(list(load(rows, 8, 0, 60, rank, world))) for rank in range(world)]
    assert torch.cat(apart).sort().values.tolist() == rows.tolist()


def test_recipes_of_the_papers():
    simsiam, simclr = (
        configure(["--recipe", "imagenet", "--method", m, "--batch-size", "512"]) for m in ("simsiam", "simclr")
    )
    assert (simsiam.lr, simsiam.weight_decay, simsiam.optimiser, simsiam.epochs) == (0.1, 1e-4, "sgd", 100)
    assert (simclr.lr, simclr.weight_decay, simclr.optimiser, simclr.warmup_epochs) == (0.6, 1e-6, "lars", 10)
    assert (simsiam.backbone, simsiam.image_size, simsiam.blur, simsiam.crop) == ("resnet50", 224, 0.5, 0.2)
    assert configure(["--recipe", "imagenet", "--method", "simsiam", "--lr", "0.3", "--batch-size", "512"]).lr == 0.3
    assert configure(["--scale", "imagenet"]) == configure(["--recipe", "imagenet"])
    moco = IMAGENET["moco"](8)
    assert (moco.queue.shape, moco.momentum, moco.temperature) == ((65_536, 128), 0.999, 0.2)


def test_lars_leaves_biases_alone_and_the_schedule_the_predictor(options):
    config = configure([*options, "--method", "simsiam", "--view", "none", "--optimiser", "lars"])
    optimiser = make_optimiser(config, make_model(config, None))
    weights, predictor, others = optimiser.param_groups
    assert {p.ndim for p in others["params"]} == {1}
    assert 1 not in {p.ndim for p in weights["params"]}
    assert (weights["weight_decay"], others["weight_decay"]) == (1e-4, 0)
    set_rate(optimiser, 0.25)
    assert [group["lr"] for group in (weights, predictor, others)] == [0.25, config.lr, 0.25]


@pytest.mark.parametrize("world", [1, 2, 4])
def test_shares_of_a_batch_are_augmented_as_within_it(world):
    augment = nn.Sequential(
        K.RandomHorizontalFlip(),
        K.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        K.RandomGrayscale(p=0.2),
        K.RandomGaussianBlur((3, 3), (0.1, 2.0), p=0.5),
    )
    x = torch.rand(4, 3, 8, 8)  # as many as ColorJitter has parts, whose order is drawn too
    torch.manual_seed(3)
    whole = augment(x)
    for rank in range(world):
        torch.manual_seed(3)
        assert torch.allclose(augment_share(augment, x[rank::world], rank, world), whole[rank::world], atol=1e-6)


def test_whatever_else_goes_wrong_is_not_hidden(options, tmp_path, monkeypatch):
    import large

    monkeypatch.setattr(large, "learn", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(options, tmp_path, "--view", "none")
    monkeypatch.setattr(large, "learn", lambda *_: torch.full((2,), torch.nan))
    with pytest.raises(
        TrainingError, match=r"the loss became nan and nan by step 2; lower --lr or --eps; the same command"
    ):
        run(options, tmp_path, "--view", "none")
