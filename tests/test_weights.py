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
from idaa_transforms.measure.classifiers import CLASSIFIERS, load_classifier
from idaa_transforms.training.evaluation import evaluate_vae
from idaa_transforms.sample import CLASSES, cifar10_sample

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
    said = dict(re.findall(r"^\| (.+) \| ([\d.]+)(?: dB| nats an image)? \|$", card, re.MULTILINE))
    assert (
        0 < float(said["share of the energy of x in R(x)"]) < 0.2 < float(said["share of the energy of x in G(x)"]) < 1
    )
    if PRETRAINED[name].data == "CIFAR-10":  # the sample is of its test images, and the card's numbers of all of them
        measured = evaluate_vae(vae, (cifar10_sample()[0] * 255).round().byte())
        assert measured["mse"] == pytest.approx(float(said["mean squared error, normalised units"]), rel=0.3)
        assert measured["psnr"] == pytest.approx(float(said["PSNR of G(x), mean over images"]), abs=1)
    assert re.search(r"\| commit \| [0-9a-f]{7,} \|", card)
    assert (folder / "samples.png").exists()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_each_classifier(name):
    network = load_classifier(name)
    x, labels = cifar10_sample()
    card = (ROOT / "weights" / name / "README.md").read_text()
    said = float(re.search(r"Right on ([\d.]+) %", card)[1]) / 100
    assert (network(x).argmax(1) == labels).float().mean() == pytest.approx(said, abs=0.15)  # of 64, three deviations
    assert network.config["classes"] == list(CLASSES)
    features = load_classifier(name, logits=False)(x)
    torch.testing.assert_close(network.head(features), network(x))
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert f"{sum(parameter.numel() for parameter in network.parameters()):,} parameters" in card
    assert (ROOT / "weights" / name / WEIGHTS).stat().st_size < 1e6


def test_a_damaged_classifier_is_told(monkeypatch):
    monkeypatch.setitem(CLASSIFIERS, "cifar10-reference", "0" * 64)
    with pytest.raises(hub.WeightsError, match="it is damaged or not what was saved"):
        load_classifier("cifar10-reference")


def test_a_release_is_complete_and_small_enough():
    folders = sorted(path.name for path in (ROOT / "weights").iterdir())
    assert folders == sorted([*PRETRAINED, *CLASSIFIERS])
    size = sum(file.stat().st_size for file in (ROOT / "weights").rglob("*"))
    assert size < 100e6
    table = (ROOT / "docs" / "weights.md").read_text()
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
