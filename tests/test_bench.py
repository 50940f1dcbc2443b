"""The speed suites run, and their page says what they measured. How fast anything is, is not tested."""

import json
import sys

import pytest
import torch
from torch import nn

from benchmarks import bench as program
from benchmarks import harness, workload
from benchmarks.suites import startup, targets
from benchmarks.workload import Workload

pytestmark = pytest.mark.slow


@pytest.fixture
def bench(monkeypatch, tmp_path, capsys):
    """Run one suite, small; returns the median of each case, the lines of its table by their start, and the page."""
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    small = lambda *_, **__: nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.Flatten(), nn.LazyLinear(64))  # noqa: E731
    monkeypatch.setattr(workload, "resnet", small)
    monkeypatch.setattr(targets, "resnet50", small)
    monkeypatch.setattr(startup, "CASES", {name: startup.CLOCK.format("pass") for name in startup.IMPORTS})

    def run(suite, *arguments):
        options = ["--suites", suite, "--batch", "2", "--repeats", "2", *arguments]
        monkeypatch.setattr(sys, "argv", ["bench.py", *options])
        program.main()
        rows = json.loads((tmp_path / "speed" / f"cpu-{suite}.json").read_text())["rows"]
        rows = [row for row in rows if row.get("vae_dtype", "float32") == "float32"]
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
        cells = {line.split(" | ")[0].strip("| "): [cell.strip() for cell in line.split("|")[1:]] for line in lines}
        assert all(line in (tmp_path / "speed" / "speed.md").read_text() for line in lines)
        return {(row["case"], row.get("weights", "")): row for row in rows}, cells

    return run


def test_targets(bench):
    rows, cells = bench("targets")
    times = {case: row["ms"]["median"] for (case, _), row in rows.items() if "ms" in row}
    assert len(cells) == 2 + len(targets.TARGETS)
    parts = sum(times[part] for part in ("E forward", "D forward", "D forward, recorded", "D backward to z"))
    assert float(cells["views by `grad=` over the sum of their bare parts"][2].split()[0]) == pytest.approx(
        times["IDAA, grad="] / parts, abs=0.01
    )
    assert cells["Python calls a view by `grad=`"][2].split()[0] == str(rows[targets.CALLS, ""]["count"])
    assert 10 < rows[targets.CALLS, ""]["count"] < 200


@pytest.mark.parametrize("suite", ["peers"])
def test_rows_have_time_and_memory(bench, suite):
    rows, cells = bench(suite)
    first = next(iter(rows.values()))["ms"]["median"]
    for (case, _), row in rows.items():
        assert cells[case][-2] == f"{row['ms']['median'] / first:.2f}"
        assert row["peak_mib"] > 0


@pytest.fixture
def work():
    work = Workload(4)
    work.model.eval()  # no batch statistics: a step is the same each time
    return work


def test_the_authors_order_gives_the_same_views(work):
    """What is compared in speed is equal in what it computes."""
    ours = work.idaa(work.x, loss_fn=work.nce_anew)
    theirs = work.authors_views()
    same = (ours - theirs).abs().amax((1, 2, 3)) < 1e-5  # a gradient of nearly zero may change its sign
    assert same.float().mean() >= 0.75
    assert (ours - theirs).abs().mean() < 1e-3


def test_sharing_a_forward_changes_no_gradient(work):
    def gradients(view):
        work.step(view)()
        return [p.grad.clone() for p in work.model.parameters()]

    apart, shared = gradients("IDAA in place of view 1"), gradients("IDAA in place of view 1, sharing a forward")
    torch.testing.assert_close(shared, apart, atol=1e-5, rtol=1e-4)
