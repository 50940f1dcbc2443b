"""Make one view of one picture, with everything that the page shows of it. Does not need gradio."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from .. import objectives
from ..measure.models import ModelError, named
from ..sample import CLASSES, LABELS, cifar10_sample
from ..transforms import IDAATransform
from .models import Models

SIZES = (32, 64, 128, 224)
"""Height and width that a picture is shown and changed at."""
SAMPLES = (1, 3, 6, 25, 0, 22, 12, 4, 13, 11, 8, 16)
"""Rows of :func:`~idaa_transforms.sample.cifar10_sample` to choose from; each class is among them."""
MAX_PIXELS = 16_000_000
CONFIDENT = 0.9
"""For a picture that may be of no class the networks know, answers are shown where both are at least this sure. At 0.9
the package's own answer for 3 % of flowers, and for 28 % of CIFAR-10 test images."""


class Picture(NamedTuple):
    """A picture: the square in its middle at each of :data:`SIZES`, and nothing else of it."""

    name: str
    squares: dict[int, Image.Image]
    code: tuple[str, str]
    """The imports and the line that make the same PIL image, called ``image``."""
    is_sample: bool = False

    def at(self, size: int) -> Tensor:
        """Float (1, 3, size, size) in [0, 1]."""
        return pil_to_tensor(self.squares[size])[None] / 255


def sample(row: int) -> Picture:
    """A CIFAR-10 test image that comes with the package."""
    image = to_pil_image(cifar10_sample()[0][row])
    imports = f"from torchvision.transforms.v2.functional import to_pil_image\nfrom {cifar10_sample.__module__} import "
    code = (f"{imports}cifar10_sample", f"image = to_pil_image(cifar10_sample()[0][{row}])")
    return Picture(CLASSES[LABELS[row]], _squares(image), code, is_sample=True)


def read(file: Path) -> Picture:
    """The picture in ``file``.

    Raises:
        ValueError: it is no picture, damaged, or too large; one line that names the file, without its folder.
    """
    try:
        with Image.open(file) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(
                    f"is {image.width:,} x {image.height:,} pixels; scale it down to {MAX_PIXELS:,} pixels"
                )
            squares = _squares(ImageOps.exif_transpose(image).convert("RGB"))
    except (ValueError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file.name}: {str(error).replace(str(file), 'the file')}") from None
    line = f"image = ImageOps.exif_transpose(Image.open({file.name!r})).convert('RGB')"
    return Picture(file.name, squares, ("from PIL import Image", line))


def _squares(image: Image.Image) -> dict[int, Image.Image]:
    return {size: ImageOps.fit(image, (size, size)) for size in SIZES}


class Prediction(NamedTuple):
    """What a network sees in a picture and in its view: the probabilities of its classes, by name."""

    network: str
    before: dict[str, float]
    after: dict[str, float]


class View(NamedTuple):
    """One view and what it is made of; images are (3, H, W)."""

    x: Tensor
    reconstruction: Tensor  # G(x)
    residual: Tensor  # R(x)
    view: Tensor
    loss_before: float
    loss_after: float
    reference: Prediction
    network: Prediction
    seconds: float


def make_view(x: Tensor, models: Models, weights: str, network: str, reference: str, eps: float, steps: int) -> View:
    """A view of ``x`` (1, 3, H, W) in [0, 1] that raises the cross-entropy of ``network`` with the class it sees in x.

    Args:
        weights, network, reference: names in ``models``. The reference model is not attacked.

    Raises:
        ValueError: settings that do not go together, or a network that cannot be used.
    """
    started = time.perf_counter()
    autoencoder, saved = models.weights[weights]
    aug = IDAATransform(autoencoder, **saved | _options(saved, eps, steps))
    labels = _scores(models, network, x).argmax(1)
    with named(f"the network {network}", x):
        found = aug.explain(x, loss_fn=objectives.supervised(models.networks[network], labels))
    seconds = time.perf_counter() - started
    pair = torch.cat([x, found.views])
    return View(
        x[0],
        found.reconstruction[0],
        found.residual[0],
        found.views[0],
        found.loss_before.item(),
        found.loss_after.item(),
        _predict(models, reference, pair),
        _predict(models, network, pair),
        seconds,
    )


def _options(saved: dict[str, Any], eps: float, steps: int) -> dict[str, Any]:
    """What the page says, and what pictures in [0, 1] need where it was saved otherwise."""
    plain = {"p": 1.0, "mean": (0.0,) * 3, "std": (1.0,) * 3}
    chosen = {"steps": steps} if steps != saved.get("steps", 1) else {}
    return {"eps": eps, **chosen, **{name: value for name, value in plain.items() if name in saved}}


def _scores(models: Models, name: str, images: Tensor) -> Tensor:
    with torch.no_grad(), named(f"the network {name}", images):
        scores = models.networks[name](images)
    if not isinstance(scores, Tensor) or scores.ndim != 2 or len(scores) != len(images):
        shape = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise ModelError(f"the network {name} gave {shape} for {len(images)} images; it must give scores (B, classes)")
    return scores


def _predict(models: Models, name: str, pair: Tensor) -> Prediction:
    shares = _scores(models, name, pair).float().softmax(1)
    classes = models.classes(name, shares.shape[1])
    before, after = (dict(zip(classes, row.tolist(), strict=True)) for row in shares)
    return Prediction(name, before, after)


def code_of(
    picture: Picture, size: int, models: Models, weights: str, network: str, reference: str, eps: float, steps: int
) -> str:
    """A script that makes the same view, to run in the folder of the picture; ``found.views`` is the view."""
    options = "".join(f", {name}={value!r}" for name, value in _options(models.weights[weights][1], eps, steps).items())
    lines: Sequence[str] = (
        "from PIL import ImageOps",
        "from torchvision.transforms.v2.functional import pil_to_tensor",
        picture.code[0],
        "from idaa_transforms import IDAATransform, objectives",
        "from idaa_transforms.measure import load_model",
        "",
        picture.code[1],
        f"x = pil_to_tensor(ImageOps.fit(image, ({size}, {size})))[None] / 255",
        f"network = load_model({network!r}, logits=True)",
        f"reference = load_model({reference!r}, logits=True)  # it is not attacked",
        f"aug = IDAATransform.from_pretrained({weights!r}{options})",
        "",
        "labels = network(x).argmax(1)  # what the network sees in x",
        "found = aug.explain(x, loss_fn=objectives.supervised(network, labels))",
        'print(f"loss {found.loss_before.item():.4f}, of the view {found.loss_after.item():.4f}")',
        "print(reference(x).softmax(1), reference(found.views).softmax(1))",
        "",
    )
    return "\n".join(lines)
