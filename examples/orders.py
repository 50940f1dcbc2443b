"""Random augmentation before, after and inside the attack: three orders, three lines each.

    python examples/orders.py

before   random, then attack: the view is as hard as the attack made it. The paper's order, and the usual choice.
after    attack, then random: the attack does not know the crop that follows, and part of its effect is lost.
inside   the closure augments, with one draw for the attack and for the final view: the whole image is changed so that
         this crop of it is hard. The gradient passes through the augmentation, so it must have one (kornia's do).
"""

import kornia.augmentation as K
import timm
import torch
from torch import nn

from idaa_transforms import IDAATransform
from idaa_transforms.losses import nt_xent
from idaa_transforms.replay import same_draw
from idaa_transforms.util.sample import cifar10_sample

DEVICE = "cpu"
STEPS = 3


def main() -> dict[str, list[float]]:
    """Train a model with all three; return the loss of every step, by order."""
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=64)
    model.maxpool = nn.Identity()  # for small images
    model.to(DEVICE)
    random = nn.Sequential(K.RandomResizedCrop((32, 32)), K.RandomHorizontalFlip(), K.ColorJitter(0.4, 0.4, 0.4))
    idaa = IDAATransform.from_pretrained("cifar10-vae", eps=0.3).to(DEVICE)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    x = cifar10_sample()[0][:32].to(DEVICE)
    losses: dict[str, list[float]] = {"random": [], "before": [], "after": [], "inside": []}

    for step in range(STEPS):
        z = model(random(x))
        nce = lambda views, z=z: nt_xent(model(views), z.detach())  # noqa: E731
        draw = same_draw(random)  # the same for all orders here, so that their losses compare
        views = {"random": draw(x)}
        views["before"] = idaa(draw(x), loss_fn=nce)
        views["after"] = draw(idaa(x, loss_fn=nce))
        views["inside"] = draw(idaa(x, loss_fn=lambda v, draw=draw, nce=nce: nce(draw(v))))
        each = {order: nt_xent(z, model(view)).mean() for order, view in views.items()}
        optimiser.zero_grad()
        sum(each.values()).backward()
        optimiser.step()
        for order, loss in each.items():
            losses[order].append(loss.item())
        print(f"step {step + 1}: " + ", ".join(f"{order} {loss:.3f}" for order, loss in each.items()))
    return losses


if __name__ == "__main__":
    main()
