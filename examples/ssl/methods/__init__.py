"""The self-supervised methods of the paper's tables and three more, one small file each."""

from .base import Method, View
from .byol import BYOL
from .imagenet import IMAGENET
from .moco import MoCo
from .plain import Plain
from .simclr import SimCLR
from .simsiam import SimSiam
from .swav import SwAV
from .uel import UEL

METHODS: dict[str, type[Method]] = {
    "plain": Plain,
    "uel": UEL,
    "simclr": SimCLR,
    "simsiam": SimSiam,
    "moco": MoCo,
    "byol": BYOL,
    "swav": SwAV,
}

__all__ = ["IMAGENET", "METHODS", "Method", "View"]
