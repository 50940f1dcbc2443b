"""
An image, split and put together again
======================================

**What this teaches:** G(x), what the VAE can say about an image, moves; R(x), the detail that is left, stays.
"""

from network import loss_of, show

from idaa_transforms import IDAATransform
from idaa_transforms.sample import cifar10_sample

x, _ = cifar10_sample()
aug = IDAATransform.from_pretrained("cifar10-vae-z128", eps=0.5)
found = aug.explain(x, loss_fn=loss_of(x))

# %%
# ``explain`` returns everything that led to the views. The residual is shown around grey, and the change enlarged.

some = slice(8, 16)
show(
    {
        "x": x[some],
        "G(x) = D(E(x))": found.reconstruction[some],
        "R(x) = x - G(x)": found.residual[some] + 0.5,
        "D(E(x) + delta)": (found.views - found.residual)[some],
        "x' = R(x) + D(E(x) + delta)": found.views[some],
        "4 (x' - x)": 4 * (found.views - x)[some] + 0.5,
    },
    "Images, what the VAE makes of them, and hard views",
)

# %%
# The view is harder for the network, image by image.

print("loss before:", [round(value, 2) for value in found.loss_before[some].tolist()])
print("loss after: ", [round(value, 2) for value in found.loss_after[some].tolist()])
