"""Augmentation inside the closure with one draw, and the range of images along a pipeline."""

import kornia.augmentation as K
import pytest
import torch
from conftest import tiny_vae
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchvision.transforms import v2

from idaa_transforms import CLAETransform, IDAATransform
from idaa_transforms.kornia import RandomIDAA
from idaa_transforms.pipelines import check_pipeline
from idaa_transforms.replay import same_draw

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
RANDOM = {
    "kornia": lambda: nn.Sequential(K.RandomResizedCrop((16, 16)), K.RandomHorizontalFlip(), K.ColorJitter(0.4, 0.4)),
    "kornia container": lambda: K.AugmentationSequential(K.RandomAffine(20.0), K.RandomErasing(), data_keys=["input"]),
    "torchvision": lambda: v2.Compose([v2.RandomResizedCrop((16, 16)), v2.RandomHorizontalFlip()]),
    "dropout": lambda: nn.Dropout(0.5),
}


@pytest.mark.parametrize("kind", RANDOM)
@given(seed=st.integers(0, 2**31))
def test_same_draw_repeats_itself_and_leaves_the_random_numbers_alone(kind, seed):
    random, x = RANDOM[kind](), torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    torch.manual_seed(seed)
    once = same_draw(random)
    state = torch.get_rng_state()
    first = once(x)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert torch.equal(once(x), first)
    assert not torch.equal(same_draw(random)(x), first)
    torch.manual_seed(seed)
    assert torch.equal(same_draw(random)(x), first)


def test_same_draw_from_a_generator():
    x = torch.rand(4, 3, 16, 16)
    crops = [same_draw(RANDOM["kornia"](), torch.Generator().manual_seed(s))(x) for s in (1, 1, 2)]
    assert torch.equal(crops[0], crops[1])
    assert not torch.equal(crops[0], crops[2])


@pytest.mark.parametrize("kind", ["kornia", "kornia container", "torchvision"])
def test_inside_the_closure_the_augmented_view_becomes_harder(kind, x, aug, encoder):
    encoder.eval()
    anchor = encoder(x.flip(-1)).detach()
    torch.manual_seed(0)
    random = same_draw(RANDOM[kind]())

    def loss_fn(views):
        return (encoder(random(views)) - anchor).square().sum(1)

    hard = aug(x, loss_fn=loss_fn)
    assert (loss_fn(hard) > loss_fn(x)).sum() >= 3


def test_the_range_is_followed_and_printed(x):
    pipeline = v2.Compose(
        [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD), IDAATransform(tiny_vae(), mean=MEAN, std=STD)]
    )
    steps = check_pipeline(pipeline, (255 * x).byte())
    assert [step.name for step in steps] == ["input", "ToDtype", "Normalize", "IDAATransform"]
    assert [step.changed for step in steps] == [False, True, True, False]
    assert (steps[0].dtype, steps[0].high > 1, steps[1].high <= 1, steps[2].low < -1) == (torch.uint8, True, True, True)
    assert str(steps[2]).startswith("Normalize                float32         -2 .. ")
    assert "changes the range" in str(steps[2])


NORMALIZE = v2.Normalize(MEAN, STD)
WRONG = {
    "normalised, not told": (
        [NORMALIZE, IDAATransform(tiny_vae())],
        r"step 2, IDAATransform: .* declared to be in \[0, 1\].*pass the mean= and std=.*Step 1, Normalize, gave",
    ),
    "told, not normalised": (
        [v2.Identity(), IDAATransform(tiny_vae(), mean=MEAN, std=STD)],
        "step 2, IDAATransform: .*declared to be normalised.*none of their values is below 0",
    ),
    "normalised twice": (
        [NORMALIZE, NORMALIZE, IDAATransform(tiny_vae(), mean=MEAN, std=STD)],
        "step 3.*check mean and std, and that images are normalised once",
    ),
    "0 to 255": (
        [v2.Lambda(lambda v: v * 255), CLAETransform()],
        "step 2, CLAETransform: .*divide by 255.*Step 1, Lambda",
    ),
    "uint8": ([v2.ToDtype(torch.uint8, scale=True), CLAETransform()], "step 2.*uint8.*Step 1, ToDtype"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_the_step_that_changed_the_range_is_named(kind, x):
    steps, message = WRONG[kind]
    for pipeline in (steps, v2.Compose(steps), nn.Sequential(*steps), nn.Sequential(v2.Compose(steps[:1]), *steps[1:])):
        with pytest.raises(ValueError, match=f"(?s){message}"):
            check_pipeline(pipeline, x)


def test_attacks_are_found_in_kornia_and_behind_bind(x):
    normalize = K.Normalize(torch.tensor(MEAN), torch.tensor(STD))
    for attack in (
        RandomIDAA(tiny_vae()),
        IDAATransform(tiny_vae()).bind(torch.sum),
        RandomIDAA(tiny_vae()).bind(torch.sum),
    ):
        assert [s.name for s in check_pipeline(K.ImageSequential(K.RandomHorizontalFlip(), attack), x)][2] == type(
            attack
        ).__name__
        with pytest.raises(ValueError, match="Step 1, Normalize"):
            check_pipeline(nn.Sequential(normalize, attack), x)
