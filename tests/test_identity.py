"""The meter: against numbers worked out by hand, scikit-learn's neighbours, and judges that always say one thing."""

import kornia
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
from idaa_transforms.measure.identity import IdentityMeter, energies, retrieved
from idaa_transforms.measure.models import ModelError
from idaa_transforms.util.sample import cifar10_sample


def pixel(images):
    """A judge of two features: the first two pixels of the red channel."""
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
    meter.update(x[2:], views[2:], labels=labels[2:], losses=(torch.tensor(0.5), torch.tensor(0.25)))
    samples = meter.samples()
    expected = {
        "cosine": [1, 0, 1],
        "l2": [0, 2**0.5, 1],
        "linf": [0, 1, 1],
        "loss_before": [1, 2, 0.5],
        "loss_after": [1.5, 4, 0.25],
        "gain": [0.5, 2, -0.25],
        "prediction_kept": [1, 0, 1],
        "label_kept": [1, 0, torch.nan],  # of the third the judge got the label wrong before
        "retrieved": [1, 0, 1],  # the second is nearest to the third image
    }
    assert samples.keys() == expected.keys()
    for name, values in expected.items():
        torch.testing.assert_close(samples[name], torch.tensor(values, dtype=torch.float32), equal_nan=True)
    means = meter.compute()
    assert means["images"] == 3
    assert means["label_kept"] == 0.5
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
    found = retrieved(images, views, chunk=7)
    clear = (own - distance[:, 0]).abs() > 1e-5  # elsewhere the two are equally near, to rounding
    assert (found[clear] == 0).all()
    assert (found[index[:, 0] == torch.arange(n)] == 1).all()


def test_one_that_always_says_same_and_one_that_never_does():
    x, views = torch.rand(6, 3, 4, 4), torch.rand(6, 3, 4, 4)
    same = IdentityMeter(lambda images: torch.ones(len(images), 3), logits=True)
    same.update(x, views)
    assert {k: same.compute()[k] for k in ("cosine", "retrieved", "prediction_kept")} == {
        "cosine": pytest.approx(1),
        "retrieved": 1,
        "prediction_kept": 1,
    }

    def stranger(images):
        """Views get the features of the next image, away from their own."""
        codes = torch.eye(6).roll(0 if torch.equal(images, x) else 1, dims=0)
        return codes

    never = IdentityMeter(stranger, logits=True)
    never.update(x, views)
    assert [never.compute()[k] for k in ("cosine", "retrieved", "prediction_kept")] == [0, 0, 0]


def test_energies():
    x = torch.tensor([[[[0.0, 2.0]]], [[[5.0, 5.0]]]])  # mean colours 1 and 5
    g = torch.tensor([[[[0.5, 1.5]]], [[[5.0, 5.0]]]])
    shares = energies(x, g)
    torch.testing.assert_close(shares["energy_g"], torch.tensor([0.25, 0.0]))
    torch.testing.assert_close(shares["energy_r"], torch.tensor([0.25, 0.0]))


def test_of_any_transform_on_real_images():
    x = cifar10_sample()[0]
    judge = lambda images: F.adaptive_avg_pool2d(images, 4).flatten(1)  # noqa: E731
    measured = {}
    for name, augment in {
        "none": nn.Identity(),
        "flip": kornia.augmentation.RandomHorizontalFlip(p=1.0),
        "blur": v2.GaussianBlur(5),
    }.items():
        meter = IdentityMeter(judge)
        for part in x.split(20):
            meter.update(part, augment(part))
        measured[name] = meter.compute()
    assert measured["none"]["cosine"] == pytest.approx(1)
    assert measured["none"]["l2"] == 0
    assert measured["blur"]["retrieved"] == 1
    assert measured["flip"]["retrieved"] < 1
    assert measured["flip"]["cosine"] < measured["blur"]["cosine"] < 1


def test_what_explain_returns_goes_in(x, aug, loss_fn):
    found = aug.explain(x, loss_fn=loss_fn)
    meter = IdentityMeter(pixel)
    meter.update(x, found.views, losses=found[-2:], reconstruction=found.reconstruction)
    means = meter.compute()
    assert means["gain"] == pytest.approx((found.loss_after - found.loss_before).mean().item())
    assert means["energy_r"] > 0


def test_the_judge_stays_as_it_was():
    judge = Encoder().train()
    before = {key: value.clone() for key, value in judge.state_dict().items()}
    center = judge.center
    meter = IdentityMeter(judge)
    x = torch.rand(4, 3, 16, 16)
    meter.update(x, x)
    assert judge.training
    assert judge.body.training
    assert all(torch.equal(value, before[key]) for key, value in judge.state_dict().items())
    assert judge.center is center
    assert meter.compute()["cosine"] == pytest.approx(1)  # in eval mode: no dropout between x and x


def test_a_judge_that_writes_in_place_changes_neither_images_nor_views(x):
    normalise = v2.Normalize([0.5] * 3, [0.25] * 3, inplace=True)
    views, meter = x.flip(-1), IdentityMeter(lambda images: pixel(normalise(images)))
    before = x.clone()
    meter.update(x, views)
    assert torch.equal(x, before)
    assert torch.equal(views, before.flip(-1))
    aside = IdentityMeter(lambda images: pixel(normalise(images.clone())))
    aside.update(x, views)
    assert meter.compute() == aside.compute()


def test_a_perceptual_distance():
    lpips = pytest.importorskip("lpips")
    distance = lpips.LPIPS(net="squeeze", pnet_rand=True, verbose=False)  # its trunk would be downloaded
    meter = IdentityMeter(pixel, lpips=distance)
    x = cifar10_sample((64, 64))[0][:3]
    meter.update(x, x)
    meter.update(x, x.flip(-1))
    perceived = meter.samples()["lpips"]
    assert perceived.shape == (6,)
    assert (perceived[:3] == 0).all()
    assert (perceived[3:] != 0).all()


def test_a_model_of_timm_by_name(monkeypatch):
    timm = pytest.importorskip("timm")
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained, **kw: create(name, **kw))  # without a network
    x = cifar10_sample()[0][:4]
    for logits in (False, True):
        meter = IdentityMeter("test_efficientnet", logits=logits)
        meter.update(x, x)
        assert (meter.judge(x).shape[1] == 1000) is logits
        assert meter.compute()["cosine"] == pytest.approx(1)


def test_what_is_said_of_wrong_input():
    meter = IdentityMeter(pixel)
    x = torch.rand(2, 3, 2, 2)
    with pytest.raises(ValueError, match=r"shape \(2, 3, 2, 2\) and their views \(1, 3, 2, 2\)"):
        meter.update(x, x[:1])
    with pytest.raises(ValueError, match="labels need a judge of classes"):
        meter.update(x, x, labels=torch.zeros(2))
    meter.update(x, x)
    meter.update(x, x, losses=(torch.zeros(2), torch.zeros(2)))
    with pytest.raises(ValueError, match="some batches came with"):
        meter.compute()
    with pytest.raises(ValueError, match="timm has no pretrained model 'no_such_net'"):
        IdentityMeter("no_such_net")


def broken(images):
    raise KeyError("my bug\nin detail")


def full(images):
    raise torch.OutOfMemoryError("no memory left")


@pytest.mark.parametrize(
    ("judge", "name", "said"),
    [
        (
            broken,
            None,
            r"^the judge broken failed on images \(2, 3, 2, 2\) .* \(KeyError: 'my bug.*; try it on some by it",
        ),
        (broken, "mine:judge", "^the judge mine:judge failed"),
        (nn.Linear(7, 2), None, r"^the judge Linear failed on .*\(RuntimeError: mat1 and mat2"),
        (
            lambda images: pixel(images) / 0,
            "mine",
            "^the judge mine gave NaN or infinity for 2 of 2 images .* from 0 to 1",
        ),
        (lambda images: pixel(images)[:1], "mine", r"^the judge mine gave shape \(1, 2\) for 2 images"),
        (lambda images: images.mean(), "mine", r"^the judge mine gave shape \(\) for 2 images"),
        (lambda images: [pixel(images)], "mine", "^the judge mine gave a list for 2 images"),
    ],
)
def test_a_judge_that_fails_is_named_in_one_line(judge, name, said):
    x = torch.arange(2.0).view(2, 1, 1, 1).expand(2, 3, 2, 2)
    with pytest.raises(ModelError, match=said) as failed:
        IdentityMeter(judge, name=name).update(x, x)
    assert "\n" not in str(failed.value)


def test_a_device_that_is_full_is_no_fault_of_the_judge(x):
    with pytest.raises(torch.OutOfMemoryError, match="no memory left"):
        IdentityMeter(full).update(x, x)


def test_idaa_moves_images_that_stay_themselves():
    """On real images and weights: the views are found again, though they are far from the images."""
    x = cifar10_sample()[0]
    judge = lambda images: F.avg_pool2d(images - images.mean((2, 3), keepdim=True), 4).flatten(1)  # noqa: E731
    weight = torch.randn(x[0].numel(), generator=torch.Generator().manual_seed(0))
    aug = IDAATransform.from_pretrained("cifar10-vae")
    found = aug.explain(x, loss_fn=lambda v: v.flatten(1) @ weight)
    meter = IdentityMeter(judge)
    meter.update(x, found.views, losses=found[-2:], reconstruction=found.reconstruction)
    means = meter.compute()
    assert means["retrieved"] > 0.95
    assert means["gain"] > 0
    assert means["l2"] > 0.5
    assert means["energy_g"] > 10 * means["energy_r"]
