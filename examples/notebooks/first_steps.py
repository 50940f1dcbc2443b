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

import torch
from torch import nn

from idaa_transforms import IDAATransform
from idaa_transforms.losses import nt_xent
from idaa_transforms.sample import cifar10_sample, show

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
# A loss says what is hard for this network. Here it is SimCLR's: does the network match the mirrored image among all
# others? ``detach``, because the mirrored images stay as they are.

anchor = model(x.flip(3)).detach()


def loss_fn(views):
    return nt_xent(model(views), anchor, temperature=0.2)


# %%
# The view
# --------
#
# The weights come with the package. ``explain`` returns the views and everything that led to them; ``aug(x,
# loss_fn=loss_fn)`` returns only the views.

aug = IDAATransform.from_pretrained("cifar10-vae-z128", eps=0.5)
found = aug.explain(x, loss_fn=loss_fn)
print(f"loss before {found.loss_before.mean():.2f}, after {found.loss_after.mean():.2f}")

# %%
# The VAE splits each image into a coarse reconstruction and the rest, the fine detail. The view moves the
# reconstruction and keeps the detail. Detail and change are shown around grey.

shown = slice(1, 9)
rows = {
    "image": x[shown],
    "reconstruction": found.reconstruction[shown],
    "detail": found.residual[shown] + 0.5,
    "hard view": found.views[shown],
    "change": (found.views - x)[shown] + 0.5,
}
show(rows, "The reconstruction moves, the detail stays")

# %%
# What eps does
# -------------
#
# A larger eps makes views harder, until they no longer show the same thing.

by_eps = {f"eps {eps:g}": aug(x, loss_fn=loss_fn, eps=eps)[shown] for eps in (0.1, 0.5, 1.0, 2.0)}
show(by_eps, "The same images as eps grows")

# %%
# Train with it
# -------------
#
# A training step with two random views already has the gradient that a hard view needs. ``grad=`` takes it, so the
# network is not run again. The random views here are only mirrored and a little noisy.

optimiser, losses = torch.optim.Adam(model.parameters(), lr=1e-3), []
for _ in range(20):
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
