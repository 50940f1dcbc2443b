"""
Random, CLAE and IDAA
=====================

**What this teaches:** a random view is hard by chance. A CLAE view is hard because of noise that this network minds and
you do not. An IDAA view is hard because of shapes and colours, which you see too.

The number above each view is its loss: how hard the network finds it.
"""

import kornia.augmentation as K
import torch

from idaa_transforms import CLAETransform, IDAATransform, objectives
from idaa_transforms.measure import load_model
from idaa_transforms.sample import cifar10_sample, show

x, _ = cifar10_sample()
one = 13  # the image that is shown; the others are its negatives
network = load_model("cifar10-classifier")
loss_fn = objectives.simclr(network, network(x.flip(3)), temperature=0.2)
torch.manual_seed(1)
random_views = torch.nn.Sequential(
    K.RandomResizedCrop((32, 32), scale=(0.2, 1.0)), K.RandomHorizontalFlip(), K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8)
)

# %%
# Six random draws, and six strengths of each attack. The first eps of CLAE is that of the IDAA paper.

idaa, clae = IDAATransform.from_pretrained("cifar10-vae-small"), CLAETransform()
strengths = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
pixels = (0.006, 0.012, 0.025, 0.05, 0.1, 0.2)
made = {
    "image": [x],
    "random": [random_views(x) for _ in strengths],
    "CLAE": [clae(x, loss_fn=loss_fn, eps=eps) for eps in pixels],
    "IDAA": [idaa(x, loss_fn=loss_fn, eps=eps) for eps in strengths],
}
labels = {"image": [""], "random": [""] * 6, "CLAE": [f"eps {e:g}: " for e in pixels]}
labels["IDAA"] = [f"eps {e:g}: " for e in strengths]
captions = [
    [f"{label}{loss_fn(views)[one]:.2f}" for label, views in zip(labels[name], made[name], strict=True)]
    for name in made
]
show({name: [views[one] for views in row] for name, row in made.items()}, "The loss of each view", captions, size=1.2)

# %%
# What changed, each divided by its largest value. CLAE changes every pixel value by the same amount. IDAA changes what
# the autoencoder can express.

changes = {name: [(views - x)[one] for views in made[name]] for name in ("CLAE", "IDAA")}
show(
    {name: [0.5 + change / (2 * change.abs().max()) for change in row] for name, row in changes.items()},
    "What changed",
    size=1.2,
)
