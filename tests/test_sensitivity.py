"""Figures 5 and 6 of the paper: each cell can be run, what is usual is run once, and the page says what was found."""

import json
import shlex
import sys
from pathlib import Path

import figures
import numpy as np
import pytest
import sensitivity
import sensitivity_report
from config import PLACE, configure

from examples.shared.table import read_runs
from idaa_transforms import IDAATransform
from idaa_transforms.util.sample import cifar10_sample

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("scale", figures.SCALES)
@pytest.mark.parametrize("axis", figures.AXES)
def test_a_cell_has_its_value_and_all_else_as_usual(scale, axis):
    option = {"batch": "batch_size", "epochs": "epochs", "eps": "eps"}.get(axis)
    usual = vars(configure(next(figures.cells(scale, "batch", ["none"])).options))
    usual |= {"batch_size": figures.SCALES[scale].usual["batch"]}
    names = set()
    for cell in figures.cells(scale, axis):
        config = vars(configure(cell.run(3)))
        assert (config["view"], config["seed"]) == (cell.view, 3)
        assert config["out"] == f"runs/sensitivity/{cell.name}--s3"
        moved = {name for name in config if config[name] != usual[name]} - {"view", "seed", "out"}
        if option:
            assert config[option] == cell.value
            assert moved <= {option}
        elif axis == "depth":
            assert moved <= {"backbone", "backbone_options"}
        else:
            assert moved <= {"weights"}
        names.add(cell.name)
    views = 1 if axis in figures.OF_IDAA else len(figures.VIEWS)
    flat = len(figures.VIEWS) - views
    assert len(names) == views * len(figures.SCALES[scale].values[axis]) + flat


def test_axes_share_what_is_usual():
    batch, epochs, eps = ({cell.name for cell in figures.cells("small", axis)} for axis in ("batch", "epochs", "eps"))
    assert batch & epochs == {f"small--{view}" for view in figures.VIEWS} == batch & eps


@pytest.fixture
def main(tmp_path, monkeypatch, capsys):
    """Run the command in an empty folder with 40 images; returns what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    Path("data").mkdir()
    images = (cifar10_sample()[0] * 255).round().byte().permute(0, 2, 3, 1).numpy()
    np.savez("data/cifar10.npz", x_train=images[:40], x_test=images[40:])

    def main(*words):
        monkeypatch.setattr(sys, "argv", ["sensitivity.py", "--results", "results", *words])
        sensitivity.main()
        return capsys.readouterr().out

    return main


def test_a_figure_from_the_command_line_to_the_page(main, tmp_path):
    """A VAE for each beta, then a network with each."""
    words = ["--figure", "beta", "--scale", "smoke", "--views", "idaa-grad"]
    main(*words)
    runs = {run["config"]["weights"]: run for run in read_runs(tmp_path / "results")}
    assert list(runs) == ["runs/vae/smoke-z4-beta0.4", "runs/vae/smoke-z4-beta1.6"]
    for weights, run in runs.items():
        vae = IDAATransform.from_pretrained(weights).autoencoder
        assert (vae.latent_dim, vae.beta) == (4, float(weights[-3:]))
        assert run["attack"]["attacked"] == 48
    text = (tmp_path / "results" / "table.md").read_text()
    assert "### beta of the VAE, --scale smoke" in text
    assert "| idaa-grad | 1.6 | 0 |" in text
    assert (tmp_path / "results" / "figure6-smoke.png").read_bytes().startswith(b"\x89PNG")
    assert main(*words).count("done already") == 2


def test_commands_are_listed_and_nothing_is_run(main, tmp_path):
    lines = main("--figure", "width", "--list", "--seeds", "0", "1").splitlines()
    vaes, networks = lines[:4], lines[4:]
    assert vaes[0].endswith("train-vae data/cifar10.npz --latent-dim 64 --beta 0.4 --out runs/vae/paper-z64-beta0.4")
    assert len(networks) == 2 * (4 + 3)
    for line in networks:
        configure(shlex.split(line)[2:])
    assert not (tmp_path / "runs").exists()


def fake(cell, seed, accuracy):
    """A result's content; the numbers are made up, to test the table's arithmetic."""
    config = {name: value for name, value in vars(configure(cell.run(seed))).items() if name not in PLACE}
    run = {"machine": "a CPU, no GPU", "commit": "abc1234", "date": "2026-01-01"}
    return {"run": run, "config": config, "metrics": dict.fromkeys(sensitivity_report.METRICS, accuracy)}


def test_the_page_has_means_over_seeds_and_no_panel_that_was_not_run(tmp_path):
    for axis in ("batch", "eps"):
        for cell in figures.cells("small", axis):
            for seed in (0, 1):
                content = fake(cell, seed, 0.3 + cell.value / 1000 + seed / 100)
                (tmp_path / f"{cell.name}--s{seed}.json").write_text(json.dumps(content))
    sensitivity_report.write(tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert "| clae | 64 | 0 1 | 36.9 ± 0.7 | 36.9 ± 0.7 |" in text
    assert "| idaa-grad | 0.5 | 0 1 | 30.6 ± 0.7 | 30.6 ± 0.7 |" in text
    assert "Commit abc1234; a CPU, no GPU; 2026-01-01." in text
    assert "### epochs" not in text
    assert sorted(file.name for file in tmp_path.glob("*.png")) == ["figure5-small.png", "figure6-small.png"]
    hours = next(line for line in text.splitlines() if "--figure depth`" in line)
    assert hours.startswith("| 5 | layers of the ResNet | 10, 18, 34, 50 |")
