"""``idaa``: help, every command on every kind of weights, and one line for whatever goes wrong."""

import argparse
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import fitted, tiny_vae
from torch import nn
from toy_runs import PIXELS, save_arrays, train_by_command

from idaa_transforms import IDAATransform, _version, hub
from idaa_transforms.cli import _parser, main
from idaa_transforms.measure.models import ModelError, load_model

MODELS = """
from torch import nn


def flat():
    return nn.Flatten()


def broken():
    def network(x):
        raise KeyError("my bug")

    return network


def unbuilt(size):
    return nn.Flatten()
"""
PARSERS = {"": _parser()}
(ACTION,) = [action for action in PARSERS[""]._actions if isinstance(action, argparse._SubParsersAction)]
PARSERS |= ACTION.choices


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder, which is the home folder too, with images, models, and weights of many kinds."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "models.py").write_text(MODELS)
    save_arrays("rgb.npz")
    pixels = PIXELS.permute(0, 2, 3, 1).numpy()
    np.savez("all.npz", x_train=pixels[:1], x_test=pixels)
    for name, vae in (("wide", tiny_vae((16, 24), channels=1)), ("odd", tiny_vae(19))):
        hub.save(vae, name, {"eps": 0.2})
    return tmp_path


def said(capsys, *arguments):
    """What a command that fails prints, and its exit status."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(list(map(str, arguments)))
    if isinstance(stop.value.code, str):  # python prints it, with status 1
        return stop.value.code, 1
    return capsys.readouterr().err.rstrip("\n"), stop.value.code


class TestHelp:
    @pytest.mark.parametrize("name", PARSERS)
    def test_every_option_and_its_default(self, name, capsys):
        with pytest.raises(SystemExit, match="0"):
            main([*name.split(), "--help"])
        text = " ".join(capsys.readouterr().out.split())
        for action in PARSERS[name]._actions:
            assert action is ACTION or action.help
            assert all(option in text for option in action.option_strings)
            if action.option_strings and not action.required and action.default not in (None, False, "", []):
                assert action.default == argparse.SUPPRESS or f"default: {action.default}" in text

    def test_alone_it_prints_help(self, capsys):
        main([])
        assert capsys.readouterr().out == PARSERS[""].format_help()

    @pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["calibrate", "--help"], ["list"], []])
    def test_torch_is_not_imported_for_it(self, arguments):
        code = f"""
import atexit, sys
from idaa_transforms.cli import main
atexit.register(lambda: print(*sorted({{"torch", "numpy", "huggingface_hub"}} & set(sys.modules)), file=sys.stderr))
main({arguments})"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout
        assert done.stderr == "\n"

    def test_version_and_list(self, capsys):
        with pytest.raises(SystemExit, match="0"):
            main(["--version"])
        assert capsys.readouterr().out == f"idaa {_version.__version__}\n"
        main(["list"])
        rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
        assert set(hub.PRETRAINED) < set(rows)
        parameters = sum(p.numel() for p in hub.load("cifar10-vae-small")[0].parameters())
        assert f" {parameters / 1e6:.2f} M " in rows["cifar10-vae-small"]

    def test_names_are_imported_when_they_are_used(self):
        code = """
import sys
import idaa_transforms
assert "torch" not in sys.modules
assert set(idaa_transforms.__all__) < set(dir(idaa_transforms))
idaa_transforms.measure.IdentityMeter, idaa_transforms.IDAATransform
from idaa_transforms import *
missing = [name for name in idaa_transforms.__all__ if name not in globals()]
assert not missing, missing
assert not hasattr(idaa_transforms, "IDAATransforms")"""
        subprocess.run([sys.executable, "-c", code], check=True)


WRONG = {  # the smallest wrong use of each command
    "nonsense": (2, "argument COMMAND: invalid choice: 'nonsense'"),
    "demo --steps 0": (2, "argument --steps: 0 is not a whole number of at least 1; see idaa demo --help"),
    "demo --weights cifar-vae": (1, "unknown name 'cifar-vae'"),
    "app --port 0": (2, "argument --port: 0 is not a port from 1 to 65535"),
    "train-vae rgb.npz": (2, "the following arguments are required: --out; see idaa train-vae --help"),
    "train-vae no.npz --out run": (1, "no.npz"),
    "eval-vae wide": (2, "the following arguments are required: data"),
    "eval-vae wide no.npz": (1, "no.npz"),
    "eval-vae nowhere rgb.npz": (1, "unknown name 'nowhere'"),
    "inspect wide": (2, "the following arguments are required: --data, --reference"),
    "inspect wide --data rgb.npz --reference none:x": (1, "'none:x' cannot be imported: ModuleNotFoundError"),
    "calibrate wide --data rgb.npz --reference models:none": (1, "has no attribute 'none'"),
    "calibrate wide --data rgb.npz --reference models.py:unbuilt": (1, "cannot be built by calling it without arg"),
    "calibrate odd --data rgb.npz --reference ~/models.py:broken": (1, "failed on images .*KeyError: 'my bug'"),
    "calibrate odd --data rgb.npz --reference no.py:x": (1, "there is no file .*no.py"),
    "calibrate odd --data rgb.npz --reference x --keep 2": (2, "argument --keep: 2 is not a share from 0 to 1"),
    "calibrate cifar10-vae --data no.npz --reference x --save": (1, "cifar10-vae belongs to the package"),
    "calibrate me/vae --data no.npz --reference x --save": (1, "--save needs a folder of your own, and 'me/vae' is"),
    "list wide": (2, "unrecognized arguments: wide"),
    "push wide": (2, "the following arguments are required: repository"),
    "push nowhere me/vae": (1, "no folder 'nowhere'"),
    "convert no.pth": (2, "the following arguments are required: out"),
    "convert no.pth out": (1, "no.pth"),
    "convert no.pth odd": (1, "odd is there and not empty"),
    "demo --device gpu": (1, "--device gpu cannot be used here"),
    "demo --device cuda:99": (1, "--device cuda:99 cannot be used here"),
    "train-vae no.npz --out run --lr nan": (2, "argument --lr: nan is not a finite number above 0"),
    "train-vae no.npz --out run --beta 0": (2, "argument --beta: 0 is not a finite number above 0"),
    "train-vae no.npz --out run --workers -1": (2, "argument --workers: -1 is not a whole number of at least 0"),
    "train-vae no.npz --out=": (2, "argument --out: the path is empty; use . for the working folder"),
}


class TestOneLine:
    def test_wrong_uses(self, place, capsys):
        visible = lambda: {file.name for file in place.iterdir() if file.name[0] not in "._"}  # noqa: E731
        before = visible()
        for use, (status, message) in WRONG.items():
            line, code = said(capsys, *use.split())
            assert re.match(rf"idaa: .*{message}", line), (use, line)
            assert (code, line.count("\n")) == (status, 0), (use, line)
        assert visible() == before

    @pytest.mark.parametrize("empty", [["eval-vae", "wide", ""], ["eval-vae", "", "rgb.npz"], ["demo", "--weights="]])
    def test_empty_names(self, empty, place, capsys):
        assert re.fullmatch("idaa: (DATA|WEIGHTS) is empty; see idaa --help", said(capsys, *empty)[0])

    def test_a_loss_that_is_not_finite_and_the_cure(self, toy, capsys):
        run = ["train-vae", "toy.npz", *toy, "--out"]
        assert re.match(
            r"idaa: the loss became (nan|inf) in epoch 1; .* smaller --lr", said(capsys, *run, "a", "--lr", 1e30)[0]
        )
        train_by_command(*run[1:], "b")

    def test_an_error_of_ours(self, monkeypatch, capsys):
        def fault(*_):
            raise KeyError("x")

        monkeypatch.setattr(hub, "list_pretrained", fault)
        assert re.match(r"idaa: KeyError: 'x' \(test_commands.py, line \d+\).*--debug shows", said(capsys, "list")[0])
        with pytest.raises(KeyError):
            main(["list", "--debug"])

    @pytest.mark.slow
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
        _, text = run.communicate(timeout=60)
        assert run.returncode == 130
        last = text.strip().splitlines()[-1]
        assert re.match(r"idaa: stopped; run/checkpoint.pt has what \d+ epochs have learned", last)
        assert "Traceback" not in text


class TestPaths:
    @pytest.mark.parametrize(
        ("arguments", "name", "expected"),
        [
            (["demo", "--out=~/d"], "out", Path("d")),
            (["train-vae", "~/rgb.npz", "--out=~/x"], "out", Path("x")),
            (["train-vae", "~/rgb.npz", "--out=~/x"], "data", "rgb.npz"),
            (["eval-vae", "~/wide", "~"], "weights", "wide"),
            (["inspect", "w", "--data=~/p", "--reference=~/m.py:f", "--out=~/r"], "reference", "m.py:f"),
            (["inspect", "w", "--data=~/p", "--reference=~/m.py:f", "--out=~/r"], "out", Path("r")),
            (["push", "~/wide", "me/vae"], "folder", Path("wide")),
            (["convert", "~/a.pth", "~/out"], "checkpoint", Path("a.pth")),
        ],
    )
    def test_home_is_expanded(self, arguments, name, expected, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        value = getattr(PARSERS[""].parse_args(arguments), name)
        assert value == (tmp_path / expected if isinstance(expected, Path) else f"{tmp_path}/{expected}")
        assert type(value) is type(expected)


class TestModelsInFiles:
    """A file runs as ``python FILE.py`` would run it."""

    def test_dataclasses_and_neighbours(self, tmp_path, monkeypatch):
        monkeypatch.setattr(sys, "path", list(sys.path))
        (tmp_path / "own_helper.py").write_text("from torch import nn\nnet = nn.Flatten()\n")
        (tmp_path / "own_model.py").write_text(
            "from __future__ import annotations\n\nimport sys\nfrom dataclasses import dataclass\n\n"
            "from own_helper import net\n\n\n@dataclass\nclass Config:\n    width: int = 3\n\n\n"
            "assert sys.modules[__name__].Config is Config\n"
        )
        assert isinstance(load_model(f"{tmp_path}/own_model.py:net"), nn.Flatten)
        assert load_model(f"{tmp_path}/own_model.py:net") is sys.modules["own_helper"].net  # it ran once
        assert sys.modules["own_model"].Config().width == 3

    def test_two_files_of_one_name_and_one_with_a_mistake(self, tmp_path):
        for folder, size in (("a", 3), ("b", 4)):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "same_name.py").write_text(f"from torch import nn\nnet = nn.Linear({size}, 1)\n")
        sizes = [load_model(f"{tmp_path / folder}/same_name.py:net").in_features for folder in "abab"]
        assert sizes == [3, 4, 3, 4]
        (tmp_path / "mistaken.py").write_text("net = (")
        for _ in range(2):
            with pytest.raises(ModelError, match="cannot be imported: SyntaxError"):
                load_model(f"{tmp_path}/mistaken.py:net")
        assert "mistaken" not in sys.modules

    def test_they_are_frozen(self, place):
        (place / "nets.py").write_text("from torch import nn\nnet = nn.BatchNorm1d(3).train()\n")
        net = load_model("nets.py:net")
        assert not net.training
        assert not any(p.requires_grad for p in net.parameters())


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


@pytest.mark.slow
class TestKindsOfWeights:
    @pytest.mark.parametrize("weights", ["wide", "odd"])
    def test_measured_calibrated_and_shown(self, weights, place, capsys):
        main(["eval-vae", weights, "rgb.npz"])
        assert re.search(r"mse +[\d.]+\n", capsys.readouterr().out)
        vae, _ = hub.load(f"./{weights}")  # a longer latent that has learned a little, so that there is an eps
        x = nn.functional.interpolate(PIXELS.float() / 255, size=vae.image_size)[:, : vae.channels]
        hub.save(fitted(tiny_vae(vae.image_size, 32, vae.channels), x), weights, {"eps": 0.2})
        reference = ["--data", "~/all.npz", "--reference", "~/models.py:flat", "--batch-size", "16", "--eps", "0.005"]
        main(["calibrate", f"~/{weights}", *reference, "--keep", "1", "--save"])
        out = capsys.readouterr().out
        assert f"eps = {IDAATransform.from_pretrained(f'./{weights}').eps:g} keeps retrieval_at_1 of at least 1" in out
        main(["demo", "--weights", weights, "--steps", "1", "--out=~/d"])
        assert "IDAA" in capsys.readouterr().out
        assert (place / "d" / "demo.png").is_file()

    def test_diffusers(self, place, capsys):
        diffusers = pytest.importorskip("diffusers")
        torch.manual_seed(0)
        wide = {"encoder_block_out_channels": [16] * 2, "decoder_block_out_channels": [16] * 2}
        model = diffusers.AutoencoderTiny(**wide, num_encoder_blocks=[1] * 2, num_decoder_blocks=[1] * 2)
        x = PIXELS[:16].float() / 255 * 2 - 1
        optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
        for _ in range(120):  # until it explains half of the variance
            loss = nn.functional.mse_loss(model.decode(model.encode(x).latents).sample, x)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        model.save_pretrained("pipe/vae")
        (place / "pipe" / "model_index.json").write_text('{"vae": ["diffusers", "AutoencoderTiny"], "_name": "x"}')
        main(["eval-vae", "pipe", "rgb.npz", "--subfolder", "vae"])
        measured = dict(line.split() for line in capsys.readouterr().out.splitlines())
        assert set(measured) == {"mse", "psnr", "energy_g", "energy_r", "explained"}
        reference = ["--data", "all.npz", "--reference", "models:flat", "--batch-size", "16"]
        main(["calibrate", "pipe", "--subfolder", "vae", *reference, "--eps", "0.005", "--keep", "1", "--save"])
        eps = IDAATransform.from_pretrained("pipe", subfolder="vae").eps
        assert f"eps = {eps:g} keeps retrieval_at_1 of at least 1" in capsys.readouterr().out
        line, _ = said(capsys, "eval-vae", "pipe", "rgb.npz")
        assert re.search(r'whole pipeline of diffusers; .*subfolder="vae" \(--subfolder vae\)', line)


def test_arrays_of_another_size_are_fitted():
    from idaa_transforms._commands.common import _fit

    images = torch.arange(10 * 20, dtype=torch.uint8).view(1, 1, 10, 20)
    assert torch.equal(_fit(images, (10, 10)), images[..., 5:15])
    assert _fit(images, (40, 10)).shape == (1, 1, 40, 10)


def test_no_images_at_all(place, capsys):
    np.savez("none.npz", x_train=np.zeros((0, 16, 16, 3), np.uint8), x_test=np.zeros((0, 16, 16, 3), np.uint8))
    assert said(capsys, "train-vae", "none.npz", "--out", "run")[0].startswith("idaa: ")
    assert not os.path.exists("run/model.safetensors")
