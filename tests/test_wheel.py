"""What an installed wheel holds: the package, its sample images, its types, and weights that load."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def test_the_wheel_works_on_its_own(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 40e6
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    data = ("py.typed", "util/cifar10-test-64.png", "measure/report.html", "app/page.css")
    data += ("weights/cifar10-classifier/model.safetensors", "weights/cifar10-reference/model.safetensors")
    assert {f"idaa_transforms/{name}" for name in data} <= names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "weights"))]
    code = """
import idaa_transforms
from idaa_transforms import IDAATransform, hub
from idaa_transforms.sample import cifar10_sample
aug = IDAATransform.from_pretrained("cifar10-vae")
x = cifar10_sample()[0][:4]
print(idaa_transforms.__file__)
print(hub.find("cifar10-vae"))
print((aug(x, loss_fn=lambda v: v.square().sum()) != x).any().item())
"""
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    package, weights, moved = run.stdout.splitlines()
    assert package == str(tmp_path / "site" / "idaa_transforms" / "__init__.py")
    assert weights == str(tmp_path / "site" / "idaa_transforms" / "weights" / "cifar10-vae")
    assert moved == "True"
