"""
SimCLR with kornia and IDAA
===========================

Random augmentation by kornia and a hard view in the same pipeline, in a training loop that is small enough for a CPU.
"""

# %%
# The pipeline
# ------------
#
# ``RandomIDAA`` is a kornia augmentation like the others: it has ``p``, passes masks through unchanged, and can be
# replayed. Put it after the random ones, so that nothing random comes between the attack and the network.

import kornia.augmentation as K
import matplotlib.pyplot as plt
import torch
from torch import nn

from idaa_transforms import objectives
from idaa_transforms.kornia import RandomIDAA
from idaa_transforms.losses import nt_xent
from idaa_transforms.sample import cifar10_sample

random = (K.RandomResizedCrop((32, 32), scale=(0.2, 1.0)), K.RandomHorizontalFlip(), K.ColorJitter(0.4, 0.4, 0.4, 0.1))
two_views = K.AugmentationSequential(*random, data_keys=["input"])
hard = RandomIDAA.from_pretrained("cifar10-vae-small", eps=0.5, p=1.0)
third_view = K.AugmentationSequential(*random, hard, data_keys=["input"])

# %%
# The network
# -----------
#
# Yours goes here. An attack does not change it: no gradient, no buffer, no flag.

x, _ = cifar10_sample()
torch.manual_seed(0)
layers = [
    part for a, b in ((3, 32), (32, 64), (64, 128)) for part in (nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU())
]
model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(512, 64))
optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)

# %%
# Training
# --------
#
# Two random views, and a third that is random and hard. A container passes only images, so the loss is bound to
# ``hard`` for the block.

losses = {"two random views": [], "with the hard view": []}
for _ in range(30):
    z1, z2 = model(two_views(x)), model(two_views(x))
    with hard.bound(objectives.simclr(model, z2, temperature=0.2)):
        x3 = third_view(x)
    easy, difficult = nt_xent(z1, z2, 0.2).mean(), nt_xent(model(x3), z2, 0.2).mean()
    optimiser.zero_grad()
    (easy + difficult).backward()
    optimiser.step()
    losses["two random views"].append(easy.item())
    losses["with the hard view"].append(difficult.item())

# %%
# Both losses fall. The loss of the hard view stays larger, since each step finds a view that is hard for the network as
# it is then.

figure, axis = plt.subplots(figsize=(6, 3))
figure.suptitle("NT-Xent of two random views, and of a random and a hard one")
for label, values in losses.items():
    axis.plot(values, label=label)
axis.set(xlabel="step", ylabel="loss")
axis.legend()
plt.show()

# %%
# The same views again
# --------------------
#
# kornia replays a draw from its parameters. They contain the hard change, so replay needs neither the loss nor the VAE.

with hard.bound(objectives.simclr(model, model(x))):
    views = third_view(x)
again = third_view(x, params=third_view._params)
print("the same, bit for bit:", torch.equal(views, again))

# %%
# With real data, use the batches of your loader in place of ``x``, and move model and pipelines to the GPU with
# ``.to("cuda")``. The documentation compares what hard views gain and cost, under "Does it help?".
