"""How far a view goes: a target for the loss, a scale by the posterior, and eps over a training run."""

import pytest
import torch
from conftest import tiny_vae
from hypothesis import given
from hypothesis import strategies as st
from torchvision import tv_tensors

from idaa_transforms import CLAETransform, EpsSchedule, IDAATransform, hub
from idaa_transforms.autoencoders import PixelSpace
from idaa_transforms.functional import idaa
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
        x, slope, eps = (
            torch.rand(4, 3, 2, 2, generator=generator),
            torch.randn(3, 2, 2, generator=generator),
            torch.tensor(eps),
        )
        aug = CLAETransform(1.0, norm=norm, target_gain=gain)
        found = aug.explain(x, loss_fn=lambda v: (v * slope).flatten(1).sum(1), eps=eps)
        length = found.delta.flatten(1).abs().amax(1) if norm == "linf" else found.delta.flatten(1).norm(dim=1)
        assert (length <= eps).all()
        met = torch.isclose(found.loss_after - found.loss_before, torch.tensor(gain), atol=1e-4, rtol=1e-3)
        assert (met | torch.isclose(length, eps, rtol=1e-4)).all()

    def test_harder_images_move_less(self, x):
        weight = torch.tensor([1.0, 2.0, 4.0, 8.0])
        found = IDAATransform(VAE, 10.0, target_gain=0.01).explain(x, loss_fn=lambda v: weight * loss(v))
        torch.testing.assert_close(found.loss_after - found.loss_before, torch.full((4,), 0.01), atol=2e-3, rtol=0)
        radius = found.delta.abs().amax(1)
        assert radius[3] < radius[0]

    def test_on_real_weights_it_lands_near(self):
        x = cifar10_sample()[0]
        weight = torch.randn(3 * 32 * 32, 10, generator=torch.Generator().manual_seed(0)) / 50
        found = IDAATransform.from_pretrained("cifar10-vae", 1.0, target_gain=0.05).explain(
            x, loss_fn=lambda v: (v.flatten(1) @ weight).logsumexp(1)
        )
        gain = found.loss_after - found.loss_before
        torch.testing.assert_close(gain, torch.full((64,), 0.05), atol=0.01, rtol=0)

    def test_several_steps_stay_in_the_smaller_ball(self, x):
        one, many = (
            IDAATransform(VAE, 1.0, target_gain=0.05, steps=steps).explain(x, loss_fn=loss) for steps in (1, 4)
        )
        radius = one.delta.abs().amax(1)
        assert (many.delta.abs().amax(1) <= radius * (1 + 1e-6)).all()
        assert (radius < 1).any()

    def test_a_row_without_a_slope_stays(self, x):
        gradient = torch.ones_like(x)
        gradient[1] = 0
        with pytest.warns(UserWarning, match="zero in 1 of 4"):
            views = IDAATransform(VAE, target_gain=0.1)(x, grad=gradient)
        torch.testing.assert_close(views[1], x[1])
        assert views.isfinite().all()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"target_gain": -1.0}, "target_gain=-1.0 must be a finite number >= 0"),
            ({"target_gain": 0.1, "start": "uniform"}, "start='uniform' does not begin there"),
        ],
    )
    def test_wrong_arguments(self, options, message):
        with pytest.raises(ValueError, match=message):
            IDAATransform(VAE, **options)


class TestPosteriorScale:
    @given(
        eps=st.floats(0, 3, width=32),
        norm=st.sampled_from(["linf", "l2"]),
        steps=st.integers(1, 3),
        start=st.sampled_from(["zero", "uniform"]),
        chunk_size=st.sampled_from([None, 3]),
        seed=st.integers(0, 2**31),
    )
    def test_delta_in_posterior_sds_stays_within_eps(self, eps, norm, steps, start, chunk_size, seed):
        torch.manual_seed(seed)
        x = torch.rand(4, 3, 16, 16) * 2 - 1
        options = {"norm": norm, "steps": steps, "start": start, "chunk_size": chunk_size}
        aug = IDAATransform(VAE, eps, eps_unit="posterior", mean=VAE.mean, std=VAE.std, **options)
        found = aug.explain(x, loss_fn=loss)
        length = found.delta.abs().amax(1) if norm == "linf" else torch.linalg.vector_norm(found.delta, dim=1)
        assert (length <= torch.tensor(eps, dtype=torch.float32)).all()
        posterior = VAE.encode(x)
        moved = VAE.decode(posterior.mean + torch.exp(0.5 * posterior.log_variance) * found.delta)
        torch.testing.assert_close(found.views - moved, x - VAE.decode(posterior.mean), atol=1e-5, rtol=0)

    def test_a_constant_posterior_is_a_smaller_eps(self, x):
        vae = tiny_vae()
        with torch.no_grad():
            vae.to_log_variance.weight.zero_()
            vae.to_log_variance.bias.fill_(2 * torch.tensor(0.25).log().item())
        by_posterior = IDAATransform(vae, 0.4, eps_unit="posterior")(x, loss_fn=loss)
        torch.testing.assert_close(by_posterior, IDAATransform(vae, 0.1)(x, loss_fn=loss), atol=1e-6, rtol=0)

    def test_clips_go_frame_by_frame(self):
        clips = torch.rand(2, 3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        aug = IDAATransform(VAE, 0.4, eps_unit="posterior")
        views = aug(clips.flatten(0, 1), loss_fn=loss).unflatten(0, (2, 3))
        torch.testing.assert_close(aug(tv_tensors.Video(clips), loss_fn=loss).as_subclass(torch.Tensor), views)

    def test_on_real_weights_sure_latents_move_less(self):
        x = cifar10_sample()[0][:4]
        aug = IDAATransform.from_pretrained("cifar10-vae", 0.5, eps_unit="posterior")
        encoded = aug.codec.posterior(x)
        assert encoded[1].amin() < 0.5 * encoded[1].amax()
        found = aug.explain(x, loss_fn=loss)
        torch.testing.assert_close(found.latent, encoded[0])
        assert found.delta.abs().amax() == 0.5

    def test_it_is_saved(self, folder):
        IDAATransform(VAE, 0.5, eps_unit="posterior", target_gain=0.2).save_pretrained(folder)
        assert IDAATransform.from_pretrained(folder).settings.saved() == {
            "eps": 0.5,
            "scale": "posterior",
            "target_gain": 0.2,
        }

    def test_an_autoencoder_without_a_posterior_is_told(self, x):
        with pytest.raises(ValueError, match="that of PixelSpace gives a Tensor: use scale='latent'"):
            CLAETransform(eps_unit="posterior")(x, loss_fn=loss)
        with pytest.raises(ValueError, match="scale='sd' is not one of"):
            IDAATransform(PixelSpace(), scale="sd")


def test_functional_takes_a_latent_with_its_unit():
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    unit = torch.tensor([[1.0, 10.0], [2.0, 20.0]])
    found = idaa(x, lambda v: (v, unit), lambda z: z, lambda v: v.sum(1), eps=torch.tensor([0.1, 0.2]))
    torch.testing.assert_close(found.views - x, torch.tensor([[0.1, 1.0], [0.4, 4.0]]))
    torch.testing.assert_close(found.delta, torch.tensor([[0.1, 0.1], [0.2, 0.2]]))


class TestEpsSchedule:
    @given(
        first=st.floats(0, 2),
        last=st.floats(0, 2),
        steps=st.integers(1, 1000),
        shape=st.sampled_from(["linear", "cosine"]),
        step=st.integers(0, 2000),
    )
    def test_it_goes_from_first_to_last_and_never_back(self, first, last, steps, shape, step):
        schedule = EpsSchedule(first, last, steps, shape)
        assert schedule(0) == pytest.approx(first)
        assert schedule(steps) == schedule(steps + step) == pytest.approx(last)
        here, next_one = schedule(step), schedule(step + 1)
        assert min(first, last) - 1e-9 <= here <= max(first, last) + 1e-9
        assert (next_one - here) * (last - first) >= -1e-12

    def test_half_way(self):
        assert EpsSchedule(0.0, 0.2, 100)(50) == pytest.approx(0.1)
        assert EpsSchedule(0.0, 0.2, 100)(25) == pytest.approx(0.05)
        assert EpsSchedule(0.0, 0.2, 100, "cosine")(50) == pytest.approx(0.1)
        assert EpsSchedule(0.0, 0.2, 100, "cosine")(25) == pytest.approx(0.2 * (1 - 0.5**0.5) / 2)

    def test_a_transform_takes_it_at_the_call(self, x):
        aug, schedule = IDAATransform(VAE), EpsSchedule(0.0, 0.5, 10)
        moved = [aug.explain(x, loss_fn=loss, eps=schedule(step)).delta.abs().amax().item() for step in (0, 5, 20)]
        assert moved == pytest.approx([0.0, 0.25, 0.5])

    @pytest.mark.parametrize(
        "arguments", [(-0.1, 0.2, 10), (0.1, float("inf"), 10), (0.1, 0.2, 0), (0.1, 0.2, 10, "square")]
    )
    def test_wrong_arguments(self, arguments):
        with pytest.raises(ValueError, match=r"needs finite|is not one of"):
            EpsSchedule(*arguments)


def test_shipped_weights_have_settings_that_load():
    for name in hub.PRETRAINED:
        assert 0 < IDAATransform.from_pretrained(name).eps < 2
