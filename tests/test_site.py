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
from conftest import tiny_vae
from kornia.augmentation import AugmentationSequential, RandomHorizontalFlip
from make_notebooks import FOLDER, notebook
from torch import nn
from torchvision.transforms import v2

import idaa_transforms
from idaa_transforms import IDAATransform, preserve_state
from idaa_transforms.kornia import RandomIDAA
from idaa_transforms.losses import nt_xent

ROOT = Path(__file__).parents[1]
TRACKED = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
PAGES = [ROOT / page for page in TRACKED.split()] or sorted((ROOT / "docs").glob("*.md"))
python = re.compile(r"```python\n(.*?)```", re.DOTALL).findall
BLOCKS = {page: python(page.read_text()) for page in PAGES}
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


class Net(nn.Module):
    def encode(self, images):
        return nn.functional.avg_pool2d(images, 8)

    def decode(self, latent):
        return nn.functional.interpolate(latent, scale_factor=8.0)


def around(*shape):
    """What the lines of a page, or of a docstring, find around them: a batch x of ``shape``, a model and its loss."""
    torch.manual_seed(0)
    x, model = torch.rand(4, *shape), nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.BatchNorm1d(8))
    anchor = model(x.flip(-1)).detach()
    loss = lambda v: nt_xent(model(v), anchor)  # noqa: E731
    return {
        "x": x, "model": model, "anchor": anchor, "z2": anchor, "nce": loss, "loss_fn": loss, "net": Net(), "step": 3,
        "masks": x[:, :1].round(), "hard": x, "flip": RandomHorizontalFlip(), "crop": nn.Identity(),
        "random_crop": v2.RandomCrop(32, padding=4), "MEAN": [0.5] * 3, "STD": [0.2] * 3, "v2": v2, "torch": torch,
        "nn": nn, "nt_xent": nt_xent, "IDAATransform": IDAATransform, "RandomIDAA": RandomIDAA,
        "preserve_state": preserve_state,
        "AugmentationSequential": AugmentationSequential, "RandomHorizontalFlip": RandomHorizontalFlip,
        "aug": IDAATransform.from_pretrained("cifar10-vae-small"),
    }  # fmt: skip


RUN_ELSEWHERE = [ROOT / page for page in ("README.md", "docs/start.md", "docs/method.md", "docs/recipes.md")]


@pytest.mark.parametrize(
    "page", [p for p in PAGES if BLOCKS[p] and p not in RUN_ELSEWHERE], ids=lambda p: str(p.relative_to(ROOT))
)
def test_the_lines_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    IDAATransform.from_pretrained("cifar10-vae-small").save_pretrained("my-vae")
    IDAATransform(tiny_vae((128,), channels=6), eps=0.2).save_pretrained("watch-vae")
    for section in page.read_text().split("\n## "):
        scope = around(*((6, 100) if page.name == "signals.md" else (3, 32, 32)))
        exec("\n".join(python(section)), scope)
        assert scope.get("views", scope["x"]).shape == scope["x"].shape


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
    example.globs |= around(3, 32, 32)
    out = []
    assert doctest.DocTestRunner().run(example, out=out.append, clear_globs=False).failed == 0, "".join(out)
    assert example.globs.get("views", example.globs["x"]).shape == (4, 3, 32, 32)
