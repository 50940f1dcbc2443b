"""A ResNet-50 on images of 224 pixels: the view beside the training step, its own parts, and what others use.

A column for each of ``--weights`` and each dtype that the device is fast in: the autoencoder's, and the model's by
autocast. ``resampling`` is what a view by ``grad=`` does of it: x down, the gradient down, the change of G(x) up. It is
in the parts as well, where D alone goes up each time. Peers have random weights, which cost what trained ones do; views
on them take long, and are compared with views of the same few images on ``--weights``. On a CPU with one thread
(OMP_NUM_THREADS=1) the times are the processor's, to which other processes add little.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from idaa_transforms import IDAATransform
from idaa_transforms._util.precision import has_bfloat16
from idaa_transforms.autoencoders import Wrapped
from idaa_transforms.autoencoders.diffusers import DiffusersAutoencoder
from idaa_transforms.training.augmentation import ssl_augmentation

from .. import harness, workload
from ..taef2 import TAEF2
from ..workload import DTYPES, Workload
from . import Options, targets
from .targets import GRAD, MODEL, OWN, Target, over, over_parts

TITLE = "Images of 224 pixels"
SIZE = 224
KL = {  # the shape of Stable Diffusion's
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
STEP, RESAMPLING, KORNIA = "SimCLR step of two views", "resampling", "kornia's random views"
FEW, FEW_TAEF2, FEW_KL = (f"IDAA, grad=, few images{on}" for on in ("", ", TAEF2", ", Stable Diffusion's KL"))
TARGETS = [
    Target("views by `grad=` over a two-view SimCLR step", over(GRAD, STEP), 0.015, 0.015),
    Target("resampling over views by `grad=`", over(RESAMPLING, GRAD), 0.1, 0.1),
    Target("views by `loss_fn=` over the sum of their bare parts", over_parts(OWN, *MODEL), 1.05, 1.05),
    Target("views by `grad=` over the sum of their bare parts", over_parts(GRAD), 1.05, 1.05),
    Target("views by `grad=` over kornia's random views", over(GRAD, KORNIA), None, None),
    Target("views by `grad=` over the same on TAEF2, few images", over(FEW, FEW_TAEF2), 0.2, 0.2),
    Target("views by `grad=` over the same on Stable Diffusion's KL, few images", over(FEW, FEW_KL), None, None),
]
Case = tuple[str, str, str]  # what it is, the weights or "" where it has none, and the dtype


def on_weights(work: Workload) -> workload.Cases:
    """What depends on the autoencoder."""
    codec, shape = work.idaa.codec, work.x.shape
    with torch.no_grad():
        image = codec.decode_small(work.z, shape)

    def resampling() -> None:
        codec.lift(work.x, image.shape)
        codec.lift(work.gradient, shape, adjoint=True)
        codec.lift(image, shape)

    views = {name: case for name, case in work.views().items() if name in (OWN, GRAD)}
    return {**views, **work.parts_of_vae(), RESAMPLING: torch.no_grad()(resampling)}


def whole_batch(options: Options, dtypes: list[str]) -> Iterator[tuple[Case, Callable[[], Any]]]:
    """What is timed with all images."""
    for dtype in dtypes:
        work = Workload(options.batch, options.device, dtype, SIZE, network="resnet50")
        alone = {STEP: work.step("none"), KORNIA: partial(ssl_augmentation((SIZE, SIZE)), work.x)}
        for name, case in (alone | work.parts_of_model()).items():
            yield (name, "", dtype), case
        for weights in options.weights:
            for name, case in on_weights(work.using(weights)).items():
                yield (name, weights, dtype), case


def few_images(options: Options, dtypes: list[str]) -> Iterator[tuple[Case, Callable[[], Any]]]:
    """Views by ``grad=`` on ``--weights`` and on large autoencoders."""
    import diffusers

    taef2 = TAEF2()
    made = {(FEW, weights): IDAATransform.from_pretrained(weights) for weights in options.weights}
    made[FEW_TAEF2, ""] = IDAATransform(Wrapped(taef2.encoder, taef2.decoder, factor=8))
    made[FEW_KL, ""] = IDAATransform(DiffusersAutoencoder(diffusers.AutoencoderKL(**KL)))
    x = workload.batch_of(2 if options.device == "cpu" else 16, SIZE).to(options.device)
    gradient = torch.randn_like(x)
    for dtype in dtypes:
        for (name, weights), aug in made.items():
            its_own = copy.deepcopy(aug).to(options.device, DTYPES[dtype])
            yield (name, weights, dtype), partial(its_own, x, grad=gradient)


def run(options: Options) -> Iterator[dict[str, Any]]:
    """A row for each case, weights and dtype."""
    short = options.dtype == "float32" and has_bfloat16(options.device)
    dtypes = ["float32", "bfloat16"] if short else [options.dtype]
    now = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for part, repeats, warmup in ((whole_batch, options.repeats, 2), (few_images, max(2, options.repeats // 3), 1)):
        cases = dict(part(options, dtypes))
        for (name, weights, dtype), ms in harness.measure(cases, repeats, options.device, warmup, now).items():
            yield {"case": name, "weights": weights, "vae_dtype": dtype, "size": SIZE, "ms": ms}


def table(rows: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    """The ratios beside what was aimed at, then all medians, as Markdown."""
    times = {(row["case"], row["weights"], row["vae_dtype"]): row["ms"]["median"] for row in rows}
    dtypes = list(dict.fromkeys(row["vae_dtype"] for row in rows))
    columns = [(weights, dtype) for weights in settings["weights"] for dtype in dtypes]

    def median(weights: str, dtype: str, case: str) -> float:
        return times.get((case, weights, dtype)) or times[case, "", dtype]

    named = {f"{weights}, {dtype}": partial(median, weights, dtype) for weights, dtype in columns}
    names = dict.fromkeys(row["case"] for row in rows)
    medians = [[case, *(harness.number(of(case)) for of in named.values())] for case in names]
    return f"{targets.beside(TARGETS, named, settings['device'])}\n\n{harness.table(['ms', *named], medians)}"
