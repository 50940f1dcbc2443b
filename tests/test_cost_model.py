"""The cost model counts what operators do, and its table says what it measured."""

import json
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import model

B, C, K, N = 2, 3, 4, 8  # images, channels in and out, pixels a side


@pytest.fixture
def total():
    """FLOPs and bytes of a call."""
    return lambda case: tuple(model.work_of(case).sum(0).tolist())


LAYERS = {
    "linear": (nn.Linear(10, 7), (B, 10), 2 * B * 10 * 7),
    "convolution": (nn.Conv2d(C, K, 3, padding=1), (B, C, N, N), 2 * B * N * N * C * K * 9),
    "transposed": (nn.ConvTranspose2d(C, K, 4, stride=2, padding=1), (B, C, N, N), 2 * B * N * N * C * K * 16),
}


@pytest.mark.parametrize("name", LAYERS)
def test_flops_forward_and_backward(total, name):
    """A backward to the input costs a forward; one to the weights as well costs two."""
    layer, shape, flops = LAYERS[name]
    x = torch.randn(shape, requires_grad=True)
    assert total(lambda: layer(x))[0] == flops
    loss = layer(x).sum()
    assert total(lambda: torch.autograd.grad(loss, x, retain_graph=True))[0] == flops
    assert total(lambda: torch.autograd.grad(loss, [x, *layer.parameters()]))[0] == 2 * flops


def test_bytes(total):
    x, y = torch.randn(B, C, N, N), torch.randn(B, C, N, N)
    n = x.nbytes
    moved = {
        "relu": (lambda: F.relu(x), 2 * n),
        "two of them": (lambda: F.relu(F.relu(x)), 4 * n),
        "sum of two": (lambda: x + y, 3 * n),
        "in place": (lambda: x.add_(y), 3 * n),
        "a list in place": (lambda: torch._foreach_add_([x, y], 1.0), 4 * n),
        "copied": (lambda: x.copy_(y), 2 * n),
        "filled": (lambda: x.zero_(), n),
        "new zeros": (lambda: torch.zeros(x.shape), n),
        "to half the width": (lambda: x.bfloat16(), 1.5 * n),
        "a broadcast scalar": (lambda: x + torch.ones(()).expand(x.shape), 4 + 4 + 2 * n),  # made, read, and x
        "views": (lambda: x.flatten(1).t()[1:].unsqueeze(0).expand(5, -1, -1).detach(), 0),
        "contiguous again": (lambda: x.transpose(1, 2).contiguous(), 2 * n),
        "allocated": (lambda: (torch.empty(5), torch.empty_like(x), x.new_empty(3)), 0),
    }
    assert {name: total(case)[1] for name, (case, _) in moved.items()} == {name: n for name, (_, n) in moved.items()}


def test_bytes_of_a_layer(total):
    layer, x = nn.Conv2d(C, K, 3, padding=1), torch.randn(B, C, N, N)
    weights = layer.weight.nbytes + layer.bias.nbytes
    assert total(lambda: layer(x))[1] == x.nbytes + weights + layer(x).nbytes


def test_bfloat16_halves_bytes_and_no_flops(total):
    chain, x = nn.Sequential(nn.Conv2d(C, K, 3), nn.ReLU(), nn.Flatten(), nn.Linear(K * 36, 5)), torch.randn(B, C, N, N)
    flops, moved = total(lambda: chain(x))
    chain, x = chain.bfloat16(), x.bfloat16()
    assert total(lambda: chain(x)) == (flops, moved / 2)


def test_parts_against_torch_and_views_against_their_parts(total):
    """FLOPs of each part are FlopCounterMode's, in both dtypes; a view asks for its parts and nothing more."""
    flops = {}
    for dtype in ("float32", "bfloat16"):
        load = model.Workload(2, dtype=dtype)
        for name, part in load.parts().items():
            with FlopCounterMode(display=False) as counter:
                part()
            assert counter.get_total_flops() == total(part)[0] == flops.setdefault(name, total(part)[0]) > 0
        for name, parts in model.VIEWS.items():
            nt_xent = 2 * 4 * 4 * 64 if "loss_fn" in name else 0  # the similarities of 4 embeddings
            assert total(load.views()[name])[0] == sum(flops[part] for part in parts) + nt_xent


@pytest.mark.slow
def test_main(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(model.harness, "RESULTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["model.py", "--batch", "2", "--repeats", "2"])
    model.main()
    result, out = json.loads((tmp_path / "speed" / "cpu-model.json").read_text()), capsys.readouterr().out
    machine, *rows = result["rows"]
    assert result["settings"]["batch"] == [2]
    assert f"{machine['gflop_s']['matrix product']:.0f} GFLOP/s in a matrix product" in out
    assert f"{machine['gb_s']:.0f} GB/s" in out
    assert len(rows) == 5 + len(model.VIEWS) + len(model.STEPS)
    for row in rows:
        ms, floor = row["ms"]["min"], row["predicted_ms"]
        assert f"| {row['case']} | {row['gflop']:.2f} | {row['mib']:.2f} | {floor:.2f} | {ms:.2f} |" in out
        compute = 1e3 * row["gflop"] / max(machine["gflop_s"].values())
        memory = 1e3 * row["mib"] * 2**20 / (1e9 * machine["gb_s"])
        assert max(compute, memory) <= floor * (1 + 1e-9) <= (compute + memory) * (1 + 2e-9)
    by_case = {row["case"]: row for row in rows}
    for view, parts in model.VIEWS.items():
        row = by_case[f"view: {view}"]
        assert row["parts_ms"] == pytest.approx(sum(by_case[part]["ms"]["min"] for part in parts))
        assert row["predicted_ms"] == pytest.approx(sum(by_case[part]["predicted_ms"] for part in parts))
    assert by_case["view: IDAA, grad="]["gflop"] < 0.05 * by_case[model.SIMCLR]["gflop"]
