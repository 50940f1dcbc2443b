"""
How far eps goes
================

**What this teaches:** eps trades identity for hardness; look where your images stop showing the same thing, and stay
below.
"""

import matplotlib.pyplot as plt
import torch
from network import loss_of, show

from idaa_transforms import IDAATransform
from idaa_transforms.measure import IdentityMeter
from idaa_transforms.sample import CLASSES, cifar10_sample

x, labels = cifar10_sample()
loss_fn = loss_of(x)
aug = IDAATransform.from_pretrained("cifar10-vae")
strengths = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
views = {eps: aug(x, loss_fn=loss_fn, eps=eps) for eps in strengths}

# %%
# Five images, from untouched on the left to too far on the right.

some = (1, 7, 12, 23, 13)
show(
    {CLASSES[labels[i]]: [views[eps][i] for eps in strengths] for i in some},
    "Views of five images as eps grows",
    [[f"eps {eps:g}" for eps in strengths]],
    size=1.2,
)

# %%
# The loss rises for as long as you let it. Whether a view still shows its image has to be asked of somebody else: a
# judge. Here that is an untrained network, which looks at colours and edges and at nothing that was attacked; of your
# own data take a network that knows them, as in the notebook "Calibrate on your own pictures".

torch.manual_seed(3)
judge = torch.nn.Sequential(torch.nn.Conv2d(3, 64, 5, 2), torch.nn.ReLU(), torch.nn.AvgPool2d(4), torch.nn.Flatten())
rows = []
for made in views.values():
    meter = IdentityMeter(judge)
    with torch.no_grad():
        meter.update(x, made, losses=(loss_fn(x), loss_fn(made)))
    rows.append(meter.compute())

figure, axes = plt.subplots(1, 3, figsize=(9, 2.6))
figure.suptitle("Loss, distance and identity as eps grows: means over 64 images", fontsize=11)
for axis, (name, label) in zip(
    axes, {"loss_after": "loss", "l2": "|x' - x|", "retrieved": "found again by the judge"}.items(), strict=True
):
    axis.plot(strengths, [row[name] for row in rows], marker="o")
    axis.set(xlabel="eps", ylabel=label, ylim=(0, None))
plt.show()
