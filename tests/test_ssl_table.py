"""run_table.py and report.py of examples/ssl: a grid at toy size, from the command line to the table."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import board
import board_report
import pytest
import report
import run_table
from config import PLACE
from train import train

from examples.shared import table


@pytest.fixture
def grid(tmp_path, monkeypatch):
    """Run a grid in an empty folder; returns the folder of results."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    ran = []
    original = subprocess.run

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["run_table.py", "--results", "results", *words])
        monkeypatch.setattr(subprocess, "run", lambda c, **k: ran.append(c) or original(c, **k))
        run_table.main()
        return tmp_path / "results"

    run.ran = ran
    return run


def test_a_grid_from_the_command_line_to_the_table(grid):
    """The package's own images and weights, in processes of their own; what is done is not done again."""
    results = grid("--scale", "smoke", "--views", "none", "third", "--", "--lr", "0.002")
    names = ["simclr-none-sample-smoke-s0-lr=0.002.json", "simclr-third-sample-smoke-s0-lr=0.002.json"]
    assert sorted(file.name for file in results.glob("*.json")) == names
    assert len(grid.ran) == 2
    grid("--scale", "smoke", "--views", "none", "third", "--", "--lr", "0.002")
    assert len(grid.ran) == 2

    row = json.loads((results / names[1]).read_text())
    assert set(row["run"]) == {"command", "commit", "machine", "versions", "date"}
    assert row["config"]["view"] == "third"
    assert row["hours"] > 0
    words = shlex.split(row["run"]["command"])
    assert words[1].endswith("train.py")
    again = train(run_table.configure([*words[2:], "--out", "again"]))  # one command reproduces any row
    assert again["metrics"] == row["metrics"]
    assert [line["loss"] for line in again["log"]] == [line["loss"] for line in row["log"]]


def fake(view, seed, accuracy, seconds, **config):
    """A result file's content. Numbers are made up to test the table's arithmetic, and nothing else."""
    told = vars(report.configure(["--view", view, "--scale", "small", "--seed", str(seed)]))
    told = {name: value for name, value in told.items() if name not in PLACE}
    log = [{"epoch": e, "cpu_seconds": seconds, "seconds": 1.0} for e in (1.0, 2.0)]
    metrics = dict.fromkeys(report.METRICS, accuracy)
    run = {"machine": "a CPU, no GPU", "commit": "abc1234", "date": "2026-01-01"}
    return {"run": run, "config": told | config, "metrics": metrics, "log": log}


def test_the_table_states_seeds_spread_and_time(tmp_path):
    runs = [fake("none", 0, 0.4, 10), fake("none", 1, 0.42, 10), fake("third", 0, 0.43, 15), fake("third", 1, 0.44, 15)]
    runs += [fake("idaa", 0, 0.44, 30), fake("idaa", 1, 0.45, 32), fake("idaa", 0, 0.5, 30, eps=0.3)]
    for i, run in enumerate(runs):
        (tmp_path / f"{i}.json").write_text(json.dumps(run))
    report.write(tmp_path)
    text = (tmp_path / "table.md").read_text()
    row = lambda start: next(line for line in text.splitlines() if line.startswith(start))  # noqa: E731
    assert "| 0 1 | 2 | 41.0 ± 1.4 |" in row("| none |")
    assert row("| idaa |  |").endswith("| 62 ± 3 |")
    assert "| eps 0.3 | 0 | 2 | 50.0 |" in row("| idaa | eps")
    assert row("| simclr | idaa |").startswith(
        "| simclr | idaa | 83.41 | not run | 46.78 | not run | 88.07 | not run |"
    )
    assert "Commit abc1234; a CPU, no GPU; 2026-01-01" in text


def test_a_cell_that_fails_is_named_and_does_not_stop_the_others(grid, tmp_path, capfd):
    with pytest.raises(SystemExit, match=r"failed:\n--method simclr --view none .*--epochs 1 --batch-size 999"):
        grid("--scale", "smoke", "--views", "none", "--", "--epochs", "1", "--batch-size", "999")
    assert "leave some empty" in capfd.readouterr().err


def test_the_board_gives_every_method_the_same_time(grid):
    """Costs, epochs that fit them, and the page, on the package's own images."""
    methods = ["untrained", "none", "third view .2"]
    results = grid("--board", "smoke", "--cells", *methods, "--seeds", "11")
    costs = board.known_costs("smoke", [*methods, "third view .1"], results)  # of a kind that is known
    assert costs["untrained"] == costs["none"] == 1
    assert costs["third view .1"] == costs["third view .2"] > 1
    runs = board_report.read(results, "smoke", deciding=True)
    assert {name: list(seeds) for name, seeds in runs.items()} == {name: [11] for name in methods}
    epochs = {name: seeds[11]["epochs"] for name, seeds in runs.items()}
    assert epochs == {"untrained": 0, "none": 2, "third view .2": round(2 / costs["third view .2"], 2)}
    assert not board_report.read(results, "smoke", deciding=False)
    text = (results / "board.md").read_text()
    assert "### smoke, seeds that decide" in text
    assert "| **third view .2** | 1 |" in text
    assert (results / "board.png").read_bytes().startswith(b"\x89PNG")


def test_the_papers_row_all_cells_side_by_side(grid, capsys):
    """At toy size from end to end; interrupted and started again; and what it computes, before it runs."""
    row = ["--board", "cifar10-paper-resnet18", "--cells", "none", "third view .1", "--seeds", "11"]
    toy = ["--", "--scale", "smoke", "--data", "sample"]
    grid(*row, "--dry", *toy)
    assert "| cifar10-paper-resnet18--third-view-.1--s11 | 6 |" in capsys.readouterr().out
    assert not grid.ran
    results = grid(*row, "--parallel", "2", *toy)
    assert len(grid.ran) == 2
    found = json.loads((results / "cifar10-paper-resnet18--none--s11.json").read_text())
    assert found["epochs"] == 2
    (results / "cifar10-paper-resnet18--none--s11.json").unlink()
    grid(*row, "--parallel", "2", *toy)
    assert len(grid.ran) == 3  # what is done is not done again
    assert "### cifar10-paper-resnet18, seeds that decide" in (results / "board.md").read_text()


def fake_runs(**methods):
    """Runs with these values of every measure, for seeds from 11 on."""
    return {
        name: {seed: {"metrics": dict.fromkeys(board_report.MEASURES, v / 100)} for seed, v in enumerate(values, 11)}
        for name, values in methods.items()
    }


def test_the_deviation_is_pooled_over_the_methods_of_a_setting():
    """By hand: squares 2 and .5 with 2 and 1 degrees of freedom; Student's t of 3 is 3.182."""
    runs = fake_runs(none=[10, 11, 12], third=[12, 13], latent=[20])
    deviation, freedom = board_report.pooled(runs, "knn_backbone")
    assert freedom == 3
    assert deviation == pytest.approx((2.5 / 3) ** 0.5)
    assert board_report.gain(runs, "third", "none", "knn_backbone") == "+1.5 ± 2.7"
    assert board_report.gain(fake_runs(none=[10], third=[12]), "third", "none", "knn_backbone") == "+2.0"


def test_methods_that_differ_in_numbers_alone_share_a_cost():
    kinds = {name: board.kind(name) for name in board.METHODS}
    assert kinds["both views .1"] == kinds["both views .2"] != kinds["third view .2"]
    assert kinds["none"] == kinds["none T .1"] == kinds["untrained"]
    assert len({kinds[name] for name in ("none", "third", "mixup .6", "quantize 8", "same-crop", "clae .006")}) == 6


def test_intervals_are_students():
    """By hand: of 1, 2 and 3 points the standard error is 1 / sqrt(3)."""
    assert table.interval([0.01, 0.02, 0.03]) == "+2.0 ± 2.5"  # 4.303 / sqrt(3)
    assert table.interval([0.01]) == "+1.0"
    assert table.students_t(14) == pytest.approx(2.145, abs=1e-3)  # as printed in textbooks
