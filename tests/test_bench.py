"""The speed suites run, and the report says what they measured. How fast anything is, is not tested."""

import json
import sys

import pytest
import torch
from torch import nn

from benchmarks import bench as program
from benchmarks import harness
from benchmarks.suites import autoencoders, large, startup, views
from benchmarks.workload import Workload
from idaa_transforms import IDAATransform

pytestmark = pytest.mark.slow


@pytest.fixture
def bench(monkeypatch, tmp_path, capsys):
    """Run the benchmarks on one suite, small; returns the JSON, what it printed, and the folder of results."""
    monkeypatch.setattr(harness, "RESULTS", tmp_path)

    def run(suite, *arguments):
        options = ["--suites", suite, "--batch", 2, "--repeats", 2, *arguments]
        monkeypatch.setattr(sys, "argv", list(map(str, ["bench.py", *options])))
        program.main()
        file = tmp_path / "speed" / f"cpu-{suite}.json"
        return json.loads(file.read_text()), capsys.readouterr().out, file.parent

    return run


@pytest.fixture
def work():
    work = Workload(4)
    work.model.eval()  # no batch statistics: a step is the same each time
    return work


def medians(result):
    return {row["case"]: row["ms"]["median"] for row in result["rows"]}


def test_targets(bench):
    result, out, folder = bench("targets")
    times = medians({"rows": [row for row in result["rows"] if row["vae_dtype"] == "float32"]})
    line = next(line for line in out.splitlines() if line.startswith("| views by `grad=` over a two-view"))
    assert f"| 0.06 | {times['IDAA, grad='] / times['step: none']:.2f}" in line
    parts = [times["E forward"], 2 * times["D forward"], times["D backward to z"]]
    line = next(line for line in out.splitlines() if line.startswith("| views by `grad=` over the sum"))
    assert f"| 1.05 | {times['IDAA, grad='] / sum(parts):.2f}" in line
    assert (folder / "cpu.png").read_bytes().startswith(b"\x89PNG")
    assert line in (folder / "speed.md").read_text()


def test_steps(bench):
    result, out, _ = bench("steps")
    times = medians(result)
    ratio = times["IDAA, grad="] / times["none"]
    assert next(line for line in out.splitlines() if line.startswith("| IDAA, grad= |")).endswith(f"| {ratio:.2f} |")
    assert all(row["peak_mib"] > 1 for row in result["rows"] if row["case"][0] != "(")


def test_shield(bench):
    result, _, _ = bench("shield")
    rows = {row["case"]: row for row in result["rows"]}
    assert rows["the shield around a MoCo queue of 65,536 x 128"]["peak_mib"] < 1  # it is kept
    assert 0 < rows["the shield around the ResNet-50"]["peak_mib"] < 2


def test_views(bench, monkeypatch):
    monkeypatch.setattr(views, "AXES", {"steps": [1, 3], "chunk_size": [1]})
    result, _, _ = bench("views", "--batches", 1, 2)
    rows = [row for row in result["rows"] if row["case"] == "IDAA, grad="]
    assert [(row["axis"], row[row["axis"]]) for row in rows] == [
        ("batch", 1),
        ("batch", 2),
        ("steps", 1),
        ("steps", 3),
        ("chunk_size", 1),
    ]
    assert rows[0]["peak_mib"] < rows[1]["peak_mib"]


def test_peers(bench):
    result, _, _ = bench("peers")
    assert {"torchattacks FGSM", "torchattacks PGD, 5 steps", "CLAE, 5 steps", "kornia's random views"} <= set(
        medians(result)
    )


def test_autoencoders(bench, monkeypatch):
    def fewer(_device):
        plain = IDAATransform.from_pretrained("cifar10-vae-z128").autoencoder
        made = {"plain": plain, "batch norm folded": autoencoders.folded(plain)}
        return {name: IDAATransform(autoencoder) for name, autoencoder in made.items()}

    monkeypatch.setattr(autoencoders, "tuned", fewer)
    monkeypatch.setattr(autoencoders, "KL", {})
    result, _, _ = bench("autoencoders")
    plain, folded, *hub = result["rows"][4:]
    assert [row["batch"] for row in result["rows"][:4]] == [8, 8, 128, 128]
    assert plain["error_max"] == 0
    assert folded["error_same_delta_max"] < 1e-5
    assert [row["case"].endswith("chunk_size=1") for row in hub] == [False, True] * 2


def test_large(bench, monkeypatch):
    monkeypatch.setattr(large, "SIZE", 64)
    monkeypatch.setattr(autoencoders, "KL", {})
    names = ["cifar10-vae-small", "cifar10-vae-z128"]
    result, out, _ = bench("large", "--weights", *names)
    times = {
        (row["weights"], row["case"]): row["ms"]["median"] for row in result["rows"] if row["vae_dtype"] == "float32"
    }
    steps = times["", "SimCLR step of two views"]
    header = next(line for line in out.splitlines() if line.startswith("| ratio of medians"))
    columns = [cell.strip() for cell in header.split("|")]
    for name in names:
        column = columns.index(f"{name}, float32")
        for start, ratio in (
            ("| views by `grad=` over a two-view", f"{times[name, 'IDAA, grad='] / steps:.3f}"),
            ("| resampling over", f"{times[name, 'resampling'] / times[name, 'IDAA, grad=']:.2f}"),
        ):
            line = next(line for line in out.splitlines() if line.startswith(start))
            assert line.split("|")[column].split()[0] == ratio
    few = "IDAA, grad=, few images"
    assert times["", f"{few}, TAEF2"] > times[names[0], few]


def test_folding_is_exact():
    plain = IDAATransform.from_pretrained("cifar10-vae").autoencoder
    fused = autoencoders.folded(plain)
    norms = [sum(isinstance(m, nn.BatchNorm2d) for m in model.modules()) for model in (plain, fused)]
    assert norms[1] < norms[0]
    x = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(fused.encode(x).mean, plain.encode(x).mean, atol=1e-4, rtol=1e-4)
        z = plain.encode(x).mean
        torch.testing.assert_close(fused.decode(z), plain.decode(z), atol=1e-4, rtol=1e-4)


def test_processes(bench):
    result, _, _ = bench("processes")
    rows = {(row["case"], row["processes"]): row for row in result["rows"]}
    one, two = (rows["view: IDAA, grad=", count] for count in (1, 2))
    assert one["efficiency"] == 1
    assert two["efficiency"] == one["ms"]["median"] / two["ms"]["median"]
    assert two["images_per_second"] == pytest.approx(2 * 2 * 1e3 / two["ms"]["median"])


def test_startup(bench, monkeypatch):
    assert "load tiny-imagenet-vae" in startup.CASES
    monkeypatch.setattr(
        startup, "CASES", {"nothing": startup.CLOCK.format("pass"), "sleep": startup.CLOCK.format("time.sleep(1)")}
    )
    result, out, _ = bench("startup")
    times = medians(result)
    assert times["sleep"] >= 1000
    assert f"| sleep | {times['sleep']:.0f} (" in out


def test_the_authors_order_gives_the_same_views(work):
    """What is compared in speed is equal in what it computes."""
    ours = work.idaa(work.x, loss_fn=work.nce_anew)
    theirs = work.authors_views()
    same = (ours - theirs).abs().amax((1, 2, 3)) < 1e-5  # a gradient of nearly zero may change its sign
    assert same.float().mean() >= 0.75
    assert (ours - theirs).abs().mean() < 1e-3
    assert not any(p.requires_grad for p in work.idaa.autoencoder.parameters())


def test_sharing_a_forward_changes_no_gradient(work):
    def gradients(view):
        work.step(view)()
        return [p.grad.clone() for p in work.model.parameters()]

    apart, shared = gradients("IDAA in place of view 1"), gradients("IDAA in place of view 1, sharing a forward")
    for a, b in zip(apart, shared, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_views_from_the_steps_own_gradient_are_those_of_the_closure(work):
    x = work.x.detach().requires_grad_()
    work.nce(x).sum().backward()
    ours, shared = work.idaa(work.x, loss_fn=work.nce), work.idaa(work.x, grad=x.grad)
    torch.testing.assert_close(shared, ours, atol=1e-5, rtol=0)
