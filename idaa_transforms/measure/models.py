"""A network by name: of timm, or an attribute of a module of the user's."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from torch import nn

from ..util.extras import require


def load_model(name: str, logits: bool = False) -> Any:
    """A frozen model for images in [0, 1], by name.

    Args:
        name: ``package.module:attribute``, a module or what builds one when called, imported from the working folder
            too; or the name of a pretrained model of timm, which then resizes and normalises by itself.
        logits: of timm's: its classes instead of its features.
    """
    if ":" in name:
        return _imported(name)
    require("timm", "timm")
    import timm
    from torchvision.transforms import v2

    try:
        model = timm.create_model(name, pretrained=True, **({} if logits else {"num_classes": 0}))
    except Exception as error:  # timm and the Hub's client raise of many kinds
        raise ValueError(
            f"timm has no pretrained model {name!r} here ({error}); a model of your own is package.module:attribute"
        ) from error
    config = timm.data.resolve_model_data_config(model)
    size, mean, std = config["input_size"][1:], config["mean"], config["std"]
    return nn.Sequential(v2.Resize(size, antialias=True), v2.Normalize(mean, std), model).eval().requires_grad_(False)


def _imported(name: str) -> Any:
    module, _, attribute = name.partition(":")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        model: Any = importlib.import_module(module)
        for part in attribute.split("."):
            model = getattr(model, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name!r} cannot be imported: {error}") from error
    model = model if isinstance(model, nn.Module) else model()
    return model.eval().requires_grad_(False) if isinstance(model, nn.Module) else model
