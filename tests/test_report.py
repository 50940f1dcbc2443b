"""The report of ``idaa inspect``: every kind of weights, numbers of any size, and pictures in which all can be seen."""

import re

import pytest
import torch
from conftest import fitted, tiny_vae
from hypothesis import given
from hypothesis import strategies as st
from tiny_diffusers import TINY
from torch import nn

from idaa_transforms import IDAATransform
from idaa_transforms.autoencoders.diffusers import DiffusersAutoencoder
from idaa_transforms.measure.calibration import Calibration
from idaa_transforms.measure.figures import visible
from idaa_transforms.measure.identity import IdentityMeter
from idaa_transforms.measure.report import _number, _table, inspect
from idaa_transforms.sample import cifar10_sample


def calibration(*kept):
    """One with these shares at eps 0.1, 0.2 and so on."""
    other = {"loss_before": 1.0, "gain": 0.1, "images": 500}
    rows = [{"eps": 0.1 * (i + 1), "retrieval_at_1": share} | other for i, share in enumerate(kept)]
    return Calibration("retrieval_at_1", 0.95, {"eps": 0.1}, rows)


def page(aug, x, out, **options):
    """The report's text for ``x``, and what was found."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 5))
    found = inspect(aug, x, lambda x: lambda v: network(v).square().sum(1), IdentityMeter(network), out, **options)
    return (out / "report.html").read_text("utf-8"), found


def cells(text, start):
    """The numbers of the table's rows whose title begins with ``start``."""
    rows = re.findall(rf'<th scope="row">{start}(.*?)</th>(.*?)</tr>', text)
    return {title: re.findall("<td>(.*?)</td>", row) for title, row in rows}


@pytest.mark.parametrize("kind", ["five channels, not square", "grey", "diffusers", "another size"])
def test_every_kind_of_weights(kind, tmp_path):
    vae, size, channels = {
        "five channels, not square": lambda: (tiny_vae((16, 24), channels=5), (16, 24), 5),
        "grey": lambda: (tiny_vae(channels=1), (16, 16), 1),
        "another size": lambda: (tiny_vae(), (24, 20), 3),
        "diffusers": lambda: (tiny_diffusers(), (20, 24), 3),
    }[kind]()
    x = torch.rand(5, channels, *size, generator=torch.Generator().manual_seed(0))
    text, found = page(IDAATransform(vae, 1e-4), x, tmp_path, batch_size=2)
    assert (text.count("<img"), text.count("<svg")) == (9, 2)
    assert found.images == 5
    values = cells(text, "IDAA, eps ")
    assert list(values)[:3] == ["2.5e-05", "5e-05", "0.0001"]
    assert len({row[-1] for row in values.values()}) == len(values)  # however small eps is, its step can be read
    assert "nan" not in text.lower().split("<table")[1]


def tiny_diffusers():
    """An untrained network of diffusers."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    return DiffusersAutoencoder(diffusers.AutoencoderTiny(**TINY["AutoencoderTiny"]))


def test_only_weights_that_reconstruct_well_are_recommended(tmp_path):
    x = cifar10_sample((16, 16))[0]
    bad, found = page(IDAATransform(tiny_vae(), 0.02), x[:8], tmp_path)
    assert found.recommended is None
    assert ", recommended" not in bad
    good, found = page(IDAATransform(fitted(tiny_vae(latent_dim=32), x), 0.02), x, tmp_path, keep=0.9)
    assert list(cells(good, "IDAA, eps ")).count(f"{found.recommended:g}, recommended") == 1
    assert list(cells(good, "random augmentation")) == [", SimCLR&#x27;s"]
    terms = re.findall("<dt>(.*?)</dt>", good)
    assert (
        re.findall('<th scope="col">(.*?)</th>', good) == terms == [*terms[:2], "retrieved", "cosine", "L2", "largest"]
    )


def test_signals_are_not_shown(tmp_path):
    with pytest.raises(ValueError, match=r"inspect shows images \(N, C, H, W\), not shape \(4, 3, 16\)"):
        page(IDAATransform(tiny_vae()), torch.rand(4, 3, 16), tmp_path)


@pytest.mark.parametrize(("kept", "marked"), [((1, 1, 1), []), ((1, 0.97, 0.9), ["0.2, last to keep 0.95"])])
def test_the_largest_eps_tried_with_clae_is_no_answer(kept, marked):
    text = _table(calibration(1, 0.9), calibration(*kept), {"retrieval_at_1": 1.0})
    assert [title for title in cells(text, "CLAE, eps ") if "last" in title] == marked
    assert list(cells(text, "IDAA, eps ")) == ["0.1, recommended", "0.2"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1, "1.00"),
        (0.95312, "0.953"),
        (1e-7, "1.00e-07"),
        (-0.5, "-0.500"),
        (12.345, "12.3"),
        (14008.2, "14,008"),
    ],
)
def test_numbers_have_three_significant_digits(value, text):
    assert _number(value) == text


@given(seed=st.integers(0, 2**31), size=st.floats(1e-6, 1e3))
def test_differences_are_made_bright_but_not_white(seed, size):
    values = size * torch.rand(3000, generator=torch.Generator().manual_seed(seed))
    shown, times = visible(values)
    torch.testing.assert_close(shown, values * times)
    assert (shown > 1.05).float().mean() < 0.01
    assert shown.max() > 0.9


def test_what_is_shown_of_no_difference_and_of_one_pixel():
    assert visible(torch.zeros(2, 3, 4, 4)) == (pytest.approx(torch.zeros(2, 3, 4, 4)), 1.0)
    assert visible(torch.tensor([0.0, 0.1, -0.25]))[1] == 4
    assert visible(torch.eye(1000) / 2)[1] == 2  # 1 in 1000 is not 0
