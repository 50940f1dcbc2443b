"""``idaa``: every command on every kind of weights, and one line for whatever goes wrong."""

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import fitted, tiny_vae
from torch import nn
from toy_runs import PIXELS, save_arrays, train_by_command

from idaa_transforms import IDAATransform, _version, hub
from idaa_transforms.cli import main

pytestmark = pytest.mark.slow

JUDGES = """
from torch import nn


def judge():
    return nn.Flatten()


def broken():
    def network(x):
        raise KeyError("my bug")

    return network


def unbuilt(size):
    return nn.Flatten()
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with images, judges, and weights of many kinds."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "judges.py").write_text(JUDGES)
    save_arrays("rgb.npz")
    pixels = PIXELS.permute(0, 2, 3, 1).numpy()
    np.savez("all.npz", x_train=pixels[:1], x_test=pixels)
    for name, vae in (
        ("wide", tiny_vae((16, 24))),
        ("grey", tiny_vae(channels=1)),
        ("odd", tiny_vae(19)),
    ):
        hub.save(vae, name, {"eps": 0.2})
    return tmp_path


def learn(weights):
    """A longer latent, and a moment of training, so that there is an eps to recommend."""
    vae, _ = hub.load(f"./{weights}")
    x = nn.functional.interpolate(PIXELS.float() / 255, size=vae.image_size)[:, : vae.channels]
    hub.save(fitted(tiny_vae(vae.image_size, 32, vae.channels), x), weights, {"eps": 0.2})


def small_diffusers(folder, **how):
    """An AutoencoderTiny that learns to reconstruct for a moment."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    wide = {"encoder_block_out_channels": [16] * 2, "decoder_block_out_channels": [16] * 2}
    model = diffusers.AutoencoderTiny(**wide, num_encoder_blocks=[1] * 2, num_decoder_blocks=[1] * 2)
    x = nn.functional.interpolate(PIXELS[:16].float() / 255, size=32) * 2 - 1
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(120):
        loss = nn.functional.mse_loss(model.decode(model.encode(x).latents).sample, x)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.save_pretrained(folder, **how)
    return model


class TestKindsOfWeights:
    @pytest.mark.parametrize("weights", ["wide", "grey", "odd"])
    def test_measured_calibrated_and_shown(self, weights, place, capsys):
        main(["eval-vae", weights, "rgb.npz"])
        assert re.search(r"mse +[\d.]+\n", capsys.readouterr().out)
        learn(weights)
        judge = ["--data", "all.npz", "--judge", "judges:judge", "--batch-size", "16", "--eps", "0.005"]
        main(["calibrate", weights, *judge, "--keep", "1", "--save"])
        out = capsys.readouterr().out
        assert f"from_pretrained({weights!r}) uses it now" in out
        assert f"eps = {IDAATransform.from_pretrained(f'./{weights}').eps:g} keeps retrieved of at least 1" in out
        main(["demo", "--weights", weights, "--steps", "1"])
        assert "IDAA" in capsys.readouterr().out

    def test_of_diffusers(self, place, capsys):
        small_diffusers(place / "pipe" / "vae")
        (place / "pipe" / "model_index.json").write_text('{"vae": ["diffusers", "AutoencoderTiny"], "_name": "x"}')
        main(["eval-vae", "pipe", "rgb.npz", "--subfolder", "vae"])
        measured = dict(line.split() for line in capsys.readouterr().out.splitlines())
        assert set(measured) == {"mse", "psnr", "energy_g", "energy_r"}
        assert 0 < float(measured["mse"]) < 0.2
        judge = ["--data", "all.npz", "--judge", "judges:judge", "--batch-size", "16"]
        main(["calibrate", "pipe", "--subfolder", "vae", *judge, "--eps", "0.005", "--keep", "1", "--save"])
        out = capsys.readouterr().out
        assert "uses it now" in out
        assert (
            f"eps = {IDAATransform.from_pretrained('pipe', subfolder='vae').eps:g} keeps retrieved of at least 1" in out
        )
        main(["demo", "--weights", "pipe", "--subfolder", "vae", "--steps", "1"])
        with pytest.raises(SystemExit, match=r'whole pipeline of diffusers; .*subfolder="vae" \(--subfolder vae\)'):
            main(["eval-vae", "pipe", "rgb.npz"])

    def test_shards_halves_and_pickles_of_diffusers(self, place):
        model = small_diffusers(place / "sharded", max_shard_size="20KB")
        assert list((place / "sharded").glob("*.index.json"))
        model.save_pretrained(place / "half", variant="fp16")
        model.save_pretrained(place / "pickled", safe_serialization=False)
        x, weights = torch.rand(2, 3, 8, 8), {}
        for name in ("sharded", "half"):
            aug = IDAATransform.from_pretrained(place / name, eps=0.05)
            weights[name] = aug.autoencoder.state_dict()
            assert aug(x, loss_fn=lambda v: v.square().sum()).shape == x.shape
        assert all(torch.equal(value, weights["half"][key]) for key, value in weights["sharded"].items())
        with pytest.raises(hub.WeightsError, match=r"pickle only \(diffusion_pytorch_model.bin\).*save_pretrained"):
            IDAATransform.from_pretrained(place / "pickled")
        next((place / "sharded").glob("*-00002-*")).unlink()
        with pytest.raises(hub.WeightsError, match="has no diffusion_pytorch_model-00002-"):
            IDAATransform.from_pretrained(place / "sharded")

    def test_on_another_default_device(self, place):
        x = torch.rand(4, 3, 19, 19)
        expected = IDAATransform.from_pretrained("./odd")(x, loss_fn=lambda v: v.square().sum())
        with torch.device("meta"):
            aug = IDAATransform.from_pretrained("./odd")
        assert torch.equal(aug(x, loss_fn=lambda v: v.square().sum()), expected)
        assert aug.stats()["attacked"] == 4


SAID = {
    "--epochs 0": "argument --epochs: 0 is not a whole number of at least 1",
    "--batch-size -3": "argument --batch-size: -3 is not a whole number",
    "--beta 0": "argument --beta: 0 is not a finite number above 0",
    "--lr nan": "argument --lr: nan is not a finite number above 0",
    "--lr inf": "argument --lr: inf is not",
    "--latent-dim 1.5": "argument --latent-dim: 1.5 is not a whole number",
    "--workers -1": "argument --workers: -1 is not a whole number of at least 0",
    "--device cuda:99": "--device cuda:99 cannot be used here",
    "--device gpu": "--device gpu cannot be used here",
}


class TestOneLine:
    @pytest.mark.parametrize("options", SAID)
    def test_numbers_are_checked_before_work_starts(self, options, tmp_path, capsys):
        with pytest.raises(SystemExit) as stop:
            main(["train-vae", "no-such-data.npz", "--out", str(tmp_path / "run"), *options.split()])
        said = capsys.readouterr().err or str(stop.value)
        assert SAID[options] in said
        assert said.startswith("idaa: ")
        assert said.strip().count("\n") == 0
        assert not (tmp_path / "run").exists()

    def test_a_batch_that_is_too_large_and_the_cure(self, toy, capsys):
        run = ["train-vae", "toy.npz", "--out", "run", *toy, "--batch-size"]
        with pytest.raises(SystemExit, match="40 training images do not fill a batch of 128; use --batch-size 40"):
            main([*run, "128"])
        train_by_command(*run[1:], "40")
        assert "of the variance of 16 test images" in capsys.readouterr().out

    def test_a_loss_that_is_not_finite_and_the_cure(self, toy):
        run = ["train-vae", "toy.npz", *toy, "--out"]
        with pytest.raises(SystemExit, match=r"idaa: the loss became (nan|inf) in epoch 1; .* smaller --lr"):
            main([*run, "run", "--lr", "1e30"])
        train_by_command(*run[1:], "other")

    def test_a_judge_that_raises(self, place, capsys):
        run = ["calibrate", "odd", "--data", "rgb.npz", "--judge", "judges:broken"]
        with pytest.raises(SystemExit, match=r"idaa: the judge judges:broken failed on images .*KeyError: 'my bug'"):
            main(run)
        with pytest.raises(ValueError, match="the judge"):
            main([*run, "--debug"])
        with pytest.raises(SystemExit, match=r"idaa: the judge judges:unbuilt cannot be built .*without arguments"):
            main([*run[:-1], "judges:unbuilt"])

    def test_saving_is_refused_before_anything_is_computed(self, place):
        run = ["--data", "no-such.npz", "--judge", "judges:judge", "--save"]
        with pytest.raises(SystemExit, match="cifar10-vae belongs to the package"):
            main(["calibrate", "cifar10-vae", *run])
        with pytest.raises(SystemExit, match="--save needs a folder of your own, and 'me/vae' is none"):
            main(["calibrate", "me/vae", *run])

    def test_an_error_of_ours(self, monkeypatch, capsys):
        def fault(*_):
            raise KeyError("x")

        monkeypatch.setattr(hub, "list_pretrained", fault)
        with pytest.raises(SystemExit, match=r"idaa: KeyError: 'x' \(test_commands.py, line \d+\).*--debug shows"):
            main(["list"])
        with pytest.raises(KeyError):
            main(["list", "--debug"])

    def test_version(self, capsys):
        with pytest.raises(SystemExit) as stop:
            main(["--version"])
        assert stop.value.code == 0
        assert capsys.readouterr().out == f"idaa {_version.__version__}\n"

    @pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
    def test_ctrl_c_and_sigterm_say_where_the_checkpoint_is(self, how, toy, tmp_path):
        options = [*toy[:-1], "2000"]
        command = [sys.executable, "-m", "idaa_transforms.cli", "train-vae", "toy.npz", "--out", "run", *options]
        # A shell starts what it sends to the background with Ctrl-C ignored, and children inherit that.
        listen = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
        pipes = {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL, "text": True}
        run = subprocess.Popen(command, preexec_fn=listen, **pipes)
        while not (tmp_path / "run" / "checkpoint.pt").exists():
            assert run.poll() is None
            time.sleep(0.05)
        run.send_signal(how)
        _, said = run.communicate(timeout=60)
        assert run.returncode == 130
        last = said.strip().splitlines()[-1]
        assert re.fullmatch(r"idaa: stopped; run/checkpoint.pt has what \d+ epochs have learned, .*", last)
        assert "Traceback" not in said


def test_arrays_of_another_size_are_fitted(place):
    from idaa_transforms._commands.common import _fit

    images = torch.arange(10 * 20, dtype=torch.uint8).view(1, 1, 10, 20)
    assert torch.equal(_fit(images, (10, 10)), images[..., 5:15])
    assert _fit(images, (40, 10)).shape == (1, 1, 40, 10)


def test_nothing_is_converted_into_a_folder_that_holds_something(place):
    before = {name: os.stat(place / "odd" / name).st_mtime_ns for name in os.listdir(place / "odd")}
    with pytest.raises(SystemExit, match="odd is there and not empty"):
        main(["convert", "no.pth", "odd"])
    assert {name: os.stat(place / "odd" / name).st_mtime_ns for name in before} == before


def test_no_images_at_all(place):
    np.savez("none.npz", x_train=np.zeros((0, 16, 16, 3), np.uint8), x_test=np.zeros((0, 16, 16, 3), np.uint8))
    with pytest.raises(SystemExit, match="idaa: "):
        main(["train-vae", "none.npz", "--out", "run"])
