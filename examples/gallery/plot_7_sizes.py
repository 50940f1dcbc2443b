"""
At 32 and at 224 pixels
=======================

**What this teaches:** weights for 32 pixels take images of any size: all that 32 pixels cannot show is in R(x), so a
large view changes softly and keeps its detail.

The photographs are those that come with scikit-learn (by danielbuechele and vultilion, CC BY 2.0): there is no larger
picture in the package. The 32-pixel images are the same two, made small.
"""

import torch
from network import loss_of, show
from sklearn.datasets import load_sample_images
from torchvision.transforms.v2.functional import center_crop, resize

from idaa_transforms import IDAATransform

photographs = [torch.tensor(image).permute(2, 0, 1) / 255 for image in load_sample_images().images]
large = torch.stack([resize(center_crop(image, [427, 427]), [224, 224], antialias=True) for image in photographs])
small = resize(large, [32, 32], antialias=True)
aug = IDAATransform.from_pretrained("cifar10-vae", eps=1.0)

# %%
# The same weights, the same eps, the same network. The closure compares each image with the mirrored ones, and the
# two have each other as negatives.

rows = {}
for name, x in (("32 pixels", small.clamp(0, 1)), ("224 pixels", large.clamp(0, 1))):
    found = aug.explain(x, loss_fn=loss_of(x))
    for i in range(2):
        parts = (x[i], found.reconstruction[i], found.residual[i] + 0.5, found.views[i], 4 * (found.views - x)[i] + 0.5)
        rows[f"{name}, image {i + 1}"] = parts
show(rows, "x, G, R and views at 32 and at 224 pixels", [["x", "G(x)", "R(x)", "x'", "4 (x' - x)"]], size=1.6)
