"""The self-supervised methods of the paper's tables, and MoCo, in small files."""

from .base import Method, View
from .imagenet import IMAGENET
from .moco import MoCo
from .plain import UEL, Plain
from .simclr import SimCLR
from .simsiam import SimSiam

METHODS: dict[str, type[Method]] = {
    "plain": Plain,
    "uel": UEL,
    "simclr": SimCLR,
    "simsiam": SimSiam,
    "moco": MoCo,
}


def methods_of(scale: str) -> dict[str, type[Method]]:
    """By name, with the settings of this scale: those of ImageNet differ."""
    return IMAGENET if scale == "imagenet" else METHODS


__all__ = ["IMAGENET", "METHODS", "Method", "View", "methods_of"]
