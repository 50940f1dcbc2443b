"""Runs that tell the truth: their data, their folder, their card; nothing of the user's is lost, whatever happens."""

import errno
import json
import os
import random
import stat

import pytest
import torch
from conftest import tiny_vae
from safetensors.torch import load_file
from several import context
from toy_runs import RECIPE, SET, fresh, train_by_command

from idaa_transforms import IDAATransform, hub
from idaa_transforms.cli import main
from idaa_transforms.hub.folder import CONFIG, SETTINGS, WEIGHTS, recommend
from idaa_transforms.training.run import load_checkpoint
from idaa_transforms.training.vae import train_vae

pytestmark = pytest.mark.slow


def contents(folder):
    return {f.name: (f.read_bytes(), f.stat().st_mtime_ns) for f in folder.iterdir() if f.is_file()}


def endless_training(folder):
    train_vae(fresh(), SET, RECIPE, folder)


def killed(task, folder, delay):
    """Run ``task`` in a process of its own, and kill it after ``delay`` seconds."""
    process = context.Process(target=task, args=(folder,))
    process.start()
    process.join(delay)
    process.kill()
    process.join()


class TestFolder:
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
        for name in ("README.md", ".mine.partial"):
            (tmp_path / "proj" / name).write_text("mine")
        with pytest.raises(SystemExit, match=r"idaa: proj is no run \(it holds README.md and no checkpoint.pt\)"):
            main(["train-vae", "toy.npz", "--out", "proj", *toy])
        assert {f.name for f in (tmp_path / "proj").iterdir()} == {"README.md", ".mine.partial"}
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

    def test_what_was_there_stays_when_the_disk_is_full(self, folder, monkeypatch):
        def full(*_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        before = contents(folder)
        monkeypatch.setattr(os, "fsync", full)
        for save in (
            lambda: hub.save(tiny_vae(seed=1), folder, {"eps": 0.3}),
            lambda: recommend(folder, {"eps": 0.3}, {}),
        ):
            with pytest.raises(OSError, match=r"could not be written \(No space left on device\); what was"):
                save()
            assert contents(folder) == before


def test_a_card_is_there_without_git_and_names_no_place(toy, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    train_by_command(str(tmp_path / "toy.npz"), f"--out={tmp_path / 'müll'}", "--about", "grün", *toy)
    card = (tmp_path / "müll" / "README.md").read_text("utf-8")
    assert str(tmp_path) not in card
    assert "grün" in card
    assert "release" in card


def test_killed_at_any_moment_a_training_ends_with_the_same_weights(tmp_path):
    whole = fresh()
    train_vae(whole, SET, RECIPE, tmp_path / "whole")
    chance = random.Random(0)
    folder = tmp_path / "0"
    for i in range(3):
        killed(endless_training, folder, chance.uniform(0.05, 1.2))
        checkpoint = folder / "checkpoint.pt"
        if checkpoint.exists():
            done = load_checkpoint(checkpoint)["epoch"]
            if done == RECIPE.epochs:
                folder = tmp_path / f"{i + 1}"
    parts = fresh()
    assert train_vae(parts, SET, RECIPE, folder) == RECIPE.epochs
    assert all(torch.equal(value, whole.state_dict()[key]) for key, value in parts.state_dict().items())
    assert not list(folder.glob(".*.partial"))


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
