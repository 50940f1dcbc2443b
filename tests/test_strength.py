"""How far a view goes: a target for the loss, the unit of eps, the eps that belongs to weights, and the guard."""

import copy

import pytest
import torch
from conftest import Encoder, edit_config, images, tiny_vae
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torchvision.transforms import v2

from idaa_transforms import CLAETransform, Guard, IDAATransform
from idaa_transforms.kornia import RandomIDAA
from idaa_transforms.sample import cifar10_sample

VAE = tiny_vae()


def loss(views):
    return (views.float() - 0.3).square().flatten(1).sum(1)


class TestTargetGain:
    @given(
        gain=st.floats(0, 5),
        norm=st.sampled_from(["linf", "l2"]),
        eps=st.lists(st.floats(0, 2, width=32), min_size=4, max_size=4),
        seed=st.integers(0, 2**31),
    )
    def test_of_a_linear_loss_it_is_met_or_eps_is_reached(self, gain, norm, eps, seed):
        generator = torch.Generator().manual_seed(seed)
        x, gradient = (torch.rand(4, 3, 2, 2, generator=generator), torch.randn(3, 2, 2, generator=generator))
        aug, eps = CLAETransform(1.0, norm=norm, target_gain=gain), torch.tensor(eps)
        found = aug.explain(x, loss_fn=lambda v: (v * gradient).flatten(1).sum(1), eps=eps)
        length = found.delta.flatten(1).abs().amax(1) if norm == "linf" else found.delta.flatten(1).norm(dim=1)
        assert (length <= eps).all()
        met = torch.isclose(found.loss_after - found.loss_before, torch.tensor(gain), atol=1e-4, rtol=1e-3)
        assert (met | torch.isclose(length, eps, rtol=1e-4)).all()

    def test_on_real_weights_it_lands_near_and_more_steps_stay_in_its_ball(self):
        x = cifar10_sample()[0]
        weight = torch.randn(3 * 32 * 32, 10, generator=torch.Generator().manual_seed(0)) / 50
        aug, loss_fn = IDAATransform.from_pretrained("cifar10-vae", 1.0, target_gain=0.05), lambda v: (
            v.flatten(1) @ weight
        ).logsumexp(1)  # fmt: skip
        found = aug.explain(x, loss_fn=loss_fn)
        gain = found.loss_after - found.loss_before
        torch.testing.assert_close(gain, torch.full((64,), 0.05), atol=0.01, rtol=0)
        aug.steps = 3
        radius = found.delta.abs().amax(1)
        assert (aug.explain(x, loss_fn=loss_fn).delta.abs().amax(1) <= radius * (1 + 1e-6)).all()
        assert (radius < 1).any()


class TestUnits:
    def test_a_constant_posterior_is_a_smaller_eps(self, x):
        vae = tiny_vae()
        with torch.no_grad():
            vae.to_log_variance.weight.zero_()
            vae.to_log_variance.bias.fill_(2 * torch.tensor(0.25).log().item())
        by_posterior = IDAATransform(vae, 0.4, eps_unit="posterior")(x, loss_fn=loss)
        torch.testing.assert_close(by_posterior, IDAATransform(vae, 0.1)(x, loss_fn=loss), atol=1e-6, rtol=0)


class TestTheEpsOfWeights:
    """A recommended eps belongs to a norm and a unit; any other asks for an eps."""

    OTHERS = ({"norm": "l2"}, {"eps_unit": "posterior"})

    @pytest.mark.parametrize("options", OTHERS)
    @pytest.mark.parametrize("make", [IDAATransform, RandomIDAA])
    def test_another_norm_or_unit_needs_its_own(self, options, make):
        for wrong in (lambda: make.from_pretrained("cifar10-vae", **options), lambda: make(VAE, **options)):
            with pytest.raises(ValueError, match=r"recommended eps=.* belongs to norm='linf' and eps_unit='latent'"):
                wrong()
        with pytest.raises(ValueError, match=r"recommended eps=0\.006 belongs to norm='linf'"):
            CLAETransform(norm="l2")
        aug = make.from_pretrained("cifar10-vae", 0.5, **options)
        aug = aug.attack if make is RandomIDAA else aug
        assert (aug.eps, aug.norm, aug.eps_unit) == (0.5, *({"norm": "linf", "eps_unit": "latent"} | options).values())

    def test_those_that_were_saved_belong_together(self, folder):
        aug = IDAATransform.from_pretrained(folder)  # saved with norm="l2"
        assert (aug.eps, aug.norm, aug.steps, aug.clip) == (0.2, "l2", 2, (0.0, 1.0))
        assert IDAATransform.from_pretrained(folder, norm="l2", steps=1).eps == 0.2
        with pytest.raises(ValueError, match=r"recommended eps=0\.2 belongs to norm='l2'"):
            IDAATransform.from_pretrained(folder, norm="linf")
        IDAATransform(VAE, 0.5, eps_unit="posterior", target_gain=0.2).save_pretrained(folder)
        aug = IDAATransform.from_pretrained(folder)
        assert (aug.eps, aug.eps_unit, aug.target_gain, aug.steps) == (0.5, "posterior", 0.2, 1)


def reference(views):
    """Features of few numbers, so that each is summed alike in batches of any size."""
    return views.double().mean((2, 3)) - 0.5


def similarity(views, x):
    return F.cosine_similarity(reference(views).float(), reference(x).float())


class TestGuard:
    @settings(max_examples=20)
    @given(
        seed=st.integers(0, 2**31),
        batch=st.integers(0, 7),
        eps=st.floats(0.1, 3),
        threshold=st.floats(-1, 1),
        halvings=st.integers(0, 4),
        p=st.sampled_from([0.5, 1.0]),
        eps_unit=st.sampled_from(["latent", "posterior"]),
        chunk_size=st.sampled_from([None, 2]),
    )
    def test_every_row_meets_the_threshold_or_is_x(
        self, seed, batch, eps, threshold, halvings, p, eps_unit, chunk_size
    ):
        x, options = images((batch, 3, 16, 16), seed), {"p": p, "eps_unit": eps_unit, "chunk_size": chunk_size}
        guarded = IDAATransform(VAE, eps, guard=Guard(reference, threshold, halvings), **options)
        views, unguarded = (
            aug(x, loss_fn=loss, generator=torch.Generator().manual_seed(seed))
            for aug in (guarded, IDAATransform(VAE, eps, **options))
        )
        same = (views == x).flatten(1).all(1)
        assert ((similarity(views, x) >= threshold - 1e-6) | same).all()
        fine = similarity(unguarded, x) >= threshold + 1e-6
        assert torch.equal(views[fine], unguarded[fine])  # rows that pass are not touched
        counts = guarded.stats()
        assert counts["guard_passes"] <= 2 + halvings
        assert counts["weakened"] + counts["refused"] <= batch

    def test_deltas_are_halved_alone_and_the_residual_stays(self, x):
        free, guarded = (
            IDAATransform(VAE, 2.0, mean=VAE.mean, std=VAE.std, guard=guard) for guard in (None, Guard(reference, 0.9))
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

    def test_nan_features_pass_nothing(self, x):
        never = IDAATransform(VAE, 1.0, guard=Guard(lambda v: torch.full((len(v), 2), torch.nan), -1.0, 2))
        assert torch.equal(never(x, loss_fn=loss), x)
        assert never.stats() == {
            "calls": 1, "attacked": 4, "unchanged": 0, "guard_passes": 4, "weakened": 0, "refused": 4,
        }  # fmt: skip

    def test_the_reference_stays_the_callers(self, x, folder):
        network = Encoder().train()
        before = copy.deepcopy(network.state_dict())
        aug = IDAATransform(VAE, 1.0, guard=Guard(network, 0.999))
        aug(x, loss_fn=loss)
        assert all(module.training for module in (network, network.body, network.body[1]))
        assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
        assert all(p.grad is None and p.requires_grad for p in network.parameters())
        assert network not in set(aug.modules())
        aug.save_pretrained(folder)
        assert "guard" not in (folder / "config.json").read_text()
        edit_config(folder, transform={"eps": 0.1, "guard": "resnet18", "min_similarity": 0.9})
        with pytest.raises(OSError, match="guard"):  # a config cannot name one
            IDAATransform.from_pretrained(folder)
        assert repr(aug) == "IDAATransform(ConvVAE, eps=1.0, guard=Guard(Encoder, 0.999, 3))"

    def test_in_kornia(self, x):
        aug = RandomIDAA(VAE, 2.0, p=1.0, guard=Guard(reference, 0.9))
        views = aug(x, loss_fn=loss)
        expected = IDAATransform(VAE, 2.0, guard=Guard(reference, 0.9))(x, loss_fn=loss)
        torch.testing.assert_close(views, expected, atol=1e-6, rtol=0)
        assert torch.equal(aug(x, params=aug._params), views)
        assert aug.stats()["guard_passes"] > 1

    def test_inference_mode_and_a_reference_that_writes_in_place(self, x):
        network = nn.Sequential(v2.Normalize([0.5] * 3, [0.25] * 3, inplace=True), nn.Flatten(), nn.Linear(768, 4))
        aug, before = IDAATransform(VAE, 2.0, guard=Guard(network, 0.9)), x.clone()
        expected = aug(x, loss_fn=loss)
        assert torch.equal(x, before)
        with torch.inference_mode():
            torch.testing.assert_close(aug(x, loss_fn=loss), expected)

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            (("resnet18", 0.9), TypeError, "reference is a str; it must be a callable"),
            ((reference, 1.5), ValueError, "min_similarity=1.5 is a cosine"),
            ((reference, 0.5, -1), ValueError, "halvings=-1 must be a whole number"),
        ],
    )
    def test_wrong_arguments(self, options, error, message):
        with pytest.raises(error, match=message):
            Guard(*options)
