"""The core alone, in an environment without any extra: make minimal. No pytest, which is an extra too."""

import importlib.util

import torch

from idaa_transforms import CLAETransform, IDAATransform
from idaa_transforms.sample import cifar10_sample

EXTRAS = ("kornia", "timm", "diffusers", "lightly", "matplotlib", "pytest")
found = [name for name in EXTRAS if importlib.util.find_spec(name)]
assert not found, f"{found} are installed: this is not a minimal environment"

x, labels = cifar10_sample()
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 10))


def loss_fn(views: torch.Tensor) -> torch.Tensor:
    """Per image."""
    return torch.nn.functional.cross_entropy(model(views), labels, reduction="none")


for aug in (IDAATransform.from_pretrained("cifar10-vae"), CLAETransform(0.006)):
    found = aug.explain(x, loss_fn=loss_fn)
    assert (found.loss_after > found.loss_before).float().mean() > 0.9, aug
    print(f"{aug}: loss {found.loss_before.mean():.3f} to {found.loss_after.mean():.3f}")
