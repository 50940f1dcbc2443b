"""
Which weights
=============

**What this teaches:** a narrower bottleneck leaves more of an image in the detail, which stays, and moves coarser
things.

The photograph is of Grace Hopper. It is in the public domain (US Navy) and comes with matplotlib.
"""

import torch
from matplotlib.cbook import get_sample_data
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from idaa_transforms import IDAATransform, objectives
from idaa_transforms.hub import PRETRAINED
from idaa_transforms.measure import load_model
from idaa_transforms.sample import cifar10_sample, show

photograph = Image.open(get_sample_data("grace_hopper.jpg")).convert("RGB").resize((224, 224), box=(60, 0, 460, 400))
x = torch.cat([pil_to_tensor(photograph)[None] / 255, cifar10_sample((224, 224))[0][:7]])
network = load_model("cifar10-classifier")
loss_fn = objectives.simclr(network, network(x.flip(3)), temperature=0.2)

# %%
# One photograph at 224 pixels, all autoencoders of the package, and the same eps.

rows = {}
for name in PRETRAINED:
    result = IDAATransform.from_pretrained(name, eps=0.4).explain(x, loss_fn=loss_fn)
    change = result.views - x
    rows[name] = [part[0] for part in (x, result.reconstruction, result.residual + 0.5, result.views, change + 0.5)]
    print(f"{name:18} mean loss of the views {result.loss_after.mean():.2f}")
show(
    rows,
    "A photograph at 224 pixels, eps 0.4",
    [["image", "reconstruction", "detail", "hard view", "change"]],
    size=1.6,
)
