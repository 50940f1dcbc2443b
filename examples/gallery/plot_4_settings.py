"""
Norm, steps, scale and target gain
==================================

**What this teaches:** the same rise of the loss costs the less change, the better delta is chosen: by several steps,
or in units of the posterior; and where you know the loss that you want, ask for that instead of an eps.
"""

import torch
from network import loss_of, show

from idaa_transforms import IDAATransform
from idaa_transforms.sample import cifar10_sample

x, _ = cifar10_sample()
loss_fn = loss_of(x)
vae = IDAATransform.from_pretrained("cifar10-vae").autoencoder
one = 23


def view(**settings):
    """The view of the one image, with its loss and how far it is from the image."""
    made = IDAATransform(vae, **settings)(x, loss_fn=loss_fn)
    with torch.no_grad():
        return made[one], f"{loss_fn(made)[one].item():.2f}, {(made - x)[one].norm().item():.2f}"


# %%
# Each row changes one setting. Above each view: its loss, and the length of the change. The image itself comes first,
# with the loss that it has.

with torch.no_grad():
    own = f"{loss_fn(x)[one].item():.2f}"
rows = {
    'norm="linf", eps .2, .5, 1': [view(eps=eps) for eps in (0.2, 0.5, 1.0)],
    'norm="l2", eps 2, 5, 10': [view(eps=eps, norm="l2") for eps in (2.0, 5.0, 10.0)],
    "eps .5, steps 1, 3, 10": [view(eps=0.5, steps=steps) for steps in (1, 3, 10)],
    "random_start=True, eps .2, .5, 1": [view(eps=eps, random_start=True, steps=2) for eps in (0.2, 0.5, 1.0)],
    'posterior, "l2", eps 3, 7, 15': [view(eps=eps, norm="l2", eps_unit="posterior") for eps in (3.0, 7.0, 15.0)],
    "eps 1, target_gain .2, .5, 1": [view(eps=1.0, target_gain=gain) for gain in (0.2, 0.5, 1.0)],
}
show(
    {name: [x[one], *(image for image, _ in made)] for name, made in rows.items()},
    "One image under each setting: loss, and length of the change",
    [[own, *(text for _, text in made)] for made in rows.values()],
    size=1.2,
)

# %%
# ``target_gain`` is to first order: what the slope at the image promises. The loss is curved, so it comes out at a
# little less or more.
