"""
Along delta
===========

**What this teaches:** delta is a direction in the space of images. Along it, shapes bend and colours change while the
detail stays where it was.
"""

import base64
import io
from types import SimpleNamespace

import torch
from torchvision.transforms.v2.functional import resize, to_pil_image
from torchvision.utils import make_grid

from idaa_transforms import IDAATransform, objectives
from idaa_transforms.measure import load_model
from idaa_transforms.sample import CLASSES, cifar10_sample, show

x, labels = cifar10_sample()
aug = IDAATransform.from_pretrained("cifar10-vae-small", eps=0.5)
network = load_model("cifar10-classifier")
result = aug.explain(x, loss_fn=objectives.simclr(network, network(x.flip(3)), temperature=0.2))
some = [1, 7, 12, 23, 13, 8]


def along(t: float) -> torch.Tensor:
    """The views of some images with t times delta."""
    with torch.no_grad():
        image = aug.autoencoder.decode(result.latent[some] + t * result.delta[some])
    mean, std = (torch.tensor(values)[:, None, None] for values in (aug.autoencoder.mean, aug.autoencoder.std))
    return (result.residual[some] + image * std + mean).clamp(0, 1)


# %%
# From minus delta, which makes the image *easier*, to twice delta. Zero is the image itself.

steps = (-1.0, 0.0, 0.5, 1.0, 1.5, 2.0)
show(
    {CLASSES[labels[i]]: [along(t)[row] for t in steps] for row, i in enumerate(some[:4])},
    "Four images along delta, eps 0.5",
    [[f"{t:g} delta" for t in steps]],
    size=1.2,
)

# %%
# The same as an animation, three times to twice delta and back:

grids = [make_grid(along(t), nrow=6, padding=1, pad_value=0.5) for t in torch.linspace(0, 2, 13)]
there = [to_pil_image(resize(grid, [136, 796], 0)) for grid in grids]
file = io.BytesIO()
frames = there + there[-2:0:-1]
there[0].save(file, "WebP", save_all=True, append_images=frames[1:], duration=70, loop=3, quality=80)
picture = (
    '<img alt="Six images that bend along delta and come back" style="max-width: 100%" loading="lazy" '
    f'src="data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}">'
)
SimpleNamespace(_repr_html_=lambda: picture)  # what a page or a notebook shows
