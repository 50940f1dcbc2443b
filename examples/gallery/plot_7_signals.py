"""
Signals
=======

**What this teaches:** nothing in the method knows what a picture is. Any two functions that encode and decode will do.
Here they keep the slow movement of a signal, so the view keeps its fast details.
"""

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F

from idaa_transforms import IDAATransform, objectives
from idaa_transforms.autoencoders import Wrapped


def means(x):
    """The mean of every eight samples."""
    return F.avg_pool1d(x, 8)


def lines(z):
    """Lines between these means."""
    return F.interpolate(z, scale_factor=8.0, mode="linear")


# %%
# Made-up signals: a slow and a fast tone each, and noise.

torch.manual_seed(0)
time, kind = torch.linspace(0, 2 * torch.pi, 128), torch.arange(64)[:, None, None]
x = torch.sin((1 + kind % 4) * time + 6 * torch.rand(64, 1, 1)) + 0.4 * torch.sin((17 + kind % 3) * time)
x = x + 0.05 * torch.randn_like(x)  # (64, 1, 128)

# %%
# A network to attack: it embeds a signal in 32 numbers, and should recognise it reversed in time.

model = nn.Sequential(nn.Conv1d(1, 32, 7, 2), nn.ReLU(), nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(128, 32))
aug = IDAATransform(Wrapped(means, lines, mean=[0.0], std=[1.0], axes=1), eps=0.3)
result = aug.explain(x, loss_fn=objectives.simclr(model, model(x.flip(2)), temperature=0.2))
print(f"mean loss {result.loss_before.mean():.3f}, of the views {result.loss_after.mean():.3f}")

figure, axes = plt.subplots(3, 3, figsize=(9, 4.6), sharex=True, sharey=True)
figure.suptitle("Three signals, split in two, and a hard view of each", fontsize=11)
rows = (
    {"signal": x, "reconstruction": result.reconstruction},
    {"detail": result.residual},
    {"signal": x, "hard view": result.views},
)
for column, i in zip(axes.T, range(3), strict=True):
    for axis, signals in zip(column, rows, strict=True):
        for label, signal in signals.items():
            axis.plot(signal[i, 0].numpy(), linewidth=1.3, label=label)
for axis in axes[:, -1]:
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
plt.show()
