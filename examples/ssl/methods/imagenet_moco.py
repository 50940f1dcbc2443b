"""MoCo v2 and what builds on it as their papers train them on ImageNet: a queue of 65,536 and all that goes with it."""

from __future__ import annotations

from typing import Any, ClassVar

from lightly.models.modules import MoCoProjectionHead

from .adco import AdCo
from .base import Method
from .infomin import InfoMin
from .mochi import MoCHi
from .moco import MoCo
from .synco import SynCo


class MoCoImageNet(MoCo):
    """Chen et al., 2020: as their code has it."""

    momentum = 0.999
    length = 65_536
    recipe: ClassVar[dict[str, Any]] = {
        "optimiser": "sgd",
        "lr": 0.03,
        "weight_decay": 1e-4,
        "epochs": 200,
        "crop": 0.2,
        "jitter": (0.4, 0.4, 0.4, 0.1),
    }

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.projector = MoCoProjectionHead(width, width, 128)


class MoCHiImageNet(MoCoImageNet, MoCHi):
    """N, s and s' as the paper has them."""

    hard, pairs, with_query = 1024, 1024, 128


class SynCoImageNet(MoCoImageNet, SynCo):
    """Numbers of negatives as the paper has them."""

    hard, many, few = 1024, 256, 64


class AdCoImageNet(MoCoImageNet, AdCo):
    """The temperatures for 65,536 negatives."""

    temperature, steep = 0.12, 0.02


class InfoMinImageNet(MoCoImageNet, InfoMin):
    """With blur, as all of --recipe imagenet; without the jigsaw branch."""

    recipe = MoCoImageNet.recipe | {"jitter": (0.8, 0.8, 0.8, 0.2), "randaugment": 2}


OF_MOCO: dict[str, type[Method]] = {
    "moco": MoCoImageNet,
    "mochi": MoCHiImageNet,
    "synco": SynCoImageNet,
    "adco": AdCoImageNet,
    "infomin": InfoMinImageNet,
}
