"""The benchmarks run and write what their tables say. How fast anything is, is not tested."""

import importlib
import json
import shutil
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import mobilenet_v2

from benchmarks import defaults, harness, judges
from idaa_transforms import hub
from idaa_transforms.sample import cifar10_sample

pytestmark = pytest.mark.slow


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run a benchmark's main with arguments; returns its JSON and what it printed."""
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        importlib.import_module(f"benchmarks.{name}").main()
        (file,) = (tmp_path / "results").glob("*.json")
        return json.loads(file.read_text()), capsys.readouterr().out

    return run


def test_vae_sweep(run, tmp_path):
    images = (cifar10_sample()[0] * 255).round().byte().permute(0, 2, 3, 1).numpy()
    np.savez(tmp_path / "toy.npz", x_train=np.concatenate([images] * 3), x_test=images)
    options = ["--latent-dim", 2, 4, "--beta", 0.1, 6.4, "--epochs", 1, "--images", 128, "--runs", tmp_path / "runs"]
    result, out = run("vae_sweep", tmp_path / "toy.npz", *options)
    assert [(row["latent_dim"], row["beta"]) for row in result["rows"]] == [(2, 0.1), (2, 6.4), (4, 0.1), (4, 6.4)]
    assert result["settings"]["images"] == 128
    cell = f"| {result['rows'][0]['mse']:.3f} |"
    assert cell in out
    assert cell in (tmp_path / "results" / "vae-sweep.md").read_text()
    assert (tmp_path / "results" / "vae-sweep.png").read_bytes().startswith(b"\x89PNG")


def test_interleaved_medians():
    calls = []
    cases = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    measured = harness.measure(cases, repeats=5, device="cpu", warmup=1)
    assert sorted(calls) == ["a"] * 6 + ["b"] * 6
    assert all(set(calls[i : i + 2]) == {"a", "b"} for i in range(0, 12, 2))
    assert measured["a"]["min"] <= measured["a"]["q1"] <= measured["a"]["median"] <= measured["a"]["q3"]


def test_identity(run, tmp_path, monkeypatch, capsys):
    """With judges that learned for one step, and networks that did not learn at all."""
    images, labels = cifar10_sample()
    images = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    train = {"x_train": np.concatenate([images] * 4), "y_train": np.concatenate([labels] * 4)}
    np.savez(tmp_path / "cifar10.npz", x_test=images, y_test=labels, **train)
    for kind in ("supervised", "simclr"):
        monkeypatch.setattr(
            sys, "argv", ["judges.py", kind, str(tmp_path / "cifar10.npz"), "--epochs", "1", "--out", str(tmp_path)]
        )
        judges.main()
    save_file(judges.ResNet20().state_dict(), tmp_path / "resnet20.safetensors")
    torch.save(mobilenet_v2().state_dict(), tmp_path / "mobilenet.pth")
    files = ["--resnet20", tmp_path / "resnet20.safetensors", "--mobilenet", tmp_path / "mobilenet.pth"]
    options = ["--judges", tmp_path, "--images", 32, "--rows", tmp_path / "rows.jsonl", "--first", 6]
    result, out = run("identity", tmp_path, *files, *options)
    rows = result["rows"]
    assert [(row["method"], row["steps"]) for row in rows] == [("CLAE", 1)] * 5 + [("IDAA", 1)]
    assert all(row["images"] == 32 and row["gain"] > 0 for row in rows)
    assert rows[0]["l2"] < rows[4]["l2"] < rows[5]["l2"]
    assert all(row["simclr"]["retrieval_at_1"] * 32 % 1 == 0 for row in rows)  # a share of 32 images
    assert all(abs(row["mobilenet"]["transferred"]) < 2 for row in rows)
    assert "L2 / CLAE |" in out
    assert (tmp_path / "results" / "identity.png").read_bytes().startswith(b"\x89PNG")
    again, _ = run("identity", tmp_path, *files, *options)
    assert again["rows"] == rows
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 6

    shutil.copytree(hub.find("cifar10-vae-z128"), tmp_path / "weights")
    ours = (hub.find("cifar10-vae-z128") / "config.json").read_bytes()
    for place in (hub, hub.registry):  # where defaults.py and hub.load look
        monkeypatch.setattr(place, "find", lambda *_: tmp_path / "weights")
    np.savez(tmp_path / "cifar10.npz", x_test=np.concatenate([images] * 4), y_test=np.concatenate([labels] * 4))
    arguments = ["defaults.py", tmp_path, *files[:2], *options[:2], "--images", 215, "--weights", "cifar10-vae-z128"]
    monkeypatch.setattr(sys, "argv", list(map(str, arguments)))
    defaults.main()
    saved = json.loads((tmp_path / "weights" / "config.json").read_text())
    assert f"eps = {saved['transform']['eps']:g} keeps prediction_agreement" in capsys.readouterr().out
    assert saved["calibration"]["about"].startswith("215 test images of cifar10; attacked: ResNet-20")
    assert [row["eps"] for row in saved["calibration"]["curve"]] == [0.05, 0.1, 0.15, 0.2]
    monkeypatch.undo()
    assert (hub.find("cifar10-vae-z128") / "config.json").read_bytes() == ours
