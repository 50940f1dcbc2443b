"""
Norm, steps and target gain
===========================

**What this teaches:** several steps, or eps in units of each latent's own standard deviation, raise the loss as much
with less change. If you know how much the loss should rise, ask for that instead of an eps.
"""

from idaa_transforms import IDAATransform, objectives
from idaa_transforms.measure import load_model
from idaa_transforms.sample import cifar10_sample, show

x = cifar10_sample()[0][:32]
network = load_model("cifar10-classifier")
loss_fn = objectives.simclr(network, network(x.flip(3)), temperature=0.2)
vae = IDAATransform.from_pretrained("cifar10-vae-small").autoencoder
one = 23

# %%
# Each row changes one setting. Above each view: the setting, the loss, and the length of the change (L2).

settings = {
    'norm="linf"': [{"eps": eps} for eps in (0.2, 0.5, 1.0)],
    'norm="l2"': [{"norm": "l2", "eps": eps} for eps in (2.0, 5.0, 10.0)],
    "several steps": [{"eps": 0.5, "steps": steps} for steps in (1, 3, 10)],
    "random start": [{"eps": eps, "random_start": True, "steps": 2} for eps in (0.2, 0.5, 1.0)],
    "posterior units": [{"eps": eps, "norm": "l2", "eps_unit": "posterior"} for eps in (15.0, 40.0, 100.0)],
    "target gain": [{"eps": 1.0, "target_gain": gain} for gain in (0.2, 0.5, 1.0)],
}
varied = {"several steps": "steps", "target gain": "target_gain"}
rows, captions = {}, []
for name, row in settings.items():
    views = [IDAATransform(vae, **setting)(x, loss_fn=loss_fn) for setting in row]
    rows[name] = [x[one], *(made[one] for made in views)]
    key = varied.get(name, "eps")
    about = [
        f"{key} {s[key]:g}\n{loss_fn(v)[one]:.2f}, {(v - x)[one].norm():.2f}" for s, v in zip(row, views, strict=True)
    ]
    captions.append([f"image\n{loss_fn(x)[one]:.2f}", *about])
show(rows, "One image under each setting: loss, and length of the change", captions, size=1.4)

# %%
# ``target_gain`` counts on the gradient at the image. The loss is curved, so it ends up a little below or above.
