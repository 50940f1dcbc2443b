"""
Calibrate on your own pictures
==============================

How far can eps go before your pictures no longer show the same thing? Ask a reference model, which is not attacked.
"""

# %%
# Your pictures
# -------------
#
# A folder, however nested. Here the 64 sample images are written as one; put the path of your own in its place.

from pathlib import Path
from tempfile import mkdtemp

import matplotlib.pyplot as plt
from torchvision.transforms.v2.functional import to_pil_image

from idaa_transforms import IDAATransform, objectives
from idaa_transforms.measure import IdentityMeter, calibrate, load_model
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
# The autoencoder, with the eps that was saved with it:

aug = IDAATransform.from_pretrained("cifar10-vae-small")
print(f"eps of these weights: {aug.eps:g}")

# %%
# The network to attack, and the reference model
# ----------------------------------------------
#
# Take networks that know your pictures: the one that you train, and another as the reference model, say one of timm's
# (``load_model("resnet18")``, which downloads it). Here both are small CIFAR-10 classifiers that come with the package.

model, reference = load_model("cifar10-classifier"), load_model("cifar10-reference")

# %%
# Calibrate
# ---------
#
# ``retrieval_at_1`` is the share of views whose nearest picture, by the features of the reference model, is their own.

result = calibrate(
    aug,
    [x],
    lambda batch: objectives.simclr(model, model(batch.flip(3)), temperature=0.2),
    IdentityMeter(reference, name="cifar10-reference"),
    keep=0.95,
    values=[0.1, 0.3, 0.5, 1.0, 2.0],
)
print(result)

# %%
# A larger eps makes views harder and costs identity.

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
# An eps is saved with weights only if its share is known well. 64 pictures are too few:

try:
    result.save("my-vae")
except ValueError as error:
    print(error)

# %%
# With enough pictures, ``result.save(folder)`` makes this eps the default of the weights in your folder. The command
# ``idaa calibrate my-vae --data pictures --reference resnet18 --save`` does all of this, and ``idaa inspect`` writes a
# page with views at several eps.
