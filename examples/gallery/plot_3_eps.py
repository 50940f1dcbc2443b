"""
How far eps goes
================

**What this teaches:** a larger eps makes views harder and costs identity. Find out where your images stop showing the
same thing, and stay below.
"""

import matplotlib.pyplot as plt
import torch

from idaa_transforms import IDAATransform, objectives
from idaa_transforms.measure import IdentityMeter, load_model
from idaa_transforms.sample import CLASSES, cifar10_sample, show

x, labels = cifar10_sample()
network = load_model("cifar10-classifier")
loss_fn = objectives.simclr(network, network(x.flip(3)), temperature=0.2)
aug = IDAATransform.from_pretrained("cifar10-vae-small")
strengths = (0.0, 0.1, 0.2, 0.4, 0.7, 1.0, 2.0)
views = {eps: aug(x, loss_fn=loss_fn, eps=eps) for eps in strengths}

# %%
# Four images, unchanged on the left and changed too far on the right.

show(
    {CLASSES[labels[i]]: [views[eps][i] for eps in strengths] for i in (1, 7, 12, 13)},
    "Views of four images as eps grows",
    [[f"eps {eps:g}" for eps in strengths]],
    size=1.2,
)

# %%
# The loss keeps rising. To check that a view still shows its image, use an independent network, a reference model. This
# one knows CIFAR-10 and is not attacked.

reference = load_model("cifar10-reference")
rows = []
for made in views.values():
    meter = IdentityMeter(reference)
    with torch.no_grad():
        meter.update(x, made, losses=(loss_fn(x), loss_fn(made)))
    rows.append(meter.compute())

figure, axes = plt.subplots(1, 3, figsize=(9, 2.6))
figure.suptitle("Loss, distance and identity as eps grows, over 64 images", fontsize=11)
measures = {
    "loss_after": "mean loss of the views",
    "l2": "mean distance in pixels",
    "retrieval_at_1": "share still matched\nto their image",
}
for axis, (name, label) in zip(axes, measures.items(), strict=True):
    axis.plot(strengths, [row[name] for row in rows], marker="o")
    axis.set(xlabel="eps", ylabel=label, ylim=(0, None))
plt.show()
