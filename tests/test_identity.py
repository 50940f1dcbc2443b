"""The meter: numbers worked out by hand, scikit-learn's neighbours, and reference models that fail."""

import pytest
import torch
from conftest import Encoder
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors
from torch import nn
from torch.nn import functional as F
from torchvision.transforms import v2

from idaa_transforms import IDAATransform
from idaa_transforms.measure.identity import IdentityMeter, retrieval_at_1
from idaa_transforms.measure.models import ModelError
from idaa_transforms.sample import cifar10_sample


def pixel(images):
    """A reference model of two features: the first two pixels of the red channel."""
    return images[:, 0, 0, :2]


def image(*pixels):
    out = torch.zeros(1, 3, 2, 2)
    out[0, 0, 0, :2] = torch.tensor(pixels)
    return out


def test_every_number_by_hand():
    x = torch.cat([image(3.0, 4.0), image(1.0, 0.0), image(0.0, 2.0)])
    views = torch.cat([image(3.0, 4.0), image(0.0, 1.0), image(0.0, 1.0)])
    labels = torch.tensor([1, 0, 0])
    meter = IdentityMeter(pixel, logits=True)
    meter.update(x[:2], views[:2], labels=labels[:2], losses=(torch.tensor([1.0, 2.0]), torch.tensor([1.5, 4.0])))
    known = meter.features(x[2:])
    losses = torch.tensor(0.5), torch.tensor(0.25)
    meter.update(x[2:], views[2:], labels=labels[2:], losses=losses, features=known)
    samples = meter.samples()
    expected = {
        "cosine": [1, 0, 1],
        "l2": [0, 2**0.5, 1],
        "linf": [0, 1, 1],
        "loss_before": [1, 2, 0.5],
        "loss_after": [1.5, 4, 0.25],
        "gain": [0.5, 2, -0.25],
        "prediction_agreement": [1, 0, 1],
        "label_agreement": [1, 0, torch.nan],  # the third image had the wrong prediction already
        "retrieval_at_1": [1, 0, 1],  # the second view is nearest to the third image
    }
    assert samples.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(samples[name], torch.tensor(values, dtype=torch.float32), equal_nan=True)
    means = meter.compute()
    assert means["images"] == 3
    assert means["label_agreement"] == 0.5
    assert means["gain"] == pytest.approx(0.75)
    meter.reset()
    with pytest.raises(ValueError, match="nothing was measured"):
        meter.compute()


@given(seed=st.integers(0, 2**31), n=st.integers(1, 40), dim=st.integers(1, 6), noise=st.floats(0, 2))
def test_retrieval_is_that_of_scikit_learn(seed, n, dim, noise):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, dim, generator=generator)
    views = images + noise * torch.randn(n, dim, generator=generator)
    neighbours = NearestNeighbors(n_neighbors=n, metric="cosine").fit(images.double().numpy())
    distance, index = map(torch.from_numpy, neighbours.kneighbors(views.double().numpy()))
    own = distance[index == torch.arange(n)[:, None]]
    found = retrieval_at_1(images, views, chunk=7)
    clear = (own - distance[:, 0]).abs() > 1e-5  # elsewhere the two are equally near, to rounding
    assert (found[clear] == 0).all()
    assert (found[index[:, 0] == torch.arange(n)] == 1).all()


def test_the_reference_model_and_the_images_stay_as_they_were():
    reference, x = Encoder().train(), torch.rand(4, 3, 16, 16)
    before = {key: value.clone() for key, value in reference.state_dict().items()}
    center = reference.center
    meter = IdentityMeter(reference)
    meter.update(x, x)
    assert reference.training
    assert reference.body.training
    assert all(torch.equal(value, before[key]) for key, value in reference.state_dict().items())
    assert reference.center is center
    assert meter.compute()["cosine"] == pytest.approx(1)  # in eval mode: no dropout between x and x
    normalise, kept = v2.Normalize([0.5] * 3, [0.25] * 3, inplace=True), x.clone()
    in_place = IdentityMeter(lambda images: pixel(normalise(images)))
    in_place.update(x, x.flip(-1))
    assert torch.equal(x, kept)
    aside = IdentityMeter(lambda images: pixel(normalise(images.clone())))
    aside.update(x, x.flip(-1))
    assert in_place.compute() == aside.compute()


def test_wrong_input():
    meter, x = IdentityMeter(pixel), torch.rand(2, 3, 2, 2)
    with pytest.raises(ValueError, match=r"shape \(2, 3, 2, 2\) and .*views \(1, 3, 2, 2\)"):
        meter.update(x, x[:1])
    with pytest.raises(ValueError, match="labels need a reference model of classes"):
        meter.update(x, x, labels=torch.zeros(2))
    meter.update(x, x)
    meter.update(x, x, losses=(torch.zeros(2), torch.zeros(2)))
    with pytest.raises(ValueError, match="some batches came with"):
        meter.compute()


def broken(images):
    raise KeyError("my bug\nin detail")


@pytest.mark.parametrize(
    ("reference", "name", "said"),
    [
        (broken, None, r"broken failed on images \(2, 3, 2, 2\) .* \(KeyError: 'my bug.*; try it on some"),
        (broken, "mine:net", "mine:net failed"),
        (nn.Linear(7, 2), None, r"Linear failed on .*\(RuntimeError: mat1 and mat2"),
        (lambda images: pixel(images) / 0, "mine", "mine returned NaN or infinity for 2 of 2 images .* from 0 to 1"),
        (lambda images: images.mean(), "mine", r"mine returned shape \(\) for 2 images"),
        (lambda images: [pixel(images)], "mine", "mine returned a list for 2 images"),
    ],
)
def test_a_reference_model_that_fails_is_named_in_one_line(reference, name, said):
    x = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 3, 2, 2)
    with pytest.raises(ModelError, match=f"^the reference model {said}") as failed:
        IdentityMeter(reference, name=name).update(x, x)
    assert "\n" not in str(failed.value)


def test_idaa_moves_images_that_stay_themselves():
    """On real images and weights: views are matched to their images, though they are far from them."""
    x = cifar10_sample()[0]
    weight = torch.randn(x[0].numel(), generator=torch.Generator().manual_seed(0))
    found = IDAATransform.from_pretrained("cifar10-vae").explain(x, loss_fn=lambda v: v.flatten(1) @ weight)
    meter = IdentityMeter(lambda v: F.avg_pool2d(v - v.mean((2, 3), keepdim=True), 4).flatten(1))
    meter.update(x, found.views, losses=(found.loss_before, found.loss_after))
    means = meter.compute()
    assert means["retrieval_at_1"] > 0.95
    assert means["gain"] > 0
    assert means["l2"] > 0.5
