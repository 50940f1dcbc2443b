"""
Which weights
=============

**What this teaches:** the narrower the bottleneck, the more of an image is in R(x), which stays, and the coarser is
what moves.
"""

from network import loss_of, show

from idaa_transforms import IDAATransform
from idaa_transforms.sample import cifar10_sample

x, _ = cifar10_sample()
loss_fn, one = loss_of(x), 8
names = ("cifar10-vae", "cifar10-vae-z128", "cifar10-vae-small")  # those in the package

# %%
# One image, three VAEs of the package, and the same eps.

rows, energy = {}, {}
for name in names:
    found = IDAATransform.from_pretrained(name, eps=0.5).explain(x, loss_fn=loss_fn)
    change = found.views - x
    rows[name] = [x[one], found.reconstruction[one], found.residual[one] + 0.5, found.views[one], 4 * change[one] + 0.5]
    energy[name] = found.residual.square().mean() / (x - x.mean((2, 3), keepdim=True)).square().mean()
show(rows, "Three VAEs at eps 0.5", [["x", "G(x)", "R(x)", "x'", "4 (x' - x)"]], size=1.4)

# %%
# How much of the images, their mean colour aside, each leaves in the residual:

for name, share in energy.items():
    print(f"{name:18} {share:.3f}")
