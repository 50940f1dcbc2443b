"""The lines of docs/recipes.md: all are Python, and those of each recipe run on tiny models."""

import re
from pathlib import Path
from types import SimpleNamespace

import lightly.loss
import lightly.models.utils
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from idaa_transforms import IDAATransform, objectives

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


def surroundings(name):
    """What the loop around the lines of a recipe has; by the number of a block what changes before it."""
    torch.manual_seed(1)
    x0, x1 = torch.rand(2, 8, 3, 32, 32)
    model, labels, local = embed(), torch.arange(8) % 6, torch.rand(8, 3, 24, 24)
    z0, z1, third = model(x0), model(x1), model(local := F.interpolate(local, 32))
    masked, normal = Masked(), {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    scope = {
        "aug": IDAATransform.from_pretrained("cifar10-vae-small"), "x0": x0, "x1": x1, "z0": z0, "z1": z1, "x": x0,
        "y": labels, "model": model, "F": F, "torch": torch, "device": "cpu", "objectives": objectives,
    }  # fmt: skip
    more = {
        "SimCLR, with any library": {"criterion": lightly.loss.NTXentLoss(), "IMAGENET_NORMALIZE": normal},
        "A loss with a queue: MoCo": {
            "keys": model(x1).detach(), "criterion": lightly.loss.NTXentLoss(0.2, memory_bank_size=(32, 6))
        },
        "Multi-crop: DINO and SwAV": {
            "global_crops": [x0, x1], "teacher_out": [z0.detach(), z1.detach()], "student_out": [z0, z1, third],
            "student": model, "criterion": lightly.loss.DINOLoss(6), 1: {
                "views": [x0, x1, local], "high_resolution": [z0, z1], "low_resolution": [third],
                "criterion": lightly.loss.SwaVLoss(),
            },
        },
        "Masked images: MAE": {
            "images": x0, "criterion": nn.MSELoss(), "predictions": masked(x0)[0], "targets": masked(x0)[1],
            "model": masked,
        },
        "Lightning": {"self": System(), "imgs": [x0.clone(), x1]},
        "kornia": {"self": System(), "x_aug": x0.clone()},
        "Supervised, with accelerate": {"accelerator": SimpleNamespace(device="cpu")},
        "timm's training script": {
            "data_config": {"mean": (0.5,) * 3, "std": (0.5,) * 3}, "input": x0, "target": labels,
            "loss_fn": nn.CrossEntropyLoss(), "loss": F.cross_entropy(z0, labels),
        },
    }  # fmt: skip
    return scope | more[name]


@pytest.mark.filterwarnings("ignore:images were declared to be normalised")
@pytest.mark.parametrize("name", list(RECIPES))
def test_the_lines_of_a_recipe_run(name):
    assert RECIPES[name]
    scope = surroundings(name)
    for i, block in enumerate(RECIPES[name]):
        scope |= scope.get(i, {})
        before = scope.get("loss")
        exec(compile(block, name, "exec"), scope)
        if scope.get("loss") is not before:
            scope["loss"].backward(retain_graph=True)
            assert all(p.grad is not None for p in scope["model"][0].parameters())
    hard = scope.get("hard", scope.get("imgs", [scope.get("x_aug")])[0])
    if name == "Lightning":
        assert scope["callback"].make_loss is scope["make_loss"]
    if name != "Supervised, with accelerate":
        assert hard.shape == scope["x0"].shape
        assert not torch.equal(hard, scope["x0"])
    if "queue" in name:
        assert int(scope["criterion"].memory_bank.bank_ptr) == 8  # it took each key once
