"""Every set of weights of this release: loads, is what its card says, and makes hard views of real images."""

import json
import re
from pathlib import Path

import pytest
import torch

from idaa_transforms import IDAATransform, hub
from idaa_transforms.autoencoders.plausible import explained_variance
from idaa_transforms.hub.folder import CONFIG, WEIGHTS
from idaa_transforms.hub.registry import PRETRAINED
from idaa_transforms.util.sample import cifar10_sample

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", PRETRAINED)
def test_each_set_of_weights(name):
    folder = hub.find(name)
    aug = IDAATransform.from_pretrained(name)
    vae = aug.autoencoder
    assert explained_variance(vae) > 0.8
    x = cifar10_sample(vae.image_size)[0][:8]
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    found = aug.explain(x, loss_fn=lambda v: (v * weight).flatten(1).sum(1))
    assert (found.loss_after > found.loss_before).all()
    card = (folder / "README.md").read_text()
    assert f"# {name}" in card
    assert f"latent of {vae.latent_dim} numbers" in card
    assert f"beta = {vae.beta:g}" in card
    for measured in ("mean squared error", "PSNR", "nats an image", "energy of x in G", "energy of x in R"):
        assert measured in card
    assert re.search(r"\| commit \| [0-9a-f]{7,} \|", card)
    assert (folder / "samples.png").exists()


def test_a_release_is_complete_and_small_enough():
    folders = sorted(path.name for path in (ROOT / "weights").iterdir())
    assert folders == sorted(PRETRAINED)
    size = sum(file.stat().st_size for file in (ROOT / "weights").rglob("*"))
    assert size < 100e6
    table = (ROOT / "README.md").read_text()
    for name in PRETRAINED:
        card = (ROOT / "weights" / name / "README.md").read_text()
        mse = re.search(r"mean squared error, normalised units \| ([\d.]+) \|", card)[1]
        assert re.search(rf"`{name}` \|.*\| {mse} \|", table), name
        assert {CONFIG, WEIGHTS} <= {file.name for file in (ROOT / "weights" / name).iterdir()}


def test_the_default_eps_is_the_calibrated_one():
    reasons = {name: json.loads((hub.find(name) / CONFIG).read_text()).get("calibration") for name in PRETRAINED}
    assert reasons["cifar10-vae"]
    for name, reason in reasons.items():
        if reason:
            aug = IDAATransform.from_pretrained(name)
            kept = {row["eps"]: row[reason["measure"]] for row in reason["curve"]}
            assert aug.settings.saved() == reason["settings"] | {"eps": aug.eps}
            assert min(share for eps, share in kept.items() if eps <= aug.eps) >= reason["keep"]
            assert min(kept.values()) < reason["keep"]  # it did have a limit
            card = (hub.find(name) / "README.md").read_text()
            assert f"{kept[aug.eps]:.3f}" in card
