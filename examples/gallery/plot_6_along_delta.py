"""
Along delta
===========

**What this teaches:** delta is a direction in the space of images: follow it, and shapes bend and colours turn while
the detail stays where it was.
"""

import base64
import io
from types import SimpleNamespace

import torch
from network import loss_of, show
from torchvision.transforms.v2.functional import resize, to_pil_image
from torchvision.utils import make_grid

from idaa_transforms import IDAATransform
from idaa_transforms.sample import CLASSES, cifar10_sample

x, labels = cifar10_sample()
aug = IDAATransform.from_pretrained("cifar10-vae", eps=1.0)
found = aug.explain(x, loss_fn=loss_of(x))
some = [1, 7, 12, 23, 13, 8]


def along(t: float) -> torch.Tensor:
    """The views of some images where delta is t times as long, and turned round where t < 0."""
    with torch.no_grad():
        image = aug.autoencoder.decode(found.latent[some] + t * found.delta[some])
    mean, std = (torch.tensor(values)[:, None, None] for values in (aug.autoencoder.mean, aug.autoencoder.std))
    return (found.residual[some] + image * std + mean).clamp(0, 1)


# %%
# From minus delta, which makes the image *easier*, through the image itself, to twice delta:

steps = (-1.0, 0.0, 0.5, 1.0, 1.5, 2.0)
show(
    {CLASSES[labels[i]]: [along(t)[row] for t in steps] for row, i in enumerate(some[:4])},
    "Four images along delta, eps 1",
    [[f"{t:g} delta" for t in steps]],
    size=1.2,
)

# %%
# The same as an animation, three times there and back:

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
