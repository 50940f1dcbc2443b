"""Code of users type-checks: that of README and the pages, under mypy --strict; and what is wrong is told."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/start.md", "docs/use.md", "docs/recipes.md")
# What the lines of a page, or of one of its recipes, find around them.
AROUND = """
from collections.abc import Callable
from typing import Any
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import v2
from kornia.augmentation import AugmentationSequential, RandomHorizontalFlip
from idaa_transforms import IDAATransform, objectives, preserve_state
from idaa_transforms.kornia import RandomIDAA
from idaa_transforms.losses import nt_xent
from idaa_transforms.random import fixed_randomness

aug: IDAATransform
x: Tensor; x0: Tensor; x1: Tensor; x2: Tensor; y: Tensor; z0: Tensor; z1: Tensor; z2: Tensor; hard: Tensor
masks: Tensor; loss: Tensor; keys: Tensor; images: Tensor; predictions: Tensor; targets: Tensor; x_aug: Tensor
input: Tensor; target: Tensor; imgs: list[Tensor]; global_crops: list[Tensor]; views: Any; flip: nn.Module
teacher_out: list[Tensor]; student_out: list[Tensor]; high_resolution: list[Tensor]; low_resolution: list[Tensor]
model: nn.Module; student: nn.Module; criterion: Any; device: torch.device; random: nn.Module; crop: Any
self: Any; accelerator: Any; data_config: dict[str, Any]; MEAN: list[float]; STD: list[float]
loss_fn: Callable[..., Tensor]; random_crop: nn.Module; IMAGENET_NORMALIZE: dict[str, list[float]]
"""
RIGHT = """
import torch
from torch import Tensor
from idaa_transforms import CLAETransform, Explanation, Guard, IDAATransform
from idaa_transforms.kornia import RandomIDAA

def f(views: Tensor) -> Tensor:
    return views.square().sum()

x: Tensor = torch.rand(4, 3, 32, 32)
aug = IDAATransform.from_pretrained("cifar10-vae", p=0.5).to("cpu")
aug.eps = 0.2
aug.norm, aug.steps, aug.guard = "l2", 3, Guard(f, 0.9)
views: Tensor = aug(x, loss_fn=f)
views = aug(x, grad=x, eps=torch.ones(4), generator=torch.Generator())
image, label = aug(x, 3, loss_fn=[f])
found: Explanation = aug.explain(x, f)
hard = RandomIDAA.from_pretrained("cifar10-vae", p=0.5)
views = hard(x, loss_fn=f)
views = hard.bind(f)(x)
views = CLAETransform(0.01)(x, loss_fn=f)
with aug.bound(f):
    views = aug(x)
"""
WRONG = """
aug.eps = "0.2"
aug.norm = "l1"
IDAATransform.from_pretrained("cifar10-vae", epsilon=0.1)
IDAATransform.from_pretrained("cifar10-vae", norm="l1")
IDAATransform.from_pretrained("cifar10-vae", random_start="uniform")
RandomIDAA.from_pretrained("cifar10-vae", start="zero")
CLAETransform(0.01, eps_unit="latent")
aug(x, loss=f)
aug(x, loss_fn=0.3)
number: int = aug(x, loss_fn=f)
found.view
"""


def blocks(page):
    """The Python blocks of a page, in one; of recipes, one for each."""
    parts = (ROOT / page).read_text().split("\n## ") if "recipes" in page else [(ROOT / page).read_text()]
    found = ["\n".join(re.findall(r"```python\n(.*?)```", part, flags=re.DOTALL)) for part in parts]
    return [code for code in found if code]


def test_code_of_users_under_mypy_strict(tmp_path):
    for page in PAGES:
        for i, code in enumerate(blocks(page)):
            (tmp_path / f"{Path(page).stem.lower()}_{i}.py").write_text(AROUND + code)
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(RIGHT + WRONG)
    config = tmp_path / "mypy.ini"
    config.write_text("[mypy]\nstrict = True\n[mypy-kornia.*,lightly.*,pytorch_lightning.*,torchvision.*]\n"
                      "ignore_missing_imports = True\nfollow_imports = skip\n")  # fmt: skip
    files = sorted(map(str, tmp_path.glob("*.py")))
    # Names that a page's own lines define again, and torch's own gaps, are no matter of this package.
    relaxed = ["--allow-redefinition", "--disable-error-code=no-redef", "--disable-error-code=no-untyped-call"]
    command = [sys.executable, "-m", "mypy", "--config-file", str(config), "--no-error-summary", *relaxed, *files]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert [line for line in errors if "wrong.py" not in line] == [], done.stdout
    first = len(RIGHT.splitlines()) + 1
    told = {int(line.split(":")[1]) for line in errors}
    assert told == set(range(first + 1, first + len(WRONG.splitlines()))), done.stdout
