"""
What a hard view is
===================

**What this teaches:** the autoencoder splits an image into a coarse reconstruction, which moves, and the fine detail,
which stays. The weights were trained at 32 pixels and take images of any size.

The photograph is of Grace Hopper. It is in the public domain (US Navy) and comes with matplotlib.
"""

import torch
from matplotlib.cbook import get_sample_data
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from idaa_transforms import IDAATransform, objectives
from idaa_transforms.measure import load_model
from idaa_transforms.sample import cifar10_sample, show

photograph = Image.open(get_sample_data("grace_hopper.jpg")).convert("RGB").resize((224, 224), box=(60, 0, 460, 400))
small, _ = cifar10_sample()  # (64, 3, 32, 32)
large = torch.cat([pil_to_tensor(photograph)[None] / 255, cifar10_sample((224, 224))[0][:7]])

# %%
# The views should be hard for this network: it should no longer tell them from the other images. The loss is that of
# SimCLR, against the mirrored images. ``explain`` returns the views and everything that led to them.

network = load_model("cifar10-classifier")
aug = IDAATransform.from_pretrained("cifar10-vae-small", eps=0.4)
rows = {}
for size, x, some in (("224 pixels", large, [0]), ("32 pixels", small, [1, 7])):
    result = aug.explain(x, loss_fn=objectives.simclr(network, network(x.flip(3)), temperature=0.2))
    for i in some:
        change = result.views[i] - x[i]
        rows[size + " " * len(rows)] = [
            x[i],
            result.reconstruction[i],
            result.residual[i] + 0.5,
            result.views[i],
            change + 0.5,
        ]
    print(f"{size}: mean loss {result.loss_before.mean():.2f}, of the views {result.loss_after.mean():.2f}")

# %%
# Detail and change are shown around grey.

titles = ["image", "reconstruction:\nthis moves", "detail:\nthis stays", "hard view\n(eps 0.4)", "what changed"]
show(rows, captions=[titles], size=1.6)
