"""The benchmarks of identity and of autoencoders run and write what their tables say."""

import importlib
import json
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import mobilenet_v2

from benchmarks import harness, reference_models
from benchmarks.identity_report import at_gain
from idaa_transforms.sample import cifar10_sample


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run a benchmark's main with arguments on toy.npz; returns its JSON and what it printed."""
    images, labels = cifar10_sample()
    images = (images * 255).round().byte().permute(0, 2, 3, 1).numpy()
    train = {"x_train": np.concatenate([images] * 4), "y_train": np.concatenate([labels] * 4)}
    np.savez(tmp_path / "toy.npz", x_test=images, y_test=labels, **train)
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    monkeypatch.chdir(tmp_path)

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        importlib.import_module(f"benchmarks.{name}").main()
        files = list((tmp_path / "results").glob("*.json"))
        return json.loads(files[0].read_text()) if files else None, capsys.readouterr().out

    return run


def test_cases_are_timed_in_turns():
    calls = []
    cases = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    measured = harness.measure(cases, repeats=5, device="cpu", warmup=1)
    assert sorted(calls) == ["a"] * 6 + ["b"] * 6
    assert all(set(calls[i : i + 2]) == {"a", "b"} for i in range(0, 12, 2))
    assert measured["a"]["min"] <= measured["a"]["q1"] <= measured["a"]["median"] <= measured["a"]["q3"]


def test_identity_at_equal_hardness_lies_on_the_line_between_two_eps():
    rows = [{"gain": 0.1, "kept": 0.9}, {"gain": 0.3, "kept": 0.5}]
    found = [at_gain(rows, gain, lambda row: row["kept"], 1.0) for gain in (0.0, 0.05, 0.1, 0.2, 0.3)]
    assert found == pytest.approx([1.0, 0.95, 0.9, 0.7, 0.5])
    assert np.isnan(at_gain(rows, 0.4, lambda row: row["kept"], 1.0))


@pytest.mark.slow
def test_identity(run, tmp_path):
    """With reference models that learned for one step, and networks that did not learn at all."""
    for kind in ("supervised", "simclr"):
        run("reference_models", kind, "toy.npz", "--epochs", 1, "--out", ".")
    save_file(reference_models.ResNet20().state_dict(), "resnet20.safetensors")
    torch.save(mobilenet_v2().state_dict(), "mobilenet.pth")
    options = ["--resnet20", "resnet20.safetensors", "--mobilenet", "mobilenet.pth", "--reference", "."]
    options += ["--images", 16, "--rows", "rows.jsonl", "--first"]
    result, _ = run("identity", "toy.npz", *options, 1)
    result, out = run("identity", "toy.npz", *options, 6)
    rows = result["rows"]
    assert [(row["method"], row["steps"]) for row in rows] == [("CLAE", 1)] * 5 + [("IDAA", 1)]
    assert all(row["images"] == 16 and row["gain"] > 0 for row in rows)
    assert rows[0]["l2"] < rows[4]["l2"] < rows[5]["l2"]
    assert all(row["simclr"]["retrieval_at_1"] * 16 % 1 == 0 for row in rows)  # a share of 16 images
    assert "L2 / CLAE |" in out
    assert (tmp_path / "results" / "identity.png").read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 6  # one of them was measured before
