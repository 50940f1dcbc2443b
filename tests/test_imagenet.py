"""The recipe of ImageNet on a toy: what interrupts a run costs no more than the steps since its last checkpoint."""

import csv
import os
import resource
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

from examples.shared.clock import Clock
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
    assert one["position"] == two["position"]
    assert all(torch.equal(value, two["model"][key]) for key, value in one["model"].items())
    for key, state in one["optimiser"]["state"].items():
        assert torch.equal(state["momentum_buffer"], two["optimiser"]["state"][key]["momentum_buffer"])


class Killed(BaseException):
    """What no handler knows."""


FORMS = [
    ["--method", "simsiam", "--view", "idaa", "--pair", "replace"],
    ["--method", "simclr", "--view", "none"],
    ["--method", "simclr", "--view", "idaa-grad", "--pair", "both", "--coarse", "--no-dual-bn"],
    ["--method", "mochi", "--view", "none"],
]


@pytest.mark.parametrize(
    ("method", "temperature"), [("moco", 0.2), ("mochi", 0.2), ("synco", 0.2), ("adco", 0.12), ("infomin", 0.15)]
)
def test_methods_with_a_queue_have_the_long_one_of_imagenet(method, temperature):
    config = configure(["--recipe", "imagenet", "--method", method, "--data", "shards", "--batch-size", "512"])
    assert (config.lr, config.weight_decay, config.epochs, config.blur) == (0.06, 1e-4, 200, 0.5)
    assert config.randaugment == (2 if method == "infomin" else 0)
    made = IMAGENET[method](8)
    assert made.queue.shape == (65_536, 128)
    assert (made.momentum, made.temperature) == (0.999, temperature)
    assert made.embed(torch.zeros(2, 8)).shape == (2, 128)
    made.done = 0.06
    if method in ("mochi", "synco"):
        assert made.harder(torch.randn(2, 128)).shape[1] == {"mochi": 1024 + 128, "synco": 3 * 256 + 3 * 64}[method]


@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_a_run_killed_in_the_middle_of_an_epoch_ends_bit_for_bit_the_same(form, options, tmp_path, monkeypatch):
    """Killed after step 5, of which step 4 is kept; then with workers, which change nothing."""
    import large

    whole = run(options, tmp_path / "whole", *form)
    step, done = large.Run.step, []

    def killed(self, crops):
        if len(done) == 5:
            raise Killed
        done.append(1)
        return step(self, crops)

    with monkeypatch.context() as patched:
        patched.setattr(large.Run, "step", killed)
        with pytest.raises(Killed):
            run(options, tmp_path / "parts", *form)
    assert checkpoint(tmp_path / "parts")["position"]["step"] == 4
    torch.manual_seed(99)
    parts = run(options, tmp_path / "parts", *form, "--workers", 1)
    assert_same(tmp_path / "whole", tmp_path / "parts")
    assert parts["metrics"] == whole["metrics"]
    assert set(whole["metrics"]) == {"linear_top1", "linear_top5"}
    assert [row["step"] for row in parts["log"]] == [2, 4, 6]
    assert [row["loss"] for row in parts["log"]] == [row["loss"] for row in whole["log"]]
    for row in whole["log"]:
        phases = sum(row[f"{name}_seconds"] for name in large.PHASES)
        assert phases == pytest.approx(row["seconds"], rel=0.1, abs=0.05)
        assert (row["view_seconds"] > 0) == (form[3] in ("clae", "idaa", "idaa-grad"))


def test_it_learns(options, tmp_path):
    mild = ["--crop", 0.6, "--jitter", 0.1, 0.1, 0.1, 0, "--gray", 0, "--blur", 0]
    more = ["--method", "simclr", "--view", "none", "--optimiser", "adam", "--warmup-epochs", 0, "--epochs", 24, *mild]
    untrained, trained = (run(options, tmp_path / str(lr), *more, "--every", 8, "--lr", lr) for lr in (0, 2e-3))
    assert trained["log"][-1]["loss"] < untrained["log"][-1]["loss"] - 0.3


def test_evaluation_of_a_folder(options, tmp_path):
    result = run(options, tmp_path, "--method", "simclr", "--view", "none", "--epochs", 1)
    (tmp_path / "linear.pt").unlink()
    assert evaluate.main(tmp_path) == result["metrics"]
    assert evaluate.main(tmp_path) == result["metrics"]  # from linear.pt


def test_other_data_are_refused(options, tmp_path):
    more = ["--method", "simclr", "--view", "none", "--stop-after", 1]
    assert run(options, tmp_path, *more) == {}
    for part in ("train", "val"):
        write(tmp_path / "b" / part / "0", PICTURES[:30])
    with pytest.raises(ValueError, match="the checkpoint is of other pictures than --data has now; use another --out"):
        run([str(tmp_path / "b") if word.endswith("pictures") else word for word in options], tmp_path, *more)


def test_a_full_disk_leaves_the_last_checkpoint(options, tmp_path):
    """A limit on the size of files stands for the disk: writing fails as it does there."""
    more = ["--method", "simclr", "--view", "none"]
    assert run(options, tmp_path / "full", *more, "--stop-after", 1) == {}
    before = (tmp_path / "full" / "checkpoint.pt").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(OSError, match=r"checkpoint\.pt could not be written \(File too large\); what was there"):
            run(options, tmp_path / "full", *more)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "full" / "checkpoint.pt").read_bytes() == before
    run(options, tmp_path / "whole", *more)
    run(options, tmp_path / "full", *more)
    assert_same(tmp_path / "whole", tmp_path / "full")


@pytest.mark.parametrize(
    ("world", "form"),
    [
        (2, ["--method", "simsiam", "--view", "idaa", "--pair", "replace"]),
        (2, ["--method", "simclr", "--view", "third", "--accumulate", "2"]),
    ],
)
def test_processes_do_what_one_does(world, form, options, tmp_path):
    """The same pictures, crops, colours, losses and gradients, up to the order of sums."""
    more = [*options, *form, "--optimiser", "sgd", "--lr", 0.01, "--epochs", 1, "--probe-epochs", 1]
    run(more, tmp_path / "one")
    many = ranks.start(world, tmp_path, [*more, "--out", tmp_path / "many"])
    assert [status for status, _ in ranks.ended(many, tmp_path)] == [0] * world
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
    """The other one says so in a line, and the same command ends as if nothing had happened."""
    more = ["--method", "simclr", "--view", "none", "--epochs", 4, "--probe-epochs", 1, "--patience", 8]
    command = [*options, *more, "--out", tmp_path / "run"]
    one, other = ranks.start(2, tmp_path, command)
    until_checkpoint([one, other], tmp_path / "run")
    other.kill()
    ((status, line),) = ranks.ended([one], tmp_path)
    assert status == 1
    assert line.startswith("train.py: another process of this run ended or does not answer (")
    assert line.endswith(f"the same command goes on from {tmp_path / 'run' / 'checkpoint.pt'}")
    assert checkpoint(tmp_path / "run")["position"]["step"] < 12
    for name in ("run", "whole"):
        again = ranks.start(2, tmp_path, [*command[:-1], tmp_path / name])
        assert [status for status, _ in ranks.ended(again, tmp_path)] == [0, 0]
    assert_same(tmp_path / "whole", tmp_path / "run")


def test_a_process_that_is_told_to_end_says_how_to_go_on(options, tmp_path):
    more = ["--method", "simclr", "--view", "none", "--epochs", 500, "--workers", 1, "--out", tmp_path / "run"]
    (process,) = started = ranks.start(1, tmp_path / "said", [*options, *more])
    until_checkpoint(started, tmp_path / "run")
    os.kill(process.pid, signal.SIGTERM)
    told = f"train.py: stopped; the same command goes on from {tmp_path / 'run' / 'checkpoint.pt'}"
    assert ranks.ended(started, tmp_path / "said") == [(1, told)]


def test_what_cannot_be_combined(options, tmp_path, capsys):
    for wrong, message in (
        (["--recipe", "imagenet", "--method", "uel"], "and infomin, not uel"),
        (["--stream", "--data", "x"], "with --stream pictures have any size; add --image-size"),
        (["--accumulate", "2"], "--accumulate is for --stream"),
    ):
        with pytest.raises(SystemExit):
            configure(wrong)
        assert message in capsys.readouterr().err
    with pytest.raises(
        ValueError, match="26 pictures in batches of 8 for 1 processes, each in 3 parts, leave some empty"
    ):
        run(options, tmp_path, "--accumulate", 3)
    with pytest.raises(ValueError, match=r"'nothing' is no file or folder; a data set of the Hub"):
        run([*options, "--data", "nothing"], tmp_path)


class Dying(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        os._exit(1)


class Sleeping(Dying):
    def __getitem__(self, i):
        time.sleep(60)


@pytest.mark.parametrize(("dataset", "patience"), [(Dying(), 60), (Sleeping(), 1)])
def test_a_worker_that_dies_or_sleeps_is_one_line(dataset, patience):
    with pytest.raises(TrainingError, match=r"the workers that decode pictures ended, or took more than \d+ s") as told:
        list(load(dataset, 2, 1, patience))
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


def test_each_moment_has_one_phase(monkeypatch):
    ticks = iter([0, 1, 3, 7, 15, 31, 63])
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    clock, module = Clock("cpu"), nn.Identity()
    clock.watch(module, "view")
    with clock.phase("data"):  # from 1 to 15
        module(torch.zeros(1))  # from 3 to 7
    assert clock.read() == {"step": 1 + 16, "data": 2 + 8, "view": 4}
    assert clock.read() == {"step": 32}


def test_whatever_else_goes_wrong_is_not_hidden(options, tmp_path, monkeypatch):
    import large

    monkeypatch.setattr(large.Run, "step", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(options, tmp_path, "--view", "none")
    monkeypatch.setattr(large.Run, "step", lambda self, _: torch.full((2,), torch.nan) + self.advance())
    monkeypatch.setattr(large.Run, "advance", lambda self: setattr(self.position, "step", 2) or 0, raising=False)
    with pytest.raises(
        TrainingError, match=r"the loss became nan and nan by step 2; lower --lr or --eps; there was no"
    ):
        run(options, tmp_path, "--view", "none")
