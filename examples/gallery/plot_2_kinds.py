"""
Random, CLAE and IDAA
=====================

**What this teaches:** a random view is hard by chance; CLAE is hard by noise that this network minds and you do not;
IDAA is hard by shapes and colours, which you see as well.

One image. The number above each view is its loss: how hard the network finds it.
"""

import torch
from network import loss_of, random_views, show

from idaa_transforms import CLAETransform, IDAATransform
from idaa_transforms.sample import cifar10_sample

x, _ = cifar10_sample()
one = 12  # which image is shown; the others are its negatives
loss_fn = loss_of(x)
torch.manual_seed(1)


def captioned(views):
    """The view of the one image, and its loss."""
    with torch.no_grad():
        return views[one], f"{loss_fn(views)[one].item():.2f}"


# %%
# Six random draws, and six strengths of the two attacks. The first of CLAE is the eps of the IDAA paper.

idaa, clae = IDAATransform.from_pretrained("cifar10-vae"), CLAETransform()
strengths = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
pixels = (0.006, 0.012, 0.025, 0.05, 0.1, 0.2)
made = {
    "x": [captioned(x)],
    "random": [captioned(random_views(x)) for _ in range(6)],
    "CLAE, eps .006 to .2": [captioned(clae(x, loss_fn=loss_fn, eps=eps)) for eps in pixels],
    "IDAA, eps .05 to 2": [captioned(idaa(x, loss_fn=loss_fn, eps=eps)) for eps in strengths],
}
show(
    {name: [image for image, _ in views] for name, views in made.items()},
    "One image: random views, CLAE and IDAA, with the loss of each",
    [[text for _, text in views] for views in made.values()],
    size=1.2,
)

# %%
# What changed, relative to eps. CLAE moves every value of a pixel by the same amount; IDAA moves what the VAE knows.

show(
    {
        "CLAE": [0.5 + (made["CLAE, eps .006 to .2"][i][0] - x[one]) / (4 * pixels[i]) for i in range(6)],
        "IDAA": [0.5 + (made["IDAA, eps .05 to 2"][i][0] - x[one]) / strengths[i] for i in range(6)],
    },
    "What changed, relative to eps",
    size=1.2,
)
