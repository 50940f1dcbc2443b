"""An installed wheel holds the package, its data and its weights, and works on its own."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_the_wheel_works_on_its_own(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path)]
    subprocess.run([*build, str(Path(__file__).parents[1])], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 40e6
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    assert {"idaa_transforms/py.typed", "idaa_transforms/measure/report.html", "idaa_transforms/app/page.css"} <= names
    assert not [name for name in names if name.startswith(("tests", "benchmarks", "examples", "weights"))]
    code = """
import idaa_transforms
from idaa_transforms import demo, hub
from idaa_transforms.measure.classifiers import CLASSIFIERS, load_classifier
from idaa_transforms.sample import cifar10_sample
print(idaa_transforms.__file__)
x = cifar10_sample()[0][:4]
for name in CLASSIFIERS:
    load_classifier(name)(x)
for row in hub.list_pretrained():
    aug = idaa_transforms.IDAATransform.from_pretrained(row["name"])
    print(row["source"], (aug(x, grad=x - x.mean()) != x).any().item())
"""
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.stderr == ""
    package, *weights = run.stdout.splitlines()
    assert package == str(tmp_path / "site" / "idaa_transforms" / "__init__.py")
    assert set(weights) == {"the package True"}
