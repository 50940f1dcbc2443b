"""Every cure that an error message names works: what it says to do is done here, after the error itself."""

import PIL.Image
import pytest
import torch
from conftest import tiny_vae
from torch.nn import functional as F
from torchvision.transforms import v2

from idaa_transforms import CLAETransform, ClosureError, Guard, IDAATransform, ZeroGradientWarning

SEED = torch.Generator().manual_seed(2)
X = torch.rand(4, 3, 16, 16, generator=SEED)
BYTES = (255 * X).byte()
MEAN, STD = [0.5] * 3, [0.1] * 3
NORMALISED = v2.functional.normalize(X, MEAN, STD)
GRAD = torch.rand(X.shape, generator=SEED)


def square(views):
    return views.square().flatten(1).sum(1)


def make(**settings):
    return IDAATransform(tiny_vae(), **settings)


def pil_cure():
    picture = PIL.Image.new("RGB", (16, 16), "red")
    return make()(v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])(picture)[None], loss_fn=square)


def embed(images):
    return F.adaptive_avg_pool2d(images, 4).flatten(1)


def cosine_with(anchor):
    return lambda views: -F.cosine_similarity(embed(views), anchor)


def with_negatives(views):
    scores = F.normalize(embed(views), dim=1) @ F.normalize(embed(X), dim=1).T
    return F.cross_entropy(scores / 0.1, torch.arange(4), reduction="none")


def bound():
    aug = make()
    with aug.bound(square):
        return aug(X)


# what is wrong, the error and a part of its message, and the cures that the message names
CURES = {
    "integers": (
        lambda: make()(BYTES, loss_fn=square),
        (TypeError, r"v2.ToDtype\(torch.float32, scale=True\)"),
        [lambda: make()(v2.ToDtype(torch.float32, scale=True)(BYTES), loss_fn=square)],
    ),
    "a picture": (
        lambda: make()(PIL.Image.new("RGB", (16, 16)), loss_fn=square),
        (TypeError, "v2.ToImage and v2.ToDtype"),
        [pil_cure],
    ),
    "no batch": (
        lambda: make()(X[0], loss_fn=square),
        (ValueError, r"x\[None\]"),
        [lambda: make()(X[0][None], loss_fn=square)],
    ),
    "0..255": (
        lambda: make()(255 * X, loss_fn=square),
        (ValueError, "divide by 255"),
        [lambda: make()(255 * X / 255, loss_fn=square)],
    ),
    "normalised": (
        lambda: make()(NORMALISED, loss_fn=square),
        (ValueError, "pass the mean= and std="),
        [lambda: make(mean=MEAN, std=STD)(NORMALISED, loss_fn=square)],
    ),
    "normalised twice": (
        lambda: make(mean=MEAN, std=STD)(v2.functional.normalize(NORMALISED, MEAN, STD), loss_fn=square),
        (ValueError, "images are normalised once"),
        [lambda: make(mean=MEAN, std=STD)(NORMALISED, loss_fn=square)],
    ),
    "nothing to raise": (
        lambda: make()(X),
        (ValueError, "nothing to maximise"),
        [
            lambda: make()(X, loss_fn=square),
            lambda: make()(X, grad=GRAD),
            lambda: make().bind(square)(X),
            bound,
        ],
    ),
    "two sources": (
        lambda: make()(X, loss_fn=square, grad=GRAD),
        (ValueError, "pass only one"),
        [lambda: make()(X, loss_fn=square), lambda: make()(X, grad=GRAD)],
    ),
    "the value of a loss": (
        lambda: make()(X, loss_fn=square(X)),
        (TypeError, "pass the function itself"),
        [lambda: make()(X, loss_fn=square)],
    ),
    "a detached loss": (
        lambda: make()(X, loss_fn=lambda v: square(X.requires_grad_(False) + 0 * v.detach())),
        (ClosureError, "use the tensor that loss_fn is given"),
        [lambda: make()(X, loss_fn=square)],
    ),
    "no gradient": (
        lambda: make()(X, loss_fn=cosine_with(embed(X))),
        (ZeroGradientWarning, "anchor it on another view"),
        [
            lambda: make()(X, loss_fn=cosine_with(embed(X.flip(1)))),
            lambda: make()(X, loss_fn=with_negatives),
            lambda: make(random_start=True)(X, loss_fn=cosine_with(embed(X))),
        ],
    ),
    "no posterior": (
        lambda: CLAETransform(eps_unit="posterior")(X, loss_fn=square),
        (ValueError, "use scale='latent'"),
        [lambda: CLAETransform(eps_unit="latent")(X, loss_fn=square)],
    ),
    "a reference model alone": (
        lambda: make(guard=embed),
        (TypeError, r"guard=Guard\("),
        [lambda: make(guard=Guard(embed, 0.5))(X, loss_fn=square)],
    ),
    "a name for an autoencoder": (
        lambda: IDAATransform("cifar10-vae"),
        (TypeError, "use IDAATransform.from_pretrained"),
        [lambda: IDAATransform.from_pretrained("cifar10-vae")(X, loss_fn=square)],
    ),
    "mean alone": (
        lambda: make(mean=MEAN),
        (ValueError, "give both or neither"),
        [lambda: make(mean=MEAN, std=STD)(NORMALISED, loss_fn=square), lambda: make()(X, loss_fn=square)],
    ),
    "bound twice": (
        lambda: make().bind(square).bind(square),
        (TypeError, r"\.transform\.bind"),
        [lambda: make().bind(square).transform.bind(lambda v: -square(v))(X)],
    ),
}


@pytest.mark.parametrize("kind", CURES)
def test_the_error_and_then_its_cures(kind):
    wrong, (error, message), cures = CURES[kind]
    context = pytest.warns if issubclass(error, Warning) else pytest.raises
    with context(error, match=message):
        wrong()
    for cure in cures:
        views = cure()
        assert views.isfinite().all()
        assert views.ndim == 4


def test_the_cures_change_the_images():
    """So that a cure which does nothing would not pass for one."""
    for kind in ("no gradient", "nothing to raise", "no posterior"):
        for cure in CURES[kind][2]:
            assert not torch.equal(cure(), X), kind
