"""``idaa``: help, every command on every kind of weights, and one line for whatever goes wrong."""

import argparse
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import fitted, tiny_vae
from tiny_diffusers import TINY
from torch import nn
from toy_runs import PIXELS, save_arrays

from idaa_transforms import IDAATransform, _version, hub
from idaa_transforms.cli import _parser, main
from idaa_transforms.measure.models import load_model

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

    @pytest.mark.slow
    def test_torch_is_imported_when_it_is_used_and_the_package_gives_its_rooms(self):
        code = """
import sys
import idaa_transforms
from idaa_transforms.cli import main
for arguments in (["--version"], ["--help"], ["calibrate", "--help"], ["list"], []):
    try:
        main(arguments)
    except SystemExit:
        pass
    assert not {"torch", "numpy", "huggingface_hub"} & set(sys.modules), arguments
assert set(idaa_transforms.__all__) < set(dir(idaa_transforms))
idaa_transforms.measure.IdentityMeter, idaa_transforms.IDAATransform
from idaa_transforms import *
missing = [name for name in idaa_transforms.__all__ if name not in globals()]
assert not missing, missing
assert not hasattr(idaa_transforms, "IDAATransforms")"""
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)

    def test_version_and_list(self, capsys):
        with pytest.raises(SystemExit, match="0"):
            main(["--version"])
        assert capsys.readouterr().out == f"idaa {_version.__version__}\n"
        main(["list"])
        rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
        assert set(hub.PRETRAINED) < set(rows)
        parameters = sum(p.numel() for p in hub.load("cifar10-vae-small")[0].parameters())
        assert f" {parameters / 1e6:.2f} M " in rows["cifar10-vae-small"]


WRONG = {  # the smallest wrong use of each command
    "nonsense": (2, "argument COMMAND: invalid choice: 'nonsense'"),
    "demo --weights cifar-vae": (1, "unknown name 'cifar-vae'"),
    "app --port 0": (2, "argument --port: 0 is not a port from 1 to 65535"),
    "train-vae rgb.npz": (2, "the following arguments are required: --out; see idaa train-vae --help"),
    "eval-vae wide": (2, "the following arguments are required: data"),
    "eval-vae nowhere rgb.npz": (1, "unknown name 'nowhere'"),
    "inspect wide --data rgb.npz --reference none:x": (1, "'none:x' cannot be imported: ModuleNotFoundError"),
    "calibrate wide --data rgb.npz --reference models:none": (1, "has no attribute 'none'"),
    "calibrate wide --data rgb.npz --reference models.py:unbuilt": (1, "cannot be built by calling it without arg"),
    "calibrate odd --data rgb.npz --reference ~/models.py:broken": (1, "failed on images .*KeyError: 'my bug'"),
    "calibrate odd --data rgb.npz --reference no.py:x": (1, "there is no file .*no.py"),
    "calibrate odd --data rgb.npz --reference x --keep 2": (2, "argument --keep: 2 is not a share from 0 to 1"),
    "calibrate cifar10-vae --data no.npz --reference x --save": (1, "cifar10-vae belongs to the package"),
    "calibrate me/vae --data no.npz --reference x --save": (1, "--save needs a folder of your own, and 'me/vae' is"),
    "push nowhere me/vae": (1, "no folder 'nowhere'"),
    "convert no.pth out": (1, "no.pth"),
    "demo --device gpu": (1, "--device gpu cannot be used here"),
    "train-vae no.npz --out run --lr nan": (2, "argument --lr: nan is not a finite number above 0"),
    "demo --weights=": (2, "WEIGHTS is empty; see idaa --help"),
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

    def test_an_error_of_ours(self, monkeypatch, capsys):
        def fault(*_):
            raise KeyError("x")

        monkeypatch.setattr(hub, "list_pretrained", fault)
        assert re.match(r"idaa: KeyError: 'x' \(test_commands.py, line \d+\).*--debug shows", said(capsys, "list")[0])
        with pytest.raises(KeyError):
            main(["list", "--debug"])

    @pytest.mark.slow
    def test_when_it_is_stopped_it_says_where_the_checkpoint_is(self, toy, tmp_path):
        options = [*toy[:-1], "2000"]
        command = [sys.executable, "-m", "idaa_transforms.cli", "train-vae", "toy.npz", "--out", "run", *options]
        run = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        while not (tmp_path / "run" / "checkpoint.pt").exists():
            assert run.poll() is None
            time.sleep(0.05)
        run.terminate()
        _, text = run.communicate(timeout=60)
        assert run.returncode == 130
        last = text.strip().splitlines()[-1]
        assert re.match(r"idaa: stopped; run/checkpoint.pt has what \d+ epochs have learned", last)
        assert "Traceback" not in text


@pytest.mark.parametrize(
    ("arguments", "name", "expected"),
    [
        ("demo --out=~/d", "out", "d"),
        ("train-vae ~/rgb.npz --out=~/x", "out", "x"),
        ("train-vae ~/rgb.npz --out=~/x", "data", "rgb.npz"),
        ("eval-vae ~/wide ~", "weights", "wide"),
        ("inspect w --data=~/p --reference=~/m.py:f", "reference", "m.py:f"),
        ("push ~/wide me/vae", "folder", "wide"),
        ("convert ~/a.pth ~/out", "checkpoint", "a.pth"),
    ],
)
def test_home_is_expanded(arguments, name, expected, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert str(getattr(PARSERS[""].parse_args(arguments.split()), name)) == f"{tmp_path}/{expected}"


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


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["wide", "odd"])
def test_weights_are_measured_and_calibrated(weights, place, capsys):
    main(["eval-vae", weights, "rgb.npz"])
    assert re.search(r"mse +[\d.]+\n", capsys.readouterr().out)
    vae, _ = hub.load(f"./{weights}")  # a longer latent that has learned a little, so that there is an eps
    x = nn.functional.interpolate(PIXELS.float() / 255, size=vae.image_size)[:, : vae.channels]
    hub.save(fitted(tiny_vae(vae.image_size, 32, vae.channels), x), weights, {"eps": 0.2})
    reference = ["--data", "~/all.npz", "--reference", "~/models.py:flat", "--batch-size", "16", "--eps", "0.005"]
    main(["calibrate", f"~/{weights}", *reference, "--keep", "1", "--save"])
    out = capsys.readouterr().out
    assert f"eps = {IDAATransform.from_pretrained(f'./{weights}').eps:g} keeps retrieval_at_1 of at least 1" in out


@pytest.mark.slow
def test_a_pipeline_of_diffusers(place, capsys, monkeypatch):
    diffusers = pytest.importorskip("diffusers")
    monkeypatch.setattr("idaa_transforms.autoencoders.diffusers.explained_variance", lambda _: 1.0)  # it is untrained
    diffusers.AutoencoderTiny(**TINY["AutoencoderTiny"]).save_pretrained("pipe/vae")
    (place / "pipe" / "model_index.json").write_text('{"vae": ["diffusers", "AutoencoderTiny"], "_name": "x"}')
    main(["eval-vae", "pipe", "rgb.npz", "--subfolder", "vae"])
    measured = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert set(measured) == {"mse", "psnr", "energy_g", "energy_r", "explained"}
    line, _ = said(capsys, "eval-vae", "pipe", "rgb.npz")
    assert re.search(r'whole pipeline of diffusers; .*subfolder="vae" \(--subfolder vae\)', line)
