"""The lines of docs/recipes.md: all are Python, and those of each recipe run on tiny models."""

import ast
import re
from pathlib import Path
from types import SimpleNamespace

import lightly.loss
import lightly.models.utils
import pytest
import torch
from torch import nn
from torch.nn import functional as F

pytestmark = pytest.mark.slow

TEXT = (Path(__file__).parents[1] / "docs/recipes.md").read_text()
RECIPES = {
    part.splitlines()[0]: re.findall(r"```python\n(.*?)```", part, flags=re.DOTALL) for part in TEXT.split("\n## ")[1:]
}


def embed():
    torch.manual_seed(0)
    pooled = nn.Conv2d(3, 4, 3, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(4)
    return nn.Sequential(*pooled, nn.Flatten(), nn.Linear(64, 6))


class Masked(nn.Module):
    """As lightly's MAE: what it says of the patches that it does not see, and what they are."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(16 * 16 * 3, 4), nn.ReLU(), nn.Linear(4, 16 * 16 * 3))

    def __getitem__(self, i):
        return self.inner

    def forward(self, images):
        patches = lightly.models.utils.patchify(images, 16)
        keep, mask = lightly.models.utils.random_token_mask(patches.shape[:2], mask_class_token=True)
        seen, hidden = (lightly.models.utils.get_at_index(patches, at) for at in (keep, mask))
        return self.inner(seen.mean(1, keepdim=True)).expand_as(hidden), hidden


class System(nn.Module):
    """What a recipe finds as ``self``."""

    def __init__(self):
        super().__init__()
        self.convnet, self.hparams = embed(), SimpleNamespace(temperature=0.1)

    def forward(self, x):
        return self.convnet(x)


# Of the tutorials' crops: lightly's multi-crop transform and MAE, Lightning's STL-10.
SIZES = {
    "Multi-crop: DINO": 224,
    "Multi-crop: SwAV": 224,
    "Masked images: MAE": 224,
    "Lightning: its SimCLR tutorial": 96,
}


def surroundings(name):
    """What the loop around the lines of a recipe has."""
    torch.manual_seed(1)
    size = SIZES.get(name, 32)
    x0, x1 = torch.rand(2, 8, 3, size, size)
    model, labels, local = embed(), torch.arange(8) % 6, torch.rand(8, 3, 96, 96)
    z0, z1, keys = model(x0), model(x1), model(x1).detach()
    masked = Masked()
    predictions, targets = masked(x0)
    simple = {"x": x0, "y": labels, "F": F, "device": "cpu", "model": model}
    return {
        "lightly: SimCLR": {"x0": x0, "z0": z0, "z1": z1, "criterion": lightly.loss.NTXentLoss(), **simple},
        "Losses with a queue: MoCo": {
            "x0": x0, "keys": keys, "criterion": lightly.loss.NTXentLoss(0.2, memory_bank_size=(32, 6)), **simple
        },
        "Multi-crop: DINO": {
            "global_crops": [x0, x1], "teacher_out": [z0.detach(), z1.detach()], "student_out": [z0, z1, model(local)],
            "student": model, "criterion": lightly.loss.DINOLoss(6), **simple,
        },
        "Multi-crop: SwAV": {
            "views": [x0, x1, local], "high_resolution": [z0, z1], "low_resolution": [model(local)],
            "criterion": lightly.loss.SwaVLoss(), **simple,
        },
        "Masked images: MAE": {
            "images": x0, "criterion": nn.MSELoss(), "predictions": predictions, "targets": targets, "device": "cpu",
            "model": masked,
        },
        "Lightning: its SimCLR tutorial": {"self": System(), "imgs": [x0, x1]},
        "kornia: its tutorial with Lightning": {"self": System(), "x_aug": x0, **simple},
        "solo-learn, and others that leave only hooks": {},
        "accelerate": {"accelerator": SimpleNamespace(device="cpu"), "loss": F.cross_entropy(z0, labels), **simple},
        "timm: its training script": {
            "data_config": {"mean": (0.5,) * 3, "std": (0.5,) * 3}, "input": x0, "target": labels,
            "loss_fn": nn.CrossEntropyLoss(), "loss": F.cross_entropy(z0, labels), **simple,
        },
    }[name]  # fmt: skip


@pytest.mark.parametrize("name", list(RECIPES))
def test_the_lines_of_a_recipe_run(name):
    assert RECIPES[name]
    scope = surroundings(name)
    before = scope.get("imgs", [scope.get("x_aug")])[0]
    for block in RECIPES[name]:
        exec(compile(block, name, "exec"), scope)
    if "loss" in scope:
        scope["loss"].backward()
        assert all(p.grad is not None for p in scope["model"][0].parameters())
    hard = scope.get("hard", scope.get("imgs", [scope.get("x_aug")])[0])
    if name.startswith("solo"):
        assert callable(scope["make_loss"])
        assert scope["callback"].make_loss is scope["make_loss"]
    else:
        assert hard.shape == (8, 3, *[SIZES.get(name, 32)] * 2)
        assert before is None or not torch.equal(hard, before)


def test_a_queue_takes_each_key_once():
    scope = surroundings("Losses with a queue: MoCo")
    for block in RECIPES["Losses with a queue: MoCo"]:
        exec(block, scope)
    assert int(scope["criterion"].memory_bank.bank_ptr) == 8


def test_nothing_that_a_recipe_uses_is_left_out():
    """Names of this package are imported in the recipe that uses them."""
    for name, blocks in RECIPES.items():
        tree = ast.parse("".join(blocks))
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        ours = {"IDAATransform", "RandomIDAA", "IDAACallback", "objectives", "info_nce", "branch"}
        assert used & ours <= imported, name
