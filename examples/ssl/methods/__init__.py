"""The self-supervised methods of the paper's tables and five more, one small file each."""

from .adco import AdCo
from .base import Method, View
from .imagenet import IMAGENET
from .infomin import InfoMin
from .mochi import MoCHi
from .moco import MoCo
from .plain import Plain
from .simclr import SimCLR
from .simsiam import SimSiam
from .synco import SynCo
from .uel import UEL

METHODS: dict[str, type[Method]] = {
    "plain": Plain,
    "uel": UEL,
    "simclr": SimCLR,
    "simsiam": SimSiam,
    "moco": MoCo,
    "mochi": MoCHi,
    "synco": SynCo,
    "adco": AdCo,
    "infomin": InfoMin,
}


def methods_of(scale: str) -> dict[str, type[Method]]:
    """By name, with the settings of this scale: those of ImageNet differ."""
    return IMAGENET if scale == "imagenet" else METHODS


__all__ = ["IMAGENET", "METHODS", "Method", "View", "methods_of"]
