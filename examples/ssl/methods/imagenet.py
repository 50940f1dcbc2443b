"""SimSiam, SimCLR and MoCo as their papers train them on ImageNet: other heads, temperatures and optimisers."""

from __future__ import annotations

from typing import Any, ClassVar

from lightly.models.modules import MoCoProjectionHead, SimCLRProjectionHead
from lightly.models.modules.heads import ProjectionHead
from torch import nn

from .base import Method
from .moco import MoCo
from .simclr import SimCLR
from .simsiam import SimSiam


class SimSiamImageNet(SimSiam):
    """Three layers in the projector (Chen and He, CVPR 2021, section 4). The IDAA paper has batches of 256."""

    recipe: ClassVar[dict[str, Any]] = {
        "optimiser": "sgd",
        "lr": 0.05,
        "weight_decay": 1e-4,
        "epochs": 100,
        "crop": 0.2,
        "jitter": (0.4, 0.4, 0.4, 0.1),
    }

    def __init__(self, width: int) -> None:
        super().__init__(width)
        hidden = [(inside, 2048, nn.BatchNorm1d(2048), nn.ReLU()) for inside in (width, 2048)]
        self.projector = ProjectionHead([*hidden, (2048, 2048, nn.BatchNorm1d(2048, affine=False), None)])


class SimCLRImageNet(SimCLR):
    """128 numbers, temperature .1, and LARS (Chen et al., ICML 2020, section 2 and appendix B)."""

    temperature = 0.1
    recipe: ClassVar[dict[str, Any]] = {
        "optimiser": "lars",
        "lr": 0.3,
        "weight_decay": 1e-6,
        "epochs": 100,
        "warmup_epochs": 10,
        "crop": 0.08,
        "jitter": (0.8, 0.8, 0.8, 0.2),
    }

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.projector = SimCLRProjectionHead(width, width, 128, batch_norm=True)


class MoCoImageNet(MoCo):
    """A queue of 65,536, as the code of MoCo v2 has it (Chen et al., 2020)."""

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


IMAGENET: dict[str, type[Method]] = {"simsiam": SimSiamImageNet, "simclr": SimCLRImageNet, "moco": MoCoImageNet}
