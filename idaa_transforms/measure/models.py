"""Load a network by name: one of the package's, an attribute of the user's own module, or one of timm's."""

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
    """A model of the user's fails; one line that names it."""


@contextmanager
def named(name: str, images: Tensor) -> Iterator[None]:
    """Turn what the network ``name`` raises inside, given ``images``, into a :class:`ModelError`."""
    try:
        yield
    except (ModelError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # code of the user's may raise anything
        raise ModelError(
            f"{name} failed on images {tuple(images.shape)} with values from {images.min():.3g} to {images.max():.3g} "
            f"({one_line(error)}); try it on some images by itself"
        ) from error


def one_line(error: Exception) -> str:
    """The type of ``error`` and the first line of its message."""
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def load_model(name: str, logits: bool = False, pretrained: bool = True) -> Any:
    """Load a frozen model for images in [0, 1] by name.

    Args:
        name: ``cifar10-classifier`` or ``cifar10-reference``, which come with the package; ``FILE.py:ATTRIBUTE`` or
            ``PACKAGE.MODULE:ATTRIBUTE``, a module or a function that builds one; or the name of a timm model, which
            resizes and normalises its images itself. A file runs as ``python FILE.py`` would run it, but for its name.
        logits: class scores instead of features, for the package's and timm's models.
        pretrained: load timm's weights; otherwise random ones, drawn from torch's generator.

    Raises:
        ModelError: there is no such model, or it cannot be built.
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
    except Exception as error:  # timm and the Hub's client raise many kinds
        kind = "pretrained model" if pretrained else "model"
        raise ModelError(
            f"timm has no {kind} {name!r} here ({one_line(error)}); the package has {' and '.join(CLASSIFIERS)}, and a "
            "model of your own is FILE.py:ATTRIBUTE"
        ) from error
    config = timm.data.resolve_model_data_config(model)
    size, mean, std = config["input_size"][1:], config["mean"], config["std"]
    model = nn.Sequential(v2.Resize(size, antialias=True), v2.Normalize(mean, std), model)
    return model.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # a third faster on a CPU


def _imported(name: str) -> Any:
    module, _, attribute = name.rpartition(":")
    try:
        model: Any = _of_file(Path(module)) if module.endswith(".py") else _of_package(module)
        for part in attribute.split("."):
            model = getattr(model, part)
    except Exception as error:  # code of the user's may raise anything
        raise ModelError(f"{name!r} cannot be imported: {one_line(error)}") from error
    try:
        model = model if isinstance(model, nn.Module) else model()
    except Exception as error:
        raise ModelError(f"{name!r} cannot be built by calling it without arguments ({one_line(error)})") from error
    return model.eval().requires_grad_(False) if isinstance(model, nn.Module) else model


def _of_package(module: str) -> Any:
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    return importlib.import_module(module)


def _of_file(file: Path) -> Any:
    """The module in ``file``, run once, with its folder on ``sys.path``; dataclasses look for it in ``sys.modules``."""
    file = file.expanduser().resolve()
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    name = file.stem
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == str(file):
        return known
    if known is not None or name in sys.builtin_module_names:
        name = str(file)  # some other module has this name
        if name in sys.modules:
            return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
