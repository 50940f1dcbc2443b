"""The pages, the gallery and the notebooks. `make docs` builds the site, which is its own test."""

import ast
import doctest
import importlib
import pkgutil
import re
import subprocess
from pathlib import Path

import pytest
import torch
from check_links import broken
from make_notebooks import FOLDER, notebook
from torch import nn

import idaa_transforms
from idaa_transforms import IDAATransform
from idaa_transforms.losses import nt_xent

ROOT = Path(__file__).parents[1]
TRACKED = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
PAGES = [ROOT / page for page in TRACKED.split()] or sorted((ROOT / "docs").glob("*.md"))
BLOCKS = {page: re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL) for page in PAGES}
SCRIPTS = sorted(FOLDER.glob("*.py"))
FOUND = [each.name for each in pkgutil.walk_packages(idaa_transforms.__path__, "idaa_transforms.")]
MODULES = [name for name in FOUND if not name.startswith("idaa_transforms.app.")]  # which has an environment of its own


def anchors(page):
    """Of the headings, as a forge makes them."""
    headings = re.findall(r"^#+ +(.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


def dead_links(page):
    """Links within the repository that lead nowhere."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            yield link


def test_links_of_pages_lead_somewhere():
    assert {page.name: dead for page in PAGES if (dead := list(dead_links(page)))} == {}


def test_dead_links_of_a_built_site_are_found(tmp_path):
    (tmp_path / "a.html").write_text('<p id="here"></p><a href="b.html#there">x</a><a href="#here">y</a>')
    (tmp_path / "b.html").write_text('<a href="a.html#gone">x</a><img src="no%20picture.png"><a href="https://x.org">')
    assert broken(tmp_path) == ["a.html: b.html#there", "b.html: a.html#gone", "b.html: no%20picture.png"]


def test_what_a_page_imports_exists_and_is_public():
    for page in PAGES:
        for node in (node for block in BLOCKS[page] for node in ast.walk(ast.parse(block))):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("idaa_transforms"):
                module = importlib.import_module(node.module)
                names = [each.name for each in node.names]
                assert [each for each in names if not hasattr(module, each)] == []
                assert not any(part.startswith("_") for part in [*node.module.split("."), *names]), page.name


@pytest.mark.slow
def test_the_five_minutes_run(capsys):
    scope = {}
    for block in BLOCKS[ROOT / "docs/start.md"]:
        exec(block, scope)
    before, after = map(float, re.findall(r"tensor\(([\d.]+)", capsys.readouterr().out)[:2])
    assert after > before


def test_the_lines_of_readme_run():
    scope = {}
    for block in BLOCKS[ROOT / "README.md"]:
        exec(block, scope)
    assert scope["hard"].shape == scope["x1"].shape
    assert not torch.equal(scope["hard"], scope["x1"])


def test_the_method_is_that_of_the_library():
    """The lines of docs/method.md give the views that the transform gives."""
    torch.manual_seed(0)
    aug = IDAATransform.from_pretrained("cifar10-vae-small", eps=0.3)
    x, model = torch.rand(4, 3, 32, 32), nn.Sequential(nn.Flatten(), nn.Linear(3072, 8))
    anchor = model(x.flip(3)).detach()
    loss_fn = lambda v: nt_xent(model(v), anchor)  # noqa: E731
    with torch.no_grad():
        scope = {"torch": torch, "x": x, "eps": 0.3, "loss_fn": loss_fn, "E": aug.codec.encode}
    scope["D"] = lambda z: aug.codec.decode(z, x.shape)
    (block,) = BLOCKS[ROOT / "docs/method.md"]
    exec(block, scope)
    torch.testing.assert_close(scope["views"], aug(x, loss_fn=loss_fn), rtol=0, atol=1e-5)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_notebook_is_that_of_its_script(script):
    assert script.with_suffix(".ipynb").read_text() == notebook(script), "run python docs/make_notebooks.py"


EXAMPLES = [
    test
    for module in MODULES
    for test in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(module))
    if test.examples
]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda test: test.name)
def test_the_example_of_a_docstring_runs(example):
    from kornia.augmentation import AugmentationSequential, RandomHorizontalFlip

    torch.manual_seed(0)
    x, model = torch.rand(4, 3, 32, 32), nn.Sequential(nn.Flatten(), nn.Linear(3072, 8))
    anchor = model(x.flip(3)).detach()

    class Net(nn.Module):
        def encode(self, images):
            return nn.functional.avg_pool2d(images, 8)

        def decode(self, latent):
            return nn.functional.interpolate(latent, scale_factor=8.0)

    example.globs |= {
        "x": x, "model": model, "anchor": anchor, "nce": lambda v: nt_xent(model(v), anchor), "net": Net(), "step": 3,
        "nt_xent": nt_xent, "IDAATransform": IDAATransform, "AugmentationSequential": AugmentationSequential,
        "RandomHorizontalFlip": RandomHorizontalFlip, "aug": IDAATransform.from_pretrained("cifar10-vae-small"),
    }  # fmt: skip
    out = []
    assert doctest.DocTestRunner().run(example, out=out.append).failed == 0, "".join(out)
    assert example.globs.get("views", x).shape == x.shape
