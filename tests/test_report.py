"""The report of ``idaa inspect``: each kind of weights, numbers of each size, and pictures in which all can be seen."""

import itertools
import re

import pytest
import torch
from conftest import fitted, tiny_vae
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from tiny_diffusers import TINY
from torch import nn

from idaa_transforms import IDAATransform
from idaa_transforms.autoencoders.diffusers import DiffusersAutoencoder
from idaa_transforms.measure.calibration import Calibration
from idaa_transforms.measure.figures import draw, visible
from idaa_transforms.measure.identity import IdentityMeter
from idaa_transforms.measure.report import _line, _number, inspect
from idaa_transforms.util.sample import cifar10_sample


def calibration(*kept, eps=(0.1, 0.2, 0.3), keep=0.95):
    """One with these shares at ``eps``, on 500 images."""
    rows = [
        {"eps": e, "retrieved": share, "gain": e, "l2": 10 * e, "images": 500}
        for e, share in zip(eps, kept, strict=True)
    ]
    return Calibration("eps", "retrieved", keep, {"eps": 0.1}, rows)


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
def test_of_every_kind_of_weights(kind, tmp_path):
    vae, size, channels = {
        "five channels, not square": lambda: (tiny_vae((16, 24), channels=5), (16, 24), 5),
        "grey": lambda: (tiny_vae(channels=1), (16, 16), 1),
        "another size": lambda: (tiny_vae(), (24, 20), 3),
        "diffusers": lambda: (tiny_diffusers(), (20, 24), 3),
    }[kind]()
    x = torch.rand(5, channels, *size, generator=torch.Generator().manual_seed(0))
    text, found = page(IDAATransform(vae, 1e-4), x, tmp_path, batch_size=2)
    assert ("Theorem 3.5" in text) == (kind != "diffusers")
    assert text.count("<img") == 11
    assert found.images == 5
    values = cells(text, "IDAA, eps ")
    assert list(values)[:3] == ["2e-05", "5e-05", "0.0001"]
    assert len({row[-1] for row in values.values()}) == len(values)  # however small eps is, its step can be read
    assert "nan" not in text.lower().split("<table")[1]


def tiny_diffusers():
    """An untrained network of diffusers."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    return DiffusersAutoencoder(diffusers.AutoencoderTiny(**TINY["AutoencoderTiny"]))


def test_weights_that_reconstruct_badly_are_named_and_others_recommended(tmp_path):
    x = cifar10_sample((16, 16))[0]
    bad, found = page(IDAATransform(tiny_vae(), 0.02), x[:8], tmp_path)
    assert found.recommended is None
    assert '<p class="answer">No eps is recommended: the weights explain 0 % of the variance' in bad
    assert ", recommended" not in bad
    good, found = page(IDAATransform(fitted(tiny_vae(latent_dim=32), x), 0.02), x, tmp_path, keep=0.9)
    assert found.recommended
    assert list(cells(good, "IDAA, eps ")).count(f"{found.recommended:g}, recommended") == 1
    assert "eps is saved as a default only from 388 images on" in good


def test_signals_are_not_shown(tmp_path):
    with pytest.raises(ValueError, match=r"inspect shows images \(N, C, H, W\), not shape \(4, 3, 16\)"):
        page(IDAATransform(tiny_vae()), torch.rand(4, 3, 16), tmp_path)


def test_the_untouched_images_are_the_baseline(tmp_path):
    text, _ = page(IDAATransform(tiny_vae(), 0.02), torch.rand(6, 3, 16, 16), tmp_path)
    (untouched,) = cells(text, "untouched images").values()
    assert untouched[1:] == ["0", "1.00", "1.00", "0", "0"]
    assert list(cells(text, "random augmentation")) == [", SimCLR&#x27;s"]
    header = re.search("<thead>(.*?)</thead>", text)[1]
    terms = re.findall("<dt>(.*?)</dt>", text)
    assert (
        re.findall('<th scope="col">(.*?)</th>', header)
        == terms
        == ["loss", "rise", "found", "cosine", "L2", "largest"]
    )
    assert text.index("<dt>") < text.index("<table")


def test_of_clae_what_is_merely_the_last_that_was_tried_is_not_marked():
    title = lambda found, row, said: _line("x", found.curve[row], found, said)[0]  # noqa: E731
    all_keep, two_keep = calibration(1, 1, 1), calibration(1, 0.97, 0.9)
    assert [title(all_keep, i, "last to keep") for i in range(3)] == ["x, eps 0.1", "x, eps 0.2", "x, eps 0.3"]
    assert [title(two_keep, i, "last") for i in range(3)] == ["x, eps 0.1", "x, eps 0.2, last", "x, eps 0.3"]
    assert title(all_keep, 2, "recommended") == "x, eps 0.3, recommended"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1, "1.00"),
        (0.95312, "0.953"),
        (0.00012345, "0.000123"),
        (1e-7, "1.00e-07"),
        (-0.5, "-0.500"),
        (12.345, "12.3"),
        (792.6, "793"),
        (14008.2, "14,008"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_have_three_digits_that_count(value, text):
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


@settings(max_examples=12)
@given(seed=st.integers(0, 2**31), crowd=st.integers(1, 60))
def test_the_eps_beside_points_do_not_overprint(seed, crowd):
    noise = torch.rand(crowd, generator=torch.Generator().manual_seed(seed)).tolist()
    eps = [0.01 * (i + 1) for i in range(crowd)]
    lines = {"IDAA": calibration(*sorted(noise, reverse=True), eps=eps, keep=0.0), "CLAE": calibration(1, 1, 1)}
    figure = Figure(figsize=(4.6, 3.9), dpi=160, layout="constrained")
    draw(figure, lines, {"gain": 0.1, "retrieved": 0.5}, "retrieved", "found", 0.9)
    figure.draw_without_rendering()
    (axis,) = figure.axes
    boxes = [text.get_window_extent() for text in axis.texts]
    assert boxes
    assert not [pair for pair in itertools.combinations(boxes, 2) if pair[0].overlaps(pair[1])]
