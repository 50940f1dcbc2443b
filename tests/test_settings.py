"""Settings: said, checked and described in one place."""

import dataclasses
import inspect
import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from conftest import tiny_vae

from idaa_transforms import CLAETransform, IDAATransform, Settings
from idaa_transforms._core.settings import DEFAULTS, Options, OptionsButP


def test_the_three_lists_in_the_file_agree():
    """The fields, the keyword arguments that signatures pass on, and the descriptions."""
    fields = [each.name for each in dataclasses.fields(Settings)]
    described = re.findall(r"^        (\w+): ", inspect.getdoc(Settings) and Settings.__doc__, flags=re.MULTILINE)
    assert fields == list(DEFAULTS) == described
    assert {"eps", *Options.__annotations__} == set(fields)
    assert {"p", *OptionsButP.__annotations__} == set(Options.__annotations__)


def test_attributes_are_the_settings(vae):
    aug = IDAATransform(vae, 0.3, norm="l2")
    assert (aug.eps, aug.norm, aug.steps) == (0.3, "l2", 1)
    aug.steps, aug.eps = 3, 0.5
    assert aug.settings == Settings(0.5, norm="l2", steps=3)
    assert aug.settings.changed() == {"eps": 0.5, "norm": "l2", "steps": 3}
    assert repr(aug) == "IDAATransform(ConvVAE, eps=0.5, norm='l2', steps=3)"
    with pytest.raises(ValueError, match="norm='l1'"):
        aug.norm = "l1"
    assert aug.norm == "l2"


def test_an_unknown_setting_is_named_with_those_that_there_are(vae):
    with pytest.raises(TypeError, match=r"IDAATransform has no setting 'epsilon'; it has eps, norm, steps"):
        IDAATransform(vae, epsilon=0.1)


@pytest.mark.parametrize("number", [np.float32(0.1), np.float64(0.1), np.int64(1), Fraction(1, 10), torch.tensor(0.1)])
def test_numbers_are_numbers(number, x, vae, loss_fn):
    expected = IDAATransform(vae, float(number))(x, loss_fn=loss_fn)
    assert torch.equal(IDAATransform(vae)(x, loss_fn=loss_fn, eps=number), expected)
    if not isinstance(number, torch.Tensor):
        assert torch.equal(IDAATransform(vae, number, steps=np.int64(1))(x, loss_fn=loss_fn), expected)


class TestUnits:
    """With mean and std, clip and the eps of pixels are in [0, 1], whatever x is normalised by."""

    MEAN, STD = [0.45, 0.5, 0.4], [0.2, 0.25, 0.3]

    def normalised(self, x):
        return (x - torch.tensor(self.MEAN).view(3, 1, 1)) / torch.tensor(self.STD).view(3, 1, 1)

    def unit(self, x):
        return x * torch.tensor(self.STD).view(3, 1, 1) + torch.tensor(self.MEAN).view(3, 1, 1)

    @pytest.mark.parametrize("clip", [None, (0.0, 1.0), (0.2, 0.7)])
    @pytest.mark.parametrize("clae", [True, False])
    def test_views_are_those_of_the_same_images_in_unit_range(self, clip, clae, x):
        make = (lambda **o: CLAETransform(0.2, **o)) if clae else (lambda **o: IDAATransform(tiny_vae(), 2.0, **o))
        loss = lambda v: (v - 0.3).square().flatten(1).sum(1)  # noqa: E731
        expected = make(clip=clip)(x, loss_fn=loss)
        aug = make(clip=clip, mean=self.MEAN, std=self.STD)
        found = aug(self.normalised(x), loss_fn=lambda v: loss(self.unit(v)))
        close = (self.unit(found) - expected).abs() < 1e-5
        assert close.float().mean() > 0.99  # the sign of a gradient that is nearly zero may differ by rounding
        if clip is not None:
            assert (clip[0] - 1e-6 <= self.unit(found)).all()
            assert (self.unit(found) <= clip[1] + 1e-6).all()
            assert ((self.unit(found) - clip[1]).abs() < 1e-6).any()

    def test_eps_of_clae(self, x):
        x = self.normalised(x)
        moved = CLAETransform(8 / 255, mean=self.MEAN, std=self.STD)(x, loss_fn=lambda v: v.sum()) - x
        torch.testing.assert_close(moved, (8 / 255 / torch.tensor(self.STD)).view(3, 1, 1).expand_as(moved))
        with pytest.raises(ValueError, match="takes 3 channels, not 1"):
            CLAETransform(mean=self.MEAN, std=self.STD)(x[:, :1], loss_fn=lambda v: v.sum())
