"""
Signals
=======

**What this teaches:** nothing in the method knows what a picture is: of a signal, G(x) has the slow movement, and
R(x) what is quick.

The signals are made up, and the VAE for them is trained here, in seconds; both come from ``examples/signals.py``, and
this page looks inside.
"""

import sys

import matplotlib.pyplot as plt
import torch
from torch import nn

from idaa_transforms import IDAATransform, objectives

sys.path += [".", "../.."]  # the root of the clone, whether this runs there or here
from examples.signals import made_up, train_a_vae

torch.manual_seed(0)
x = made_up()  # (256, 3, 64)
aug = IDAATransform(train_a_vae(x, 150), eps=1.0)

# %%
# A network to attack: it embeds a signal in 32 numbers, and is to find it again turned round in time.

model = nn.Sequential(nn.Conv1d(3, 32, 7, 2), nn.ReLU(), nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(128, 32))
found = aug.explain(x, loss_fn=objectives.simclr(model, model(x.flip(2))))

# %%
# One channel of four signals.

figure, axes = plt.subplots(3, 4, figsize=(9, 4.6), sharex=True, sharey=True)
figure.suptitle("Four signals, split by a VAE, and a hard view of each", fontsize=11)
rows = ({"x": x, "G(x)": found.reconstruction}, {"R(x)": found.residual}, {"x": x, "x'": found.views})
for column, i in zip(axes.T, (0, 70, 140, 230), strict=True):
    for axis, signals in zip(column, rows, strict=True):
        for label, signal in signals.items():
            axis.plot(signal[i, 0].numpy(), linewidth=1.3, label=label)
for axis in axes[:, -1]:
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()

print(f"loss before {found.loss_before.mean():.3f}, after {found.loss_after.mean():.3f}")
