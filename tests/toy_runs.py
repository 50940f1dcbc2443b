"""Runs of a moment: few and small images, and a network as small."""

import numpy as np
import torch
from conftest import tiny_vae

from idaa_transforms.cli import main
from idaa_transforms.sample import cifar10_sample
from idaa_transforms.training.images import Images
from idaa_transforms.training.vae import Recipe

PIXELS = (cifar10_sample((16, 16))[0] * 255).round().byte()
SET = Images(PIXELS[:32], PIXELS[32:48], "sample")
RECIPE = Recipe(epochs=4, batch_size=16)


def fresh():
    torch.manual_seed(0)
    return tiny_vae()


def save_arrays(file, images=PIXELS, channels=slice(0, 3)):
    arrays = images[:, channels].permute(0, 2, 3, 1).numpy()
    np.savez(file, x_train=arrays[:40], x_test=arrays[40:56])


def train_by_command(*words):
    """``idaa train-vae``, which says by its exit status what a moment of training came to."""
    try:
        main(["train-vae", *words])
    except SystemExit as stop:
        if stop.code != 3:
            raise
