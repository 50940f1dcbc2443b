"""
Calibrate on your own pictures
==============================

How far may eps go before your pictures no longer show the same thing? Ask a reference model, which is not attacked.
"""

# %%
# Your pictures
# -------------
#
# A folder, however nested. Here the 64 sample images are written as one; put the path of your own in its place.

from pathlib import Path
from tempfile import mkdtemp

import kornia.augmentation as K
import matplotlib.pyplot as plt
import torch
from torch import nn
from torchvision.transforms.v2.functional import to_pil_image

from idaa_transforms import IDAATransform, objectives
from idaa_transforms.losses import nt_xent
from idaa_transforms.measure import IdentityMeter, calibrate
from idaa_transforms.sample import cifar10_sample
from idaa_transforms.training.images import load_images

folder = Path(mkdtemp()) / "pictures"
folder.mkdir()
for number, image in enumerate(cifar10_sample()[0]):
    to_pil_image(image).save(folder / f"{number:03}.png")

pictures = load_images(str(folder), size=32, only="all")
x = pictures.test.float() / 255
print(len(x), "pictures", tuple(x.shape[1:]))

# %%
# Look at them first: what the VAE cannot reconstruct at all, it cannot vary.

aug = IDAATransform.from_pretrained("cifar10-vae-small")
print(f"eps of these weights: {aug.eps:g}")

# %%
# The network to attack, and the reference model
# ----------------------------------------------
#
# Take networks that know your pictures: the one that you train, and another as the reference model, say one of timm's
# (``reference="resnet18"``, which downloads it). So that this page runs anywhere, both are small here and trained in
# seconds, from different seeds.

random = nn.Sequential(
    K.RandomResizedCrop((32, 32), scale=(0.2, 1.0)), K.RandomHorizontalFlip(), K.ColorJitter(0.4, 0.4, 0.4, 0.1)
)


def trained(seed, steps=60):
    torch.manual_seed(seed)
    layers = [part for a, b in ((3, 32), (32, 64), (64, 128)) for part in (nn.Conv2d(a, b, 3, 2, 1), nn.ReLU())]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(512, 64))
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(steps):
        loss = nt_xent(network(random(x)), network(random(x)), 0.2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


model, reference = trained(0), trained(1)

# %%
# Calibrate
# ---------
#
# ``retrieval_at_1`` is the share of views whose nearest picture, by the features of the reference model, is their own.

result = calibrate(
    aug,
    [x],
    lambda batch: objectives.simclr(model, model(batch.flip(3)), temperature=0.2),
    IdentityMeter(reference, name="the second network"),
    keep=0.95,
    values=[0.1, 0.2, 0.5, 1.0, 1.5, 2.0],
)
print(result)

# %%
# The curve: a larger eps makes views harder, and costs identity.

figure, axis = plt.subplots(figsize=(6, 3))
figure.suptitle("Hardness and identity as eps grows")
axis.plot([row["eps"] for row in result.curve], [row["retrieval_at_1"] for row in result.curve], "o-")
axis.axhline(result.keep, linewidth=0.8, linestyle=":")
axis.set(xlabel="eps", ylabel="share still matched", ylim=(0, 1.05))
other = axis.twinx()
other.plot([row["eps"] for row in result.curve], [row["gain"] for row in result.curve], "s--", color="tab:orange")
other.set_ylabel("rise of the loss", color="tab:orange")
plt.show()

# %%
# Is that many pictures enough?
# -----------------------------
#
# What is saved with weights is a promise, so it has to be known well. 64 pictures are too few, and you are told so:

try:
    result.save("my-vae")
except ValueError as error:
    print(error)

# %%
# With enough pictures, ``result.save(folder)`` makes the eps the default of the weights in a folder of your own;
# ``idaa calibrate my-vae --data pictures --reference resnet18 --save`` does all of this in one command, and ``idaa
# inspect`` writes it as a page to look at.
