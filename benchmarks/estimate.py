"""What the paper's runs compute, counted on their networks, and how long that takes at an assumed speed."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from examples.shared.backbones import build_backbone
from idaa_transforms.autoencoders import ConvVAE

# Of bfloat16, that such networks get out of a card of the class of an A100, kernels and waiting included.
TERAFLOPS = 40.0
# Passes forward for one image of a step. Back to the weights takes as long as two, back to the images alone as one: two
# views learn (6); a further one learns too (3), and an attack goes forward and back to the images (2), or back alone
# where it takes the step's gradient (1).
PASSES = {"none": 6, "third": 9, "clae": 11, "idaa": 11, "idaa-grad": 10}

# The same of methods with a target network, which sees each view as well.
PASSES_WITH_TARGET = {view: count + (2 if view == "none" else 3) for view, count in PASSES.items()}


class Counted(TorchDispatchMode):
    """Operations of what runs within, backward passes too: torch's FlopCounterMode fails in a pass back to an input."""

    flops = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            self.flops += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


@cache
def forward(name: str, size: int) -> float:
    """Operations of one image's pass forward, a multiplication and an addition being two."""
    with torch.device("meta"), Counted() as counted:
        build_backbone(name, {}, size <= 64, size > 64).eval()(torch.empty(1, 3, size, size))
    return counted.flops


@cache
def of_vae(size: int) -> float:
    """Operations of E once, and of D twice forward and once back."""
    with torch.device("meta"), Counted() as counted:
        vae = ConvVAE(size, 3072 if size > 84 else 512).eval()
        vae.encode(torch.empty(1, 3, size, size))
        for _ in range(3):
            vae.decode(torch.empty(1, vae.latent_dim))
    return counted.flops


class Work(NamedTuple):
    """A run of training."""

    backbone: str
    size: int
    images: float  # that pass through in all, each with all of its views
    passes: dict[str, float]

    def teraflop(self, view: str, images: int) -> float:
        """Operations in a step of so many images, in 1e12: of the backbone, and of the VAE for views that need one."""
        each = self.passes[view] * forward(self.backbone, self.size)
        if view.startswith("idaa"):
            each += of_vae(self.size)
        return images * each / 1e12


SSL = Work("resnet18", 32, 300 * 50_000, PASSES)
IMAGENET = Work("resnet50", 224, 100 * 1_281_167, PASSES)


def fixmatch(backbone: str) -> Work:
    """Of one unlabelled image: weak and strong views and a seventh of a labelled one learn (6.4); further views as
    above, and for ``idaa-grad`` the way back through all three."""
    learn = 3 * (2 + 1 / 7)
    passes = {"none": learn, "third": learn + 3, "clae": learn + 5, "idaa": learn + 5, "idaa-grad": learn * 4 / 3 + 3}
    return Work(backbone, 32, 2**20 * 448, passes)


def hours(work: Work, view: str) -> float:
    """Of a whole run on one GPU."""
    return work.images * work.teraflop(view, 1) / TERAFLOPS / 3600
