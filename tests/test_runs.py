"""Runs that tell the truth: their data, their folder, their card; nothing of the user's is lost, whatever happens."""

import json
import multiprocessing
import os
import random
import signal
import stat
import subprocess
import sys
import time

import pytest
import torch
from conftest import tiny_vae
from safetensors.torch import load_file
from toy_runs import PIXELS, RECIPE, SET, fresh, save_arrays, train_by_command

from idaa_transforms import IDAATransform, hub
from idaa_transforms._util.files import write_whole
from idaa_transforms.cli import main
from idaa_transforms.hub.folder import CONFIG, SETTINGS, WEIGHTS, recommend
from idaa_transforms.training.card import publish
from idaa_transforms.training.images import Images
from idaa_transforms.training.run import load_checkpoint
from idaa_transforms.training.vae import Recipe, train_vae

pytestmark = pytest.mark.slow


def contents(folder):
    return {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in folder.iterdir() if f.is_file()}


def test_other_images_are_refused(tmp_path):
    train_vae(fresh(), SET, RECIPE, tmp_path, stop_after=1)
    before = contents(tmp_path)
    changed = PIXELS[:32].clone()
    changed[-1, -1, -1, -1] ^= 1
    for train, test in ((changed, SET.test), (PIXELS[:33], SET.test), (SET.train, SET.test[1:])):
        with pytest.raises(ValueError, match=r"checkpoint.pt was made with other images than these; use another --out"):
            train_vae(fresh(), SET._replace(train=train, test=test), RECIPE, tmp_path)
    assert contents(tmp_path) == before
    assert train_vae(fresh(), SET._replace(name="renamed"), RECIPE, tmp_path, stop_after=2) == 2


class TestFolder:
    def test_the_name_of_shipped_weights_is_a_folder_here(self, toy, tmp_path, capsys):
        main(["train-vae", "toy.npz", "--out", "cifar10-vae", "--from", "cifar10-vae-small", "--epochs", "1"])
        out = capsys.readouterr().out
        line = next(line for line in out.splitlines() if line.endswith(" loads it"))
        aug = eval(line.removesuffix(" loads it"), {"IDAATransform": IDAATransform})
        assert aug.autoencoder.image_size == (32, 32)

    def test_what_was_edited_or_calibrated_survives(self, toy, tmp_path, capsys):
        run = ["toy.npz", "--out", "mine", *toy]
        train_by_command(*run)
        recommend(tmp_path / "mine", {"eps": 0.7}, {"answer": "by hand"})
        (tmp_path / "mine" / "README.md").write_text("my own card")
        before = contents(tmp_path / "mine")
        capsys.readouterr()
        train_by_command(*run)
        assert "this run is finished (1 epochs), and nothing was written" in capsys.readouterr().out
        assert contents(tmp_path / "mine") == before
        (tmp_path / "mine" / "README.md").unlink()
        train_by_command(*run)
        assert "# mine" in (tmp_path / "mine" / "README.md").read_text()
        assert IDAATransform.from_pretrained("./mine").eps == 0.7

    def test_a_folder_that_is_no_run_is_refused(self, toy, tmp_path):
        (tmp_path / "proj").mkdir()
        (tmp_path / "proj" / "README.md").write_text("mine")
        with pytest.raises(SystemExit, match=r"idaa: proj is no run \(it holds README.md and no checkpoint.pt\)"):
            main(["train-vae", "toy.npz", "--out", "proj", *toy])
        assert [f.name for f in (tmp_path / "proj").iterdir()] == ["README.md"]
        with pytest.raises(SystemExit, match=r"toy\.npz is a file; say a folder"):
            main(["train-vae", "toy.npz", "--out", "toy.npz", *toy])

    def test_permissions_are_those_of_the_umask(self, tmp_path):
        old = os.umask(0o027)
        try:
            hub.save(tiny_vae(), tmp_path / "vae", {"eps": 0.1})
        finally:
            os.umask(old)
        modes = {f.name: stat.S_IMODE(f.stat().st_mode) for f in (tmp_path / "vae").iterdir()}
        assert modes == {CONFIG: 0o640, WEIGHTS: 0o640}


class TestCard:
    def test_it_is_there_without_git_or_utf_8(self, toy, tmp_path):
        command = [sys.executable, "-m", "idaa_transforms.cli", "train-vae", str(tmp_path / "toy.npz")]
        command += [f"--out={tmp_path / 'müll'}", "--about", "grün", *toy]
        plain = {"PATH": str(tmp_path), "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
        run = subprocess.run(command, env=os.environ | plain, capture_output=True, check=False)
        assert run.returncode == 3, run.stderr  # weights of a moment
        card = (tmp_path / "müll" / "README.md").read_text("utf-8")
        assert str(tmp_path) not in card
        assert "release" in card

    def test_of_grey_images(self, toy, tmp_path, capsys):
        save_arrays("grey.npz", channels=[0])
        train_by_command("grey.npz", "--out", "grey-vae", *toy)
        assert "(B, 1, 16, 16)" in (tmp_path / "grey-vae" / "README.md").read_text()
        assert len(IDAATransform.from_pretrained("./grey-vae").autoencoder.mean) == 1
        capsys.readouterr()
        main(["eval-vae", "grey-vae", "grey.npz"])
        assert "explained" in capsys.readouterr().out

    @pytest.mark.parametrize("channels", [[0, 1], [0, 1, 2, 0]])
    def test_of_any_number_of_channels(self, channels, tmp_path):
        images = Images(PIXELS[:32, channels], PIXELS[32:, channels], "stacks")
        vae, recipe = tiny_vae(channels=len(channels)), Recipe(epochs=1, batch_size=16)
        train_vae(vae, images, recipe, tmp_path)
        publish(vae, images, recipe, tmp_path, name="stacks")
        card = (tmp_path / "README.md").read_text()
        assert f"(B, {len(channels)}, 16, 16)" in card
        assert "samples.png" in card
        assert (tmp_path / "samples.png").exists()


@pytest.fixture
def full(tmp_path):
    """A file system of 1 MB."""
    place = tmp_path / "small"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], check=False, capture_output=True
    )
    if made.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(place):
    """Leave no room."""
    try:
        with (place / ".filler").open("wb", buffering=0) as out:
            while True:
                out.write(bytes(4096))
    except OSError:
        pass


class TestAFullDisk:
    def test_what_was_there_is_as_it_was(self, full):
        folder = full / "vae"
        vae = tiny_vae()
        hub.save(vae, folder, {"eps": 0.2})
        fill(full)
        before = contents(folder)
        large = {"answer": "x" * 9000}
        for save in (
            lambda: hub.save(tiny_vae(seed=1), folder, {"eps": 0.3}),
            lambda: recommend(folder, {"eps": 0.3}, large),
            lambda: write_whole(folder / CONFIG, b"x" * 9000),
        ):
            with pytest.raises(OSError, match=r"could not be written \(No space left on device\); what was"):
                save()
            assert contents(folder) == before
        assert IDAATransform.from_pretrained(folder).eps == 0.2


def endless_training(folder):
    train_vae(fresh(), SET, RECIPE, folder)


def endless_saving(folder):
    for i in range(10**9):
        recommend(folder, {"eps": 0.1 + i % 7}, {"answer": "x" * (i % 5000)})


SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["test_runs"])


def kill(task, folder, delay):
    """Run ``task`` in a process of its own, and kill it after ``delay`` seconds."""
    process = SERVER.Process(target=task, args=(folder,))
    process.start()
    time.sleep(delay)
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()


def test_killed_at_any_moment_a_training_ends_with_the_same_weights(tmp_path):
    whole = fresh()
    train_vae(whole, SET, RECIPE, tmp_path / "whole")
    chance = random.Random(0)
    folder = tmp_path / "0"
    for i in range(3):
        kill(endless_training, folder, chance.uniform(0.05, 1.2))
        checkpoint = folder / "checkpoint.pt"
        if checkpoint.exists():
            done = load_checkpoint(checkpoint)["epoch"]
            if done == RECIPE.epochs:
                folder = tmp_path / f"{i + 1}"
    parts = fresh()
    assert train_vae(parts, SET, RECIPE, folder) == RECIPE.epochs
    assert all(torch.equal(value, whole.state_dict()[key]) for key, value in parts.state_dict().items())
    assert not list(folder.glob(".*.partial"))


def test_killed_at_any_moment_a_calibration_leaves_weights_that_load(folder):
    chance = random.Random(1)
    for _ in range(5):
        kill(endless_saving, folder, chance.uniform(0.02, 0.3))
        aug = IDAATransform.from_pretrained(folder)
        assert aug.eps == 0.2 or aug.eps % 1 == pytest.approx(0.1)


def test_settings_of_diffusers_weights_are_in_a_file_of_their_own(tmp_path):
    (tmp_path / CONFIG).write_text('{"_class_name": "AutoencoderTiny"}')
    recommend(tmp_path, {"eps": 0.03, "norm": "l2"}, {"answer": "so"})
    assert json.loads((tmp_path / CONFIG).read_text()) == {"_class_name": "AutoencoderTiny"}
    assert json.loads((tmp_path / SETTINGS).read_text())["transform"] == {"eps": 0.03, "norm": "l2"}


def test_weights_on_disk_are_the_trained_ones(toy, tmp_path):
    train_by_command("toy.npz", "--out", "mine", *toy)
    trained = load_checkpoint(tmp_path / "mine" / "checkpoint.pt")["vae"]
    stored = load_file(tmp_path / "mine" / WEIGHTS)
    assert all(torch.equal(stored[key], v.half() if v.is_floating_point() else v) for key, v in trained.items())
