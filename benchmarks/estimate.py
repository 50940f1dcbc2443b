"""What the paper's runs compute, counted on their networks, and how long that takes at an assumed speed."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from examples.shared.backbones import build_backbone
from idaa_transforms.autoencoders import ConvVAE

# Of bfloat16, that such networks get out of a card of the class of an A100, kernels and waiting included.
TERAFLOPS = 40.0
# Passes forward for one image of a step. Back to the weights takes as long as two, back to the images alone as one: two
# views learn (6); a further one learns too (3), and an attack goes forward and back to the images (2), or back alone
# where it takes the step's gradient (1).
PASSES = {"none": 6, "third": 9, "latent": 9, "clae": 11, "idaa": 11, "idaa-grad": 10}

# The same of methods with a target network, which sees each view as well.
PASSES_WITH_TARGET = {view: count + (2 if view == "none" else 3) for view, count in PASSES.items()}


@cache
def forward(name: str, size: int) -> float:
    """Operations of one image's pass forward, a multiplication and an addition being two."""
    with torch.device("meta"), FlopCounterMode(display=False) as counted:
        build_backbone(name, {}, size <= 64, size > 64).eval()(torch.empty(1, 3, size, size))
    return float(counted.get_total_flops())


@cache
def of_vae(size: int) -> float:
    """Operations of E once, and of D twice forward and once back."""
    with torch.device("meta"), FlopCounterMode(display=False) as counted:
        vae = ConvVAE(size, 3072 if size > 84 else 512).eval()
        vae.encode(torch.empty(1, 3, size, size))
        for _ in range(3):
            vae.decode(torch.empty(1, vae.latent_dim))
    return float(counted.get_total_flops())


@cache
def hours_of_vae(latent_dim: int) -> float:
    """Of the recipe for 32 pixels: 300 epochs of 50,000 images, one pass forward and one back, which counts twice."""
    with torch.device("meta"), FlopCounterMode(display=False) as counted:
        vae = ConvVAE(32, latent_dim).eval()
        vae.encode(torch.empty(1, 3, 32, 32))
        vae.decode(torch.empty(1, latent_dim))
    return float(counted.get_total_flops()) * 3 * 300 * 50_000 / (TERAFLOPS * 1e12) / 3600


class Work(NamedTuple):
    """A run of training."""

    backbone: str
    size: int
    images: float  # that pass through in all, each with all of its views
    passes: dict[str, float]

    def teraflop(self, view: str, images: int) -> float:
        """Operations in a step of so many images, in 1e12: of the backbone, and of the VAE for views that need one."""
        each = self.passes[view] * forward(self.backbone, self.size)
        if view.startswith(("idaa", "latent")):
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
