"""The examples and the demo run as they stand, on real images and real weights."""

import re
import runpy
import subprocess
import sys
from pathlib import Path
from statistics import linear_regression

import pytest

from idaa_transforms.cli import main

EXAMPLES = Path(__file__).parents[1] / "examples"


ONE_FILE = sorted(path.stem for path in EXAMPLES.glob("[!_]*.py"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in ONE_FILE if n not in ("orders", "accelerate_ddp")])
def test_an_example_learns(name):
    losses = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]()
    losses = losses[4:] if name == "lightly_moco" else losses  # while its queue fills, the task becomes harder
    # By the line through all steps, since each has images and views of its own.
    assert linear_regression(range(len(losses)), losses).slope < 0


@pytest.mark.slow
def test_the_orders_differ_as_they_say():
    losses = {order: sum(each) for order, each in runpy.run_path(str(EXAMPLES / "orders.py"))["main"]().items()}
    assert losses["before"] > losses["random"]
    assert losses["inside"] > losses["after"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "launch",
    [
        ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"],
        ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"],
    ],
    ids=["accelerate launch", "torchrun"],
)
def test_accelerate_on_two_processes(launch):
    command = [sys.executable, "-m", *launch, str(EXAMPLES / "accelerate_ddp.py")]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    losses = [float(line.split()[3]) for line in out if line.startswith("epoch")]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert out[-1].endswith("on 2 process(es)")


@pytest.mark.parametrize("name", ONE_FILE)
def test_an_example_is_a_page_that_says_how_to_run_it(name):
    lines = (EXAMPLES / f"{name}.py").read_text().splitlines()
    assert len(lines) <= 70
    assert f"python examples/{name}.py" in [line.strip() for line in lines]


@pytest.mark.slow
def test_demo(tmp_path, capsys):
    main(["demo", "--out", str(tmp_path), "--steps", "8"])
    table = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.strip()}
    losses = {view: float(table[view][0]) for view in ("clean", "CLAE", "IDAA")}
    assert losses["IDAA"] > losses["clean"]
    assert losses["CLAE"] > losses["clean"]
    assert table["IDAA"][1] == "0.100"
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    commands = ("demo", "app", "train-vae", "eval-vae", "convert", "list", "push", "inspect")
    commands += ("calibrate",)
    listed = re.findall(r"^    ([\w-]+)\s", out, re.MULTILINE)
    assert sorted(listed) == sorted(commands)


def test_an_error_is_one_line(capsys):
    with pytest.raises(SystemExit, match="idaa: unknown name 'nonsense'"):
        main(["demo", "--weights", "nonsense", "--steps", "1"])


@pytest.mark.slow
def test_import_needs_no_extra(monkeypatch):
    """The core imports none of the extras."""
    code = """
import sys
for extra in ("kornia", "timm", "matplotlib", "tqdm", "diffusers", "lightly", "pytorch_lightning"):
    sys.modules[extra] = None
import torch, idaa_transforms
from idaa_transforms import IDAATransform
x = torch.rand(2, 3, 32, 32)
views = IDAATransform.from_pretrained("cifar10-vae")(x, loss_fn=lambda v: v.square().sum())
print((views != x).any().item())
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "True\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("missing", "call", "extra"),
    [
        ("kornia", "import idaa_transforms.kornia", "kornia"),
        ("timm", "from idaa_transforms.cli import main; main(['demo'])", "all"),
        ("matplotlib", "from idaa_transforms._util.pictures import save_grid; save_grid({}, None, '')", "plot"),
        (
            "diffusers",
            "from idaa_transforms.autoencoders.diffusers import *; load_diffusers(None, 'VQModel')",
            "diffusers",
        ),
    ],
)
def test_a_missing_extra_is_named(missing, call, extra):
    code = f"import sys; sys.modules[{missing!r}] = None; {call}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert f"{missing} is needed for this: pip install 'idaa_transforms[{extra}]'" in run.stderr
