"""The guard: what comes back has its identity by the judge, or is x, and only rows that failed change."""

import copy

import pytest
import torch
from conftest import Encoder, edit_config, tiny_vae
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torchvision.transforms import v2

from idaa_transforms import CLAETransform, Guard, IDAATransform
from idaa_transforms.kornia import RandomIDAA

VAE = tiny_vae()


def judge(images):
    """Features of few numbers, so that each is summed alike in batches of any size."""
    return images.double().mean((2, 3)) - 0.5


def loss(views):
    return (views.float() - 0.3).square().flatten(1).sum(1)


def similarity(views, x):
    return F.cosine_similarity(judge(views).float(), judge(x).float())


@given(
    seed=st.integers(0, 2**31),
    batch=st.integers(0, 7),
    eps=st.floats(0.1, 3),
    threshold=st.floats(-1, 1),
    halvings=st.integers(0, 4),
    steps=st.integers(1, 2),
    p=st.sampled_from([0.5, 1.0]),
    scale=st.sampled_from(["latent", "posterior"]),
    chunk_size=st.sampled_from([None, 2]),
)
def test_every_row_meets_the_threshold_or_is_x(seed, batch, eps, threshold, halvings, steps, p, scale, chunk_size):
    x = torch.rand(batch, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    options = {"steps": steps, "p": p, "scale": scale, "chunk_size": chunk_size}
    guarded = IDAATransform(VAE, eps, guard=Guard(judge, threshold, halvings), **options)
    free = IDAATransform(VAE, eps, **options)
    views, unguarded = (aug(x, loss_fn=loss, generator=torch.Generator().manual_seed(seed)) for aug in (guarded, free))
    same = (views == x).flatten(1).all(1)
    passes = similarity(views, x) >= threshold - 1e-6
    assert (passes | same).all()
    fine = similarity(unguarded, x) >= threshold + 1e-6
    assert torch.equal(views[fine], unguarded[fine])  # rows that pass are not touched
    counts = guarded.stats()
    assert counts["guard_passes"] <= 2 + halvings
    assert counts["weakened"] + counts["refused"] <= batch


def test_deltas_are_halved_alone_and_the_residual_stays(x):
    free, guarded = (
        IDAATransform(VAE, 2.0, mean=VAE.mean, std=VAE.std, **options) for options in ({}, {"guard": Guard(judge, 0.9)})
    )
    before, after = (aug.explain(x, loss_fn=loss) for aug in (free, guarded))
    halved = torch.log2(before.delta.abs().amax(1) / after.delta.abs().amax(1))
    assert set(halved.tolist()) <= {0.0, 1.0, 2.0, 3.0, torch.inf}
    assert len(halved.unique()) > 1
    moved = VAE.decode(after.latent + after.delta)
    torch.testing.assert_close(after.views - moved, x - VAE.decode(after.latent), atol=1e-5, rtol=0)
    counts = guarded.stats()
    assert counts["refused"] == halved.isinf().sum()
    assert counts["weakened"] == ((halved > 0) & halved.isfinite()).sum()


def test_a_judge_that_always_agrees_and_one_that_never_does(x):
    always = IDAATransform(VAE, 1.0, guard=Guard(lambda v: torch.ones(len(v), 2), 0.999))
    assert torch.equal(always(x, loss_fn=loss), IDAATransform(VAE, 1.0)(x, loss_fn=loss))
    assert always.stats() | {"calls": 0} == {
        "calls": 0, "attacked": 4, "unchanged": 0, "guard_passes": 2, "weakened": 0, "refused": 0,
    }  # fmt: skip
    never = IDAATransform(VAE, 1.0, guard=Guard(lambda v: torch.full((len(v), 2), torch.nan), -1.0, 2))
    assert torch.equal(never(x, loss_fn=loss), x)
    assert never.stats()["refused"] == 4
    assert never.stats()["guard_passes"] == 4


def test_the_judge_is_the_callers(x, folder):
    network = Encoder().train()
    before = copy.deepcopy(network.state_dict())
    aug = IDAATransform(VAE, 1.0, guard=Guard(network, 0.999))
    aug(x, loss_fn=loss)
    assert all(module.training for module in (network, network.body, network.body[1]))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert not any("guard" in key for key in aug.state_dict())
    assert network not in set(aug.modules())
    aug.save_pretrained(folder)
    assert "guard" not in (folder / "config.json").read_text()
    assert repr(aug) == "IDAATransform(ConvVAE, eps=1.0, guard=Guard(Encoder, 0.999, 3))"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes_clip_and_clae(x, dtype):
    x = x.to(dtype)
    views = CLAETransform(0.5, clip=(0.0, 1.0), guard=Guard(judge, 0.8))(x, loss_fn=loss)
    assert views.dtype == dtype
    assert (views >= 0).all()
    assert (views <= 1).all()
    same = (views == x).flatten(1).all(1)
    assert (same | (similarity(views, x) >= 0.8 - 1e-2)).all()


def test_in_kornia(x):
    aug = RandomIDAA(VAE, 2.0, p=1.0, guard=Guard(judge, 0.9))
    views = aug(x, loss_fn=loss)
    expected = IDAATransform(VAE, 2.0, guard=Guard(judge, 0.9))(x, loss_fn=loss)
    torch.testing.assert_close(views, expected, atol=1e-6, rtol=0)
    assert torch.equal(aug(x, params=aug._params), views)
    assert aug.stats()["guard_passes"] > 1


def test_inference_mode(x):
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, 4))
    aug = IDAATransform(VAE, 2.0, guard=Guard(network, 0.9))
    expected = aug(x, loss_fn=loss)
    with torch.inference_mode():
        torch.testing.assert_close(aug(x, loss_fn=loss), expected)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (("resnet18", 0.9), TypeError, "judge is a str; it must be a callable"),
        ((judge, 1.5), ValueError, "min_similarity=1.5 is a cosine"),
        ((judge, "0.9"), ValueError, "min_similarity='0.9' is a cosine"),
        ((judge, 0.5, -1), ValueError, "halvings=-1 must be a whole number"),
    ],
)
def test_what_is_said_of_wrong_arguments(options, error, message):
    with pytest.raises(error, match=message):
        Guard(*options)


def test_a_judge_alone_is_no_guard():
    with pytest.raises(TypeError, match=r"guard is a function; .*guard=Guard\(judge, 0.95\)"):
        IDAATransform(VAE, guard=judge)


def test_a_config_cannot_name_a_judge(folder):
    edit_config(folder, transform={"eps": 0.1, "guard": "resnet18", "min_similarity": 0.9})
    with pytest.raises(OSError, match=r"unknown settings .*guard"):
        IDAATransform.from_pretrained(folder)


def test_a_judge_that_writes_in_place_changes_neither_images_nor_views(x):
    normalise = v2.Normalize([0.5] * 3, [0.25] * 3, inplace=True)
    in_place = lambda images: judge(normalise(images))  # noqa: E731
    aside = lambda images: judge(normalise(images.clone()))  # noqa: E731
    before = x.clone()
    views, expected = (IDAATransform(VAE, 1.0, guard=Guard(by, 0.9))(x, loss_fn=loss) for by in (in_place, aside))
    assert torch.equal(x, before)
    assert torch.equal(views, expected)
