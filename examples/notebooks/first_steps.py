"""
First steps
===========

From images to hard views in five minutes, on a CPU: what a view is made of, what eps does, and how to train with it.
"""

# %%
# Images, and a network
# ---------------------
#
# 64 test images of CIFAR-10 come with the package. Put your own in their place: float (B, 3, H, W) in [0, 1], of any
# size.

import matplotlib.pyplot as plt
import torch
from torch import nn

from idaa_transforms import IDAATransform
from idaa_transforms.losses import nt_xent
from idaa_transforms.sample import cifar10_sample

x, labels = cifar10_sample()
torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(3, 32, 3, 2, 1),
    nn.ReLU(),
    nn.Conv2d(32, 64, 3, 2, 1),
    nn.ReLU(),
    nn.AdaptiveAvgPool2d(4),
    nn.Flatten(),
    nn.Linear(1024, 64),
)
print(x.shape, model(x).shape)

# %%
# The loss to raise
# -----------------
#
# A view shall be hard for this network. What that means is a loss: here SimCLR's, which asks whether the network
# finds the mirrored image again among all others. ``detach`` says that the mirrored images stay as they are.

anchor = model(x.flip(3)).detach()


def loss_fn(views):
    return nt_xent(model(views), anchor, temperature=0.2)


# %%
# The view
# --------
#
# The weights come with the package. ``explain`` gives the views and everything that led to them; ``aug(x,
# loss_fn=loss_fn)`` gives the views alone.

aug = IDAATransform.from_pretrained("cifar10-vae-z128", eps=0.5)
found = aug.explain(x, loss_fn=loss_fn)
print(f"loss before {found.loss_before.mean():.2f}, after {found.loss_after.mean():.2f}")

# %%
# The VAE splits each image into a reconstruction G(x), which holds what it can say about the image, and the rest
# R(x). The view moves G(x), and leaves R(x) as it is.

rows = {
    "x": x,
    "G(x)": found.reconstruction,
    "R(x)": found.residual + 0.5,
    "x'": found.views,
    "4 (x' - x)": 4 * (found.views - x) + 0.5,
}


def show(rows, title):
    figure, axes = plt.subplots(len(rows), 8, figsize=(9, 1.1 * len(rows) + 0.4), squeeze=False)
    figure.suptitle(title)
    for line, (label, images) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(label, rotation=0, ha="right", va="center")
        for axis, image in zip(line, images[1:], strict=False):
            axis.imshow(image.clamp(0, 1).permute(1, 2, 0).numpy())
            axis.set(xticks=[], yticks=[])
    plt.show()


show(rows, "Images, reconstructions, residuals, hard views, and what changed")

# %%
# What eps does
# -------------
#
# A larger eps makes views harder. Some way on they no longer show the same thing.

show({f"eps {eps:g}": aug(x, loss_fn=loss_fn, eps=eps) for eps in (0.1, 0.5, 1.0, 2.0)}, "The same images as eps grows")

# %%
# Train with it
# -------------
#
# A training step with two random views has the gradient that a hard view needs. ``grad=`` takes it, and no further
# pass through the network is made. Here the random views are only mirrored and a little noisy.

optimiser, losses = torch.optim.Adam(model.parameters(), lr=1e-3), []
for _ in range(30):
    x1 = (x + 0.05 * torch.randn_like(x)).clamp(0, 1).requires_grad_()
    x2 = (x.flip(3) + 0.05 * torch.randn_like(x)).clamp(0, 1)
    z1, z2 = model(x1), model(x2)
    clean = nt_xent(z1, z2, 0.2).mean()
    (grad,) = torch.autograd.grad(clean, x1, retain_graph=True)
    hard = aug(x1.detach(), grad=grad)
    loss = clean + nt_xent(z1, model(hard), 0.2).mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    losses.append(loss.item())
print(f"loss of the first step {losses[0]:.2f}, of the last {losses[-1]:.2f}")

# %%
# Next: "SimCLR with kornia and IDAA", and "Calibrate on your own pictures", which finds the eps for your data.
