"""The examples and the demo run as they stand, on real images and real weights."""

import runpy
import subprocess
import sys
from pathlib import Path
from statistics import linear_regression

import pytest

from idaa_transforms.cli import main

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = {path.stem: () for path in sorted(EXAMPLES.glob("[!_]*.py")) if path.stem != "accelerate_ddp"}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "arguments"), [*SCRIPTS.items(), ("simclr", ("loss_fn",))])
def test_an_example_learns(name, arguments):
    losses = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](*arguments)
    losses = losses[4:] if name == "lightly_moco" else losses  # while its queue fills, the task becomes harder
    # By the line through all steps, since each has images and views of its own.
    assert linear_regression(range(len(losses)), losses).slope < 0


@pytest.mark.slow
def test_accelerate_on_two_processes():
    launch = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command = [sys.executable, "-m", *launch, str(EXAMPLES / "accelerate_ddp.py")]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    losses = [float(line.split()[3]) for line in out if line.startswith("epoch")]
    assert len(losses) == 8
    assert linear_regression(range(len(losses)), losses).slope < 0
    assert out[-1].endswith("on 2 process(es)")


@pytest.mark.slow
def test_demo(tmp_path, capsys):
    main(["demo", "--out", str(tmp_path), "--steps", "8"])
    rows = {line[:12].strip(): line[12:].split() for line in capsys.readouterr().out.splitlines()}
    image, clae, hard = (float(rows[view][0]) for view in ("image", "CLAE view", "hard view"))
    assert hard > image
    assert clae > image
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_core_needs_no_extra_and_what_does_names_it():
    code = """
import sys
for extra in ("kornia", "timm", "matplotlib", "tqdm", "diffusers", "lightly", "pytorch_lightning"):
    sys.modules[extra] = None
import torch
from idaa_transforms import IDAATransform
x = torch.rand(2, 3, 32, 32)
assert not torch.equal(IDAATransform.from_pretrained("cifar10-vae")(x, loss_fn=lambda v: v.square().sum()), x)
for needed in (
    "import idaa_transforms.kornia",
    "from idaa_transforms.cli import main; main(['demo'])",
    "from idaa_transforms.autoencoders.diffusers import *; load_diffusers(None, 'VQModel')",
):
    try:
        exec(needed)
    except (ImportError, SystemExit) as error:
        print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    cures = [line.partition(" is needed for this: pip install ")[::2] for line in run.stdout.splitlines()]
    assert [cure for _, cure in cures] == [f"'idaa_transforms[{extra}]'" for extra in ("kornia", "train", "diffusers")]
