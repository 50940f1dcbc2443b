"""A network by name: one that comes with the package, one of timm's, or an attribute of a module of the user's."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .._util.extras import require
from .classifiers import CLASSIFIERS, load_classifier


class ModelError(ValueError):
    """A model of the user's that fails; one line that names it."""


@contextmanager
def named(name: str, images: Tensor) -> Iterator[None]:
    """What the network ``name`` raises inside, given ``images``, becomes a :class:`ModelError`."""
    try:
        yield
    except (ModelError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # whatever a network of the user's may raise
        raise ModelError(
            f"{name} failed on images {tuple(images.shape)} with values from {images.min():.3g} to {images.max():.3g} "
            f"({one_line(error)}); try it on some by itself"
        ) from error


def one_line(error: Exception) -> str:
    """The kind of ``error`` and the first line of what it says."""
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def load_model(name: str, logits: bool = False, pretrained: bool = True) -> Any:
    """A frozen model for images in [0, 1], by name.

    Args:
        name: ``cifar10-classifier`` or ``cifar10-judge``, which come with the package; ``package.module:attribute`` or
            ``path/to/file.py:attribute``, a module or what builds one when called, imported from the working folder
            too; or the name of a model of timm, which then resizes and normalises by itself.
        logits: of the package's and of timm's: scores of classes instead of features.
        pretrained: of timm's: with its weights; else with random ones, drawn from torch's generator.

    Raises:
        ModelError: there is no such model.
    """
    if name in CLASSIFIERS:
        return load_classifier(name, logits)
    if ":" in name:
        return _imported(name)
    require("timm", "timm")
    import timm
    from torchvision.transforms import v2

    try:
        model = timm.create_model(name, pretrained=pretrained, **({} if logits else {"num_classes": 0}))
    except Exception as error:  # timm and the Hub's client raise of many kinds
        kind = "pretrained model" if pretrained else "model"
        raise ModelError(
            f"timm has no {kind} {name!r} here ({error}); a model of your own is package.module:attribute"
        ) from error
    config = timm.data.resolve_model_data_config(model)
    size, mean, std = config["input_size"][1:], config["mean"], config["std"]
    return nn.Sequential(v2.Resize(size, antialias=True), v2.Normalize(mean, std), model).eval().requires_grad_(False)


def _imported(name: str) -> Any:
    module, _, attribute = name.rpartition(":")
    try:
        model: Any = _of_file(Path(module)) if module.endswith(".py") else _of_package(module)
        for part in attribute.split("."):
            model = getattr(model, part)
    except Exception as error:  # whatever code of the user's may raise
        raise ModelError(f"{name!r} cannot be imported: {one_line(error)}") from error
    model = model if isinstance(model, nn.Module) else model()
    return model.eval().requires_grad_(False) if isinstance(model, nn.Module) else model


def _of_package(module: str) -> Any:
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    return importlib.import_module(module)


def _of_file(file: Path) -> Any:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
