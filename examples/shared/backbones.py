"""Backbones: built by name, or loaded from a checkpoint of examples/ssl or examples/semi."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import timm
from torch import nn

from idaa_transforms.autoencoders.conv import CIFAR_STATISTICS, IMAGENET_STATISTICS
from idaa_transforms.training.run import load_checkpoint

from .wide_resnet import WideResNet

Statistics = tuple[tuple[float, ...], tuple[float, ...]]


class Backbone(NamedTuple):
    """A network from normalised images (B, 3, H, W) to features (B, width), in eval mode."""

    network: nn.Module
    mean: tuple[float, ...]
    std: tuple[float, ...]
    name: str
    config: dict[str, Any]  # of the run that trained it; {} if none did


def build_backbone(name: str, options: dict[str, Any], small: bool, maxpool: bool, channels: int = 3) -> nn.Module:
    """A network without its classifier.

    Args:
        name: as timm knows it; or wrn-28-2 and the like, of :mod:`.wide_resnet`, which has neither stem nor pooling.
        options: of ``timm.create_model`` or :class:`WideResNet`.
        small: for images of up to 64 pixels: a stem that is one 3x3 convolution with stride 1.
        maxpool: whether the max-pooling behind the stem stays.
        channels: of the images.
    """
    if wide := re.fullmatch(r"wrn-(\d+)-(\d+)", name):
        return WideResNet(int(wide[1]), int(wide[2]), **options)
    if not timm.is_model(name):
        raise ValueError(f"{name!r} is no network that timm knows, and none of the kind wrn-28-2")
    network = timm.create_model(name, num_classes=0, in_chans=channels, **options)
    if small:
        network.conv1 = nn.Conv2d(channels, network.bn1.num_features, 3, padding=1, bias=False)
    if not maxpool:
        network.maxpool = nn.Identity()
    return network


def statistics_of(data: str) -> Statistics:
    """Mean and standard deviation by which images of ``data`` are normalised."""
    return CIFAR_STATISTICS if "cifar" in data or data == "sample" else IMAGENET_STATISTICS


def load_backbone(source: str, pretrained: bool = True) -> Backbone:
    """The backbone of a run of examples/ssl or examples/semi, without heads and with clean batch norms alone, or one
    of timm.

    Args:
        source: the folder of a run, its checkpoint.pt, or a name that timm knows.
        pretrained: whether a network of timm comes with its weights, which are downloaded.

    Raises:
        ValueError: it is none of these, or a checkpoint of other code. One line.
    """
    path = Path(source)
    if not path.exists():
        return _of_timm(source, pretrained)
    file = path / "checkpoint.pt" if path.is_dir() else path
    if not file.exists():
        raise ValueError(f"{path} has no checkpoint.pt: it is no run of examples/ssl or examples/semi")
    saved = load_checkpoint(file)
    state, config = saved.get("ema", saved.get("model")), saved.get("config")
    if not isinstance(state, dict) or not isinstance(config, dict) or "backbone" not in config:
        held = ", ".join(map(str, list(saved)[:5]))
        raise ValueError(f"{file} is no checkpoint of examples/ssl or examples/semi: it holds {held}")
    # Of dual batch norm the clean half, under the name of a plain one.
    weights = {key: value for key, value in state.items() if key.startswith("backbone.") and ".adversarial." not in key}
    weights = {key.removeprefix("backbone.").replace(".clean.", "."): value for key, value in weights.items()}
    stem = weights.get("conv1.weight")
    small = stem is not None and stem.shape[-1] == 3
    channels = 3 if stem is None else stem.shape[1]
    options, maxpool = config.get("backbone_options", {}), config.get("maxpool", True)
    network = build_backbone(config["backbone"], options, small, maxpool, channels)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{file} does not fit its own {config['backbone']}: {reason[:200]}") from error
    return Backbone(network.eval(), *statistics_of(config["data"]), file.parent.name, config)


def _of_timm(name: str, pretrained: bool) -> Backbone:
    if not timm.is_model(name):
        raise ValueError(f"{name!r} is no folder of a run, no checkpoint and no network that timm knows")
    try:
        network = timm.create_model(name, pretrained=pretrained, num_classes=0)
    except Exception as error:  # of many kinds: no weights for it, no network
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"timm has no weights for {name!r} here ({reason}); say a folder of a run") from error
    return Backbone(network.eval(), *(tuple(network.default_cfg[key]) for key in ("mean", "std")), name, {})
