"""Every set of weights of this release: it loads, is what its card says, and makes hard views of real images."""

import json
import re
from pathlib import Path

import pytest
import torch

from idaa_transforms import IDAATransform, hub
from idaa_transforms.autoencoders.plausible import explained_variance
from idaa_transforms.hub.folder import CONFIG
from idaa_transforms.hub.registry import PRETRAINED
from idaa_transforms.measure.classifiers import CLASSIFIERS, load_classifier
from idaa_transforms.sample import CLASSES, cifar10_sample
from idaa_transforms.training.evaluation import evaluate_vae

WEIGHTS = Path(__file__).parents[1] / "weights"


@pytest.mark.parametrize("name", PRETRAINED)
def test_each_set_of_weights(name):
    aug = IDAATransform.from_pretrained(name)
    vae = aug.autoencoder
    assert not vae.training
    assert {p.dtype for p in vae.parameters()} == {torch.float32}
    assert explained_variance(vae) > 0.8
    x = cifar10_sample(vae.image_size)[0][:8]
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    found = aug.explain(x, loss_fn=lambda v: (v * weight).flatten(1).sum(1))
    assert (found.loss_after > found.loss_before).all()
    if PRETRAINED[name].data == "CIFAR-10":  # the sample is of its test images, and the card's numbers of all of them
        card = (hub.find(name) / "README.md").read_text()
        told = dict(re.findall(r"^\| (.+) \| ([\d.]+)(?: dB| nats an image)? \|$", card, re.MULTILINE))
        measured = evaluate_vae(vae, (cifar10_sample()[0] * 255).round().byte())
        assert measured["mse"] == pytest.approx(float(told["mean squared error, normalised units"]), rel=0.3)
        assert measured["psnr"] == pytest.approx(float(told["PSNR of G(x), mean over images"]), abs=1)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_each_classifier(name):
    network = load_classifier(name)
    x, labels = cifar10_sample()
    accuracy = json.loads((WEIGHTS / name / CONFIG).read_text())["accuracy"]
    assert (network(x).argmax(1) == labels).float().mean() == pytest.approx(accuracy, abs=0.15)  # 3 deviations of 64
    assert network.classes == CLASSES
    torch.testing.assert_close(network.head(load_classifier(name, logits=False)(x)), network(x))
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_damaged_classifier_is_told(monkeypatch):
    monkeypatch.setitem(CLASSIFIERS, "cifar10-reference", "0" * 64)
    with pytest.raises(hub.WeightsError, match="it is damaged or not what was saved"):
        load_classifier("cifar10-reference")


def test_weights_are_those_of_the_release_and_small_enough_to_travel():
    assert {path.name for path in WEIGHTS.iterdir()} == {*PRETRAINED, *CLASSIFIERS}
    assert sum(file.stat().st_size for file in WEIGHTS.rglob("*")) < 45e6


def test_a_recommended_eps_is_the_calibrated_one():
    calibrated = set()
    for name in PRETRAINED:
        reason = json.loads((hub.find(name) / CONFIG).read_text()).get("calibration")
        if reason:
            calibrated.add(name)
            eps = IDAATransform.from_pretrained(name).eps
            kept = {row["eps"]: row[reason["measure"]] for row in reason["curve"]}
            assert eps == reason["settings"]["eps"]
            assert min(share for each, share in kept.items() if each <= eps) >= reason["keep"]
            assert min(kept.values()) < reason["keep"]  # it did have a limit
    assert "cifar10-vae" in calibrated
