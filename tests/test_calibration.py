"""calibrate: problems with a known answer, curves that misbehave, shares that nothing keeps, and what is saved."""

import json

import pytest
import torch
from conftest import fitted, tiny_vae
from hypothesis import given
from hypothesis import strategies as st

from idaa_transforms import CLAETransform, IDAATransform
from idaa_transforms.hub.folder import CONFIG
from idaa_transforms.kornia import RandomIDAA
from idaa_transforms.measure.calibration import calibrate, even
from idaa_transforms.measure.confidence import images_needed, wilson
from idaa_transforms.measure.identity import IdentityMeter
from idaa_transforms.sample import cifar10_sample

X = torch.linspace(0.3, 0.7, 41)[:, None, None, None].expand(41, 3, 2, 2)
LOADER = [X[:20], (X[20:], "a label")]


def up(x):
    """A loss whose gradient is 1 in every pixel, so that CLAE's views are x + eps."""
    return lambda views: views.flatten(1).sum(1)


def flat(views):
    return views.flatten(1)


def above(*edges):
    """A reference model of classes: between which edges the mean of an image lies."""
    edges = torch.tensor(edges)

    def reference(images):
        band = (images.flatten(1).mean(1, keepdim=True) > edges + 1e-4).sum(1)
        return torch.nn.functional.one_hot(band, len(edges) + 1).float()

    return IdentityMeter(reference, logits=True)


def test_a_known_answer():
    """Images 0.3, 0.31, ... 0.7 and an edge just above 0.5. A step of eps carries that of 0.5 over it, and from 0.0101
    on one more each 0.01; 0.9 of 41 allows four of them, so that the answer is 0.0401."""
    aug = CLAETransform(0.5)
    found = calibrate(aug, LOADER, up, above(0.5), keep=0.9, values=(0.1, 0.005), refine=94)
    assert found.recommended == pytest.approx(0.0401, abs=0.001)
    assert len(found.curve) == 96
    assert [row["eps"] for row in found.curve] == sorted(row["eps"] for row in found.curve)
    for row in found.curve:
        carried = 1 + int(100 * (row["eps"] - 1e-4))
        assert row["prediction_agreement"] == pytest.approx(1 - carried / 41)
    low, high = wilson(37 / 41, 41)
    assert found.interval == pytest.approx((low, high))
    assert (
        f"eps = 0.04 keeps prediction_agreement of at least 0.9 (95 % interval {low:.3f} to {high:.3f}); 0.041"
        in str(found)
    )
    assert aug.eps == 0.5


@pytest.mark.parametrize("options", [{}, {"norm": "l2"}, {"eps_unit": "posterior", "clip": (0.0, 1.0)}, {"steps": 3}])
def test_the_curve_is_that_of_a_call_for_each_eps(vae, x, loss_fn, options):
    """Though a single step shares its gradient among all eps."""
    aug = IDAATransform(vae, 4.0, **options)
    found = calibrate(aug, [x[:2], x[2:]], lambda _: loss_fn, flat, keep=0.0)
    assert [row["eps"] for row in found.curve] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    for row in found.curve:
        meter = IdentityMeter(flat)
        for part in (x[:2], x[2:]):
            meter.update(part, aug(part, loss_fn=loss_fn, eps=row["eps"]))
        expected = meter.compute()
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-4)


def test_a_curve_that_comes_back_is_not_trusted():
    """From 0.4 an eps of 0.2 leads beyond the band [0.5, 0.55], back to the class of before."""
    x = torch.full((8, 3, 2, 2), 0.4)
    band = lambda v: torch.stack([((v.mean((1, 2, 3)) - 0.525).abs() > 0.025).float(), torch.full((8,), 0.5)], 1)  # noqa: E731
    meter = IdentityMeter(band, logits=True)
    found = calibrate(CLAETransform(), [x], up, meter, values=(0.05, 0.12, 0.2, 0.3), refine=0)
    assert found.recommended == 0.05
    assert str(found).endswith("; 0.12 does not (larger ones that do are not trusted: 0.2, 0.3)")


def test_a_share_that_nothing_keeps_is_an_answer(tmp_path):
    never = IdentityMeter(lambda v: torch.randn(len(v), 50), logits=True)
    found = calibrate(CLAETransform(), LOADER, up, never, values=(0.01, 0.1))
    assert found.recommended is None
    assert found.interval is None
    with pytest.raises(
        ValueError, match=r"nothing to save: no eps keeps prediction_agreement of at least 0.95: the smal"
    ):
        found.save(tmp_path)


def test_wrong_loaders_and_weights_that_explain_too_little(aug, x, loss_fn, folder):
    with pytest.raises(ValueError, match="can be read only once"):
        calibrate(aug, iter([x]), lambda _: loss_fn, flat)
    with pytest.raises(ValueError, match="loader is empty"):
        calibrate(aug, [], lambda _: loss_fn, flat)
    found = calibrate(RandomIDAA(aug.autoencoder, 0.1), [x], lambda _: loss_fn, flat, keep=0.0, values=(0.1,))
    rest = (x - aug.explain(x, loss_fn=loss_fn).reconstruction).square().sum()
    explained = 1 - rest / (x - x.mean((2, 3), keepdim=True)).square().sum()
    assert found.explained == pytest.approx(explained.item(), rel=1e-4)
    assert found.explained < 0.5
    with pytest.raises(ValueError, match="nothing to save: no eps is recommended: the weights explain 0 % of the var"):
        found.save(folder)


def test_saved_with_the_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    x = cifar10_sample((16, 16))[0]
    IDAATransform(fitted(tiny_vae(latent_dim=32), x), 0.2, norm="l2", steps=2).save_pretrained(tmp_path)
    aug = IDAATransform.from_pretrained(tmp_path)
    found = calibrate(aug, [x], up, flat, keep=1.0, values=(0.001, 0.002))
    found.save("~", about="a reference model of pixels")
    assert IDAATransform.from_pretrained(tmp_path)._saved() == aug._saved() | {"eps": 0.002}
    reason = json.loads((tmp_path / CONFIG).read_text())["calibration"]
    assert reason["answer"] == str(found)
    assert reason["about"] == "a reference model of pixels"
    assert reason["measure"] == "retrieval_at_1"
    assert reason["run"]["date"].startswith("20")
    assert reason["curve"][0]["images"] == 64
    assert reason["explained"] > 0.5
    assert json.loads(found.to_json())["recommended"] == 0.002
    assert IDAATransform.from_pretrained(tmp_path, eps=0.5).eps == 0.5


def test_what_too_few_images_say_is_not_saved(folder):
    before = (folder / CONFIG).read_bytes()
    found = calibrate(CLAETransform(), LOADER, up, above(0.5), keep=0.9, values=(0.005, 0.1))
    said = r"41 images are too few .* than to 0.03; use 388 or more, or set .*: from_pretrained\(..., eps=0.02875"
    with pytest.raises(ValueError, match=said):
        found.save(folder)
    assert (folder / CONFIG).read_bytes() == before
    enough = torch.linspace(0.3, 0.7, 388)[:, None, None, None].expand(-1, 3, 2, 2)
    found = calibrate(CLAETransform(), [enough], up, above(0.5), keep=0.9, values=(0.005, 0.1))
    found.save(folder)
    assert IDAATransform.from_pretrained(folder).eps == found.recommended


@pytest.mark.parametrize(
    ("share", "images", "low", "high"),  # (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), by hand
    [(0.5, 10, 0.2366, 0.7634), (1, 10, 0.7225, 1), (0.95, 20, 0.7639, 0.9911), (0, 1, 0, 0.7935)],
)
def test_the_interval_of_wilson(share, images, low, high):
    assert wilson(share, images) == pytest.approx((low, high), abs=5e-5)


@given(keep=st.floats(0, 1), above=st.floats(0, 1))
def test_so_many_images_are_enough_and_one_less_is_not(keep, above):
    width = lambda share, images: wilson(share, images)[1] - wilson(share, images)[0]  # noqa: E731
    needed = images_needed(keep)
    assert width(keep + above * (1 - keep), needed) <= 0.06 + 1e-9
    assert width(max(keep, 0.5), needed - 1) > 0.06
    assert [images_needed(share) for share in (0, 0.5, 0.9, 0.95, 1)] == [1064, 1064, 388, 215, 61]


@pytest.mark.parametrize(("images", "size", "sizes"), [(129, 128, [65, 64]), (64, 128, [64]), (7, 3, [3, 2, 2])])
def test_no_batch_is_much_smaller_than_the_others(images, size, sizes):
    batches = even(torch.arange(images), size)
    assert list(map(len, batches)) == sizes
    assert torch.cat(list(batches)).tolist() == list(range(images))
