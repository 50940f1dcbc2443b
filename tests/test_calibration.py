"""calibrate: toy problems with a known answer, curves that misbehave, targets that cannot be met, and what is saved."""

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
from idaa_transforms.measure.identity import IdentityMeter, mean_colour
from idaa_transforms.util.sample import cifar10_sample

X = torch.linspace(0.3, 0.7, 41)[:, None, None, None].expand(41, 3, 2, 2)
LOADER = [X[:20], (X[20:], "a label")]


def up(x):
    """A loss whose gradient is 1 in every pixel, so that CLAE's views are x + eps."""
    return lambda views: views.flatten(1).sum(1)


def above(*edges):
    """A judge of classes: between which edges the mean of an image lies."""
    edges = torch.tensor(edges)

    def judge(images):
        band = (images.flatten(1).mean(1, keepdim=True) > edges + 1e-4).sum(1)
        return torch.nn.functional.one_hot(band, len(edges) + 1).float()

    return IdentityMeter(judge, logits=True)


def test_a_known_answer():
    """Images 0.3, 0.31, ... 0.7 and an edge just above 0.5. A step of eps carries that of 0.5 over it, and from 0.0101
    on one more each 0.01; 0.9 of 41 allows four of them, so that the answer is 0.0401."""
    aug = CLAETransform(0.5)
    found = calibrate(aug, LOADER, up, above(0.5), keep=0.9, values=(0.005, 0.1), refine=7)
    assert found.recommended == pytest.approx(0.0401, abs=0.001)
    assert [row["eps"] for row in found.curve] == sorted(row["eps"] for row in found.curve)
    for row in found.curve:
        carried = 1 + int(100 * (row["eps"] - 1e-4))
        assert row["prediction_kept"] == pytest.approx(1 - carried / 41)
    assert "keeps prediction_kept of at least 0.9" in str(found)
    assert aug.eps == 0.5


def test_steps_at_a_fixed_eps():
    aug = CLAETransform(0.1, step_size=0.01)
    found = calibrate(aug, LOADER, up, above(0.5), keep=0.9, vary="steps", values=(1, 8))
    assert found.recommended == 4
    assert [row["steps"] for row in found.curve] == [1, 4, 5, 6, 8]
    assert aug.steps == 1


def test_a_curve_that_comes_back_is_not_trusted():
    """From 0.4 an eps of 0.2 leads beyond the band [0.5, 0.55], back to the class of before."""
    x = torch.full((8, 3, 2, 2), 0.4)
    judge = lambda v: torch.stack([((v.mean((1, 2, 3)) - 0.525).abs() > 0.025).float(), torch.full((8,), 0.5)], 1)  # noqa: E731
    meter = IdentityMeter(judge, logits=True)
    found = calibrate(CLAETransform(), [x], up, meter, values=(0.05, 0.12, 0.2, 0.3), refine=0)
    assert found.recommended == 0.05
    assert "0.12 does not (0.2, 0.3 would again, and is not trusted)" in str(found)


@pytest.mark.parametrize("refine", [0, 3])
def test_a_target_that_cannot_be_met_is_an_answer(refine, tmp_path):
    never = IdentityMeter(lambda v: torch.randn(len(v), 50), logits=True)
    found = calibrate(CLAETransform(), LOADER, up, never, keep=0.95, values=(0.01, 0.1), refine=refine)
    assert found.recommended is None
    assert str(found).startswith("no eps keeps prediction_kept of at least 0.95: already")
    with pytest.raises(ValueError, match="nothing to save: no eps keeps"):
        found.save(tmp_path)


def test_a_target_that_is_always_met_says_so():
    found = calibrate(CLAETransform(), LOADER, up, above(0.99), values=(0.01, 0.02))
    assert found.recommended == 0.02
    assert "the limit lies beyond" in str(found)
    assert len(found.curve) == 2


def test_exactly_the_share_is_enough():
    x = torch.linspace(0.3, 0.49, 20)[:, None, None, None].expand(20, 3, 2, 2)
    found = calibrate(CLAETransform(), [x], up, above(0.49), keep=0.95, values=(0.005, 0.05), refine=0)
    assert [row["prediction_kept"] for row in found.curve] == [0.95, 0.75]
    assert found.recommended == 0.005


def test_features_are_measured_by_retrieval(x, aug, loss_fn):
    found = calibrate(aug, [x], lambda _: loss_fn, lambda v: v.flatten(1), values=(0.1, 0.2))
    assert found.measure == "retrieved"
    assert found.curve[0]["energy_r"] > 0


def test_what_is_asked_wrongly(aug, x, loss_fn):
    with pytest.raises(ValueError, match="can be read only once"):
        calibrate(aug, iter([x]), lambda _: loss_fn, lambda v: v.flatten(1))
    with pytest.raises(ValueError, match="loader is empty"):
        calibrate(aug, [], lambda _: loss_fn, lambda v: v.flatten(1))
    with pytest.raises(ValueError, match=r"measure='label' is not one of \['cosine', .*'retrieved', 'images'\]"):
        calibrate(aug, [x], lambda _: loss_fn, lambda v: v.flatten(1), measure="label")
    assert aug.eps == 0.1


@pytest.mark.parametrize("vary", ["eps", "steps"])
def test_saved_with_the_weights(tmp_path, vary):
    x = cifar10_sample((16, 16))[0]
    IDAATransform(fitted(tiny_vae(latent_dim=32), x), 0.2, norm="l2", steps=2).save_pretrained(tmp_path)
    aug = IDAATransform.from_pretrained(tmp_path)
    values = (0.001, 0.002) if vary == "eps" else (1, 3)
    found = calibrate(aug, [x], up, lambda v: v.flatten(1), keep=1.0, vary=vary, values=values)
    found.save(tmp_path, about="a judge of pixels")
    again = IDAATransform.from_pretrained(tmp_path)
    assert again.settings.saved() == aug.settings.saved() | {vary: values[-1]}
    reason = json.loads((tmp_path / CONFIG).read_text())["calibration"]
    assert reason["answer"] == str(found)
    assert reason["about"] == "a judge of pixels"
    assert reason["run"]["date"].startswith("20")
    assert reason["curve"][0]["images"] == 64
    assert reason["explained"] > 0.5
    assert json.loads(found.to_json())["recommended"] == values[-1]
    assert IDAATransform.from_pretrained(tmp_path, eps=0.5).eps == 0.5


def test_what_too_few_images_say_is_not_saved(folder):
    before = (folder / CONFIG).read_bytes()
    found = calibrate(CLAETransform(), LOADER, up, above(0.5), keep=0.9, values=(0.005, 0.1))
    said = r"41 images are too few .* within 0.03; give 388 or more, or set .*: from_pretrained\(..., eps=0.02875"
    with pytest.raises(ValueError, match=said):
        found.save(folder)
    assert (folder / CONFIG).read_bytes() == before
    enough = torch.linspace(0.3, 0.7, 388)[:, None, None, None].expand(-1, 3, 2, 2)
    found = calibrate(CLAETransform(), [enough], up, above(0.5), keep=0.9, values=(0.005, 0.1))
    found.save(folder)
    assert IDAATransform.from_pretrained(folder).eps == found.recommended


@pytest.mark.parametrize(
    ("share", "images", "low", "high"),  # (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n), by hand
    [(0.5, 10, 0.2366, 0.7634), (1, 10, 0.7225, 1), (0, 10, 0, 0.2775), (0.95, 20, 0.7639, 0.9911), (0, 1, 0, 0.7935)],
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


def test_the_answer_has_the_share_and_its_interval():
    found = calibrate(CLAETransform(), LOADER, up, above(0.5), keep=0.9, values=(0.005, 0.1), refine=0)
    low, high = wilson(40 / 41, 41)
    assert found.interval == pytest.approx((low, high))
    assert f"at least 0.9 (0.976, 95 % interval {low:.3f} to {high:.3f}); 0.1 does not" in str(found)
    cosine = calibrate(CLAETransform(), LOADER, up, above(0.5), keep=0.9, values=(0.005,), measure="cosine")
    assert cosine.interval is None
    assert "interval" not in str(cosine)


def test_weights_that_explain_too_little_get_no_recommendation(folder, x, loss_fn):
    aug = IDAATransform.from_pretrained(folder)
    found = calibrate(aug, [x[:3], x[3:]], lambda x: loss_fn, lambda v: v.flatten(1), keep=0.0, values=(0.1,))
    rest = (x - aug.explain(x, loss_fn=loss_fn).reconstruction).square().sum()
    explained = 1 - rest / (x - x.mean((2, 3), keepdim=True)).square().sum()
    assert found.explained == pytest.approx(explained.item(), rel=1e-4)
    assert explained < 0.5
    assert found.recommended is None
    assert str(found).startswith("no eps is recommended: the weights explain 0 % of the variance")
    with pytest.raises(ValueError, match="nothing to save: no eps is recommended"):
        found.save(folder)


def test_of_signals():
    x = torch.linspace(0.3, 0.7, 41).view(-1, 1, 1).expand(41, 3, 8)
    found = calibrate(CLAETransform(signals=True), [x], up, above(0.5), keep=0.9, values=(0.005, 0.1), refine=0)
    assert found.recommended == 0.005
    assert found.explained == 1


def test_what_is_explained_is_the_variance_within_a_channel():
    x = torch.tensor([[[0.0, 2.0], [10.0, 12.0]]])  # (1, 2, 2): a signal of two channels
    assert mean_colour(x).flatten().tolist() == [1, 11]
    assert mean_colour(x[..., None]).flatten().tolist() == [1, 11]


@pytest.mark.parametrize(("images", "size", "sizes"), [(129, 128, [65, 64]), (64, 128, [64]), (7, 3, [3, 2, 2])])
def test_no_batch_is_much_smaller_than_the_others(images, size, sizes):
    batches = even(torch.arange(images), size)
    assert list(map(len, batches)) == sizes
    assert torch.cat(list(batches)).tolist() == list(range(images))


def test_by_default_around_the_transforms_own_eps(vae, x, loss_fn):
    found = calibrate(IDAATransform(vae, 4.0, norm="l2"), [x], lambda _: loss_fn, lambda v: v.flatten(1), keep=0.0)
    assert [row["eps"] for row in found.curve] == [0.8, 2.0, 4.0, 6.0, 8.0, 12.0, 20.0, 28.0, 40.0]


def test_of_a_kornia_augmentation(vae, x, loss_fn):
    aug = RandomIDAA(vae, 0.1, p=0.5)
    found = calibrate(aug, [x], lambda _: loss_fn, lambda v: v.flatten(1), values=(0.1, 0.2))
    assert [row["eps"] for row in found.curve] == [0.1, 0.2]
    assert all(row["l2"] > 0 for row in found.curve)
    assert aug.attack.eps == 0.1
