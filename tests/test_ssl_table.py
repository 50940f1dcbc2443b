"""run_table.py, report.py and the board of examples/ssl: grids at toy size, from the command line to the table."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import board
import board_report
import numpy as np
import pytest
import report
import run_table
import torch
import train
from config import PLACE, configure

from benchmarks import estimate
from examples.shared import grid, packed, table
from examples.shared.images import labelled_images
from idaa_transforms.sample import cifar10_sample

ROOT = Path(__file__).parents[1]
PAPER = ["--board", "cifar10-paper-resnet18", "--seeds", "11", "--parallel", "2", "--results", "results"]
TOY = ["--", "--scale", "smoke", "--data", "sample", "--weights", "cifar10-vae-small"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a grid in an empty folder, all its cells in this process; returns what train.py was told of each."""
    monkeypatch.chdir(tmp_path)
    ran = []

    def cell(command, **_):
        ran.append(command[2:])
        try:
            train.main(command[2:])
        except SystemExit as stop:
            print(stop.code, file=sys.stderr)
            return SimpleNamespace(returncode=1)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(grid, "subprocess", SimpleNamespace(run=cell))

    def run(*words):
        ran.clear()
        monkeypatch.setattr(sys, "argv", ["run_table.py", *words])
        run_table.main()
        return ran

    return run


def read(name):
    return json.loads((Path("results") / f"{name}.json").read_text())


@pytest.mark.slow
def test_a_grid_from_the_command_line_to_the_table(run):
    """What is done is not done again, and the command in each JSON makes it again."""
    words = ["--scale", "smoke", "--views", "none", "third", "--results", "results", "--", "--lr", "0.002"]
    assert len(run(*words)) == 2
    assert run(*words) == []
    row = read("simclr-third-sample-smoke-s0-lr=0.002")
    assert set(row["run"]) == {"command", "commit", "machine", "versions", "date"}
    assert (row["config"]["view"], row["images"]) == ("third", "sample")
    again = train.train(configure(["--view", "third", "--scale", "smoke", "--lr", "0.002", "--out", "again"]))
    assert again["metrics"] == row["metrics"]
    assert [line["loss"] for line in again["log"]] == [line["loss"] for line in row["log"]]
    assert "| third | lr 0.002 | 0 | 1 |" in Path("results/table.md").read_text()


def test_a_cell_that_fails_is_named_and_does_not_stop_the_others(run, capsys):
    with pytest.raises(SystemExit, match=r"failed:\n--method simclr --view none .*--batch-size 999"):
        run("--scale", "smoke", "--views", "none", "third", "--results", "results", "--", "--batch-size", "999")
    assert capsys.readouterr().err.count("leave some empty") == 2


@pytest.mark.slow
def test_the_board_gives_every_method_the_same_time(run):
    """Costs, epochs that fit them, and the page, on the package's own images."""
    methods = ["untrained", "none", "third view .2"]
    run("--board", "smoke", "--cells", *methods, "--seeds", "11", "--results", "results")
    results = Path("results")
    costs = board.known_costs("smoke", [*methods, "third view .1"], results)  # of a kind that is known
    assert costs["untrained"] == costs["none"] == 1
    assert costs["third view .1"] == costs["third view .2"] > 1
    runs = board_report.read(results, "smoke", deciding=True)
    epochs = {name: seeds[11]["epochs"] for name, seeds in runs.items()}
    assert epochs == {"untrained": 0, "none": 2, "third view .2": round(2 / costs["third view .2"], 2)}
    assert not board_report.read(results, "smoke", deciding=False)
    assert "| **third view .2** | 1 |" in (results / "board.md").read_text()
    assert (results / "board.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_papers_board_killed_in_the_middle(tmp_path, run):
    """All cells side by side, at toy size: the same command goes on, repeats nothing that is done, and each cell ends
    as it would have without."""
    command = [sys.executable, str(ROOT / "examples" / "ssl" / "run_table.py"), *PAPER, *TOY]
    told = tmp_path / "told"
    with told.open("w") as out:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        killed = subprocess.Popen(command, stdout=out, stderr=out, env=environment, start_new_session=True)
        while not (done := list(Path("results").glob("*.json"))):
            assert killed.poll() is None, told.read_text()
            time.sleep(0.05)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
    before = {file: file.read_bytes() for file in done}
    again = run(*PAPER, "--parallel", "1", *TOY)
    names = {f"cifar10-paper-resnet18--{name.replace(' ', '-')}--s11" for name in board.SETTINGS[PAPER[1]].epochs}
    assert {Path(words[-1]).name for words in again} == names - {file.stem for file in done}
    assert {file: file.read_bytes() for file in done} == before
    text = Path("results/board.md").read_text()
    assert "### cifar10-paper-resnet18, seeds that decide" in text
    assert all(f"{name}** | 1 |" in text or f"| {name} | 1 |" in text for name in board.SETTINGS[PAPER[1]].epochs)
    cell = board.cells(PAPER[1], board.epochs_of(PAPER[1], ["latent .1"], TOY[1:], tmp_path), [11], TOY[1:])[0]
    whole = train.train(configure([*cell, "--out", "whole"]))
    kept = read("cifar10-paper-resnet18--latent-.1--s11")["metrics"]
    assert kept == {name: round(value, 4) for name, value in whole["metrics"].items()}


@pytest.mark.slow
def test_every_method_of_a_board_is_planned(monkeypatch, capsys):
    """What a dry run prints is counted in a step of each."""
    monkeypatch.setattr(board, "load_data", lambda _: labelled_images("sample"))
    monkeypatch.setattr(sys, "argv", ["run_table.py", "--board", "cifar10-weak", "--seeds", "11", "--dry"])
    run_table.main()
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split(" | ")[0].split("--", 1)[1]: line.split(" | ") for line in lines if "--s11 |" in line}
    assert list(rows) == [f"{method.replace(' ', '-')}--s11" for method in board.METHODS]
    assert float(rows["third--s11"][2]) == pytest.approx(1.5 * float(rows["none--s11"][2]), rel=0.03)
    assert lines[-1].startswith("All of it: ")


def test_the_papers_board_is_counted_as_its_hours_are(monkeypatch):
    monkeypatch.setattr(board, "load_data", lambda _: labelled_images("sample"))
    work, _ = board.counted("cifar10-paper-resnet18", ["none", "third view .1"], ["--device", "cpu", "--no-bf16"])
    expected = [estimate.SSL.teraflop(view, 256) for view in ("none", "idaa-grad")]
    assert list(work.values()) == pytest.approx(expected, rel=0.02)


def test_commands_of_the_papers_page_are_understood(monkeypatch):
    """Each of them is run at toy size by a test of its own."""
    text, found = (ROOT / "docs" / "paper.md").read_text(), []
    monkeypatch.setattr(run_table, "run_grid", lambda cells, *_: found.extend(cells))
    for command in re.findall(r"`((?:python|torchrun) [^`]*examples/ssl/[^`]*)`", text):
        script, *words = shlex.split(command[command.index("examples/ssl/") :])
        if script.endswith("train.py"):
            found.append(words)
            continue
        monkeypatch.setattr(sys, "argv", ["run_table.py", *words])
        run_table.main()
    configs = list(map(configure, found))
    assert {(config.method, config.scale) for config in configs} >= {("uel", "paper"), ("simsiam", "imagenet")}


def test_progress_of_cells_side_by_side(tmp_path):
    (tmp_path / "a.out").write_text("epoch 1: 10%\rloss 5.1: 50%|##  | 5/10 [00:01<00:03, 2.0step/s]\n")
    (line,) = grid.progress([tmp_path / "a", tmp_path / "b"]).splitlines()
    assert line.split() == ["a", "loss", "5.1:", "50%|##", "|", "5/10", "[00:01<00:03,", "2.0step/s]"]


def test_packed_images(tmp_path, monkeypatch, capsys):
    """One JPEG, in which neighbours leave nothing in each other; results say what it cost."""
    x, y = cifar10_sample()
    images = (x * 255).round().byte()
    train, test = (part.permute(0, 2, 3, 1).numpy() for part in images.split([50, 14]))
    np.savez(tmp_path / "toy.npz", x_train=train, y_train=y[:50], x_test=test, y_test=y[50:])
    monkeypatch.setattr(sys, "argv", ["packed", str(tmp_path / "toy.npz"), str(tmp_path / "small.npz")])
    packed.main()
    found = labelled_images(str(tmp_path / "small.npz"))
    error = (torch.cat([found.train, found.test]).float() - images).square().mean()
    psnr = float(10 * torch.log10(255**2 / error))
    assert found.name == f"small.npz, JPEG of quality 94, PSNR {psnr:.1f} dB"
    assert f"PSNR {psnr:.2f} dB" in capsys.readouterr().out
    assert psnr > 34
    assert torch.equal(torch.cat([found.train_labels, found.test_labels]), y)
    alone = packed.unpack(packed.pack(images[3:4], 94), 1, 32)
    assert torch.equal(alone[0], found.train[3])
    with pytest.raises(ValueError, match="images of 30 do not fill"):
        packed.pack(images[..., :30, :30], 90)


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


def test_every_method_has_a_file_that_the_report_finds(tmp_path):
    for name, words in zip(board.METHODS, board.cells("smoke", dict.fromkeys(board.METHODS, 1), [30], []), strict=True):
        (tmp_path / f"{Path(words[-1]).name}.json").write_text(json.dumps(name))
    found = board_report.read(tmp_path, "smoke", deciding=False)
    assert found == {name: {30: name} for name in board.METHODS}


def test_the_table_states_seeds_spread_and_time(tmp_path):
    """Numbers are made up to test the table's arithmetic, and nothing else."""
    for i, (view, accuracy, seconds, eps) in enumerate(
        [("none", 0.4, 10, 0.1), ("none", 0.42, 10, 0.1), ("idaa", 0.44, 30, 0.1), ("idaa", 0.5, 32, 0.3)]
    ):
        config = vars(configure(["--view", view, "--scale", "small", "--seed", str(i), "--eps", str(eps)]))
        config = {name: value for name, value in config.items() if name not in PLACE}
        log = [{"epoch": e, "cpu_seconds": seconds, "seconds": 1.0} for e in (1.0, 2.0)]
        origin = {"machine": "a CPU, no GPU", "commit": "abc1234", "date": "2026-01-01"}
        content = {"run": origin, "config": config, "metrics": dict.fromkeys(report.METRICS, accuracy), "log": log}
        (tmp_path / f"{i}.json").write_text(json.dumps(content))
    report.write(tmp_path)
    text = (tmp_path / "table.md").read_text()
    assert "| none |  | 0 1 | 2 | 41.0 ± 1.4 |" in text
    assert "| idaa | eps 0.3 | 3 | 2 | 50.0 |" in text
    assert "| 64 |\n" in text
    assert "Commit abc1234; a CPU, no GPU; 2026-01-01" in text


def test_intervals_are_students():
    """By hand: of 1, 2 and 3 points the standard error is 1 / sqrt(3)."""
    assert table.interval([0.01, 0.02, 0.03]) == "+2.0 ± 2.5"  # 4.303 / sqrt(3)
    assert table.interval([0.01]) == "+1.0"
    assert table.students_t(14) == pytest.approx(2.145, abs=1e-3)  # as printed in textbooks
