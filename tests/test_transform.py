"""The transforms as users call them: what goes in, what comes out, and what does not change."""

import copy
import pickle

import pytest
import torch
from conftest import changed, images, tiny_vae
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from idaa_transforms import CLAETransform, IDAATransform

SIZES = [(16, 16), (13, 16), (9, 33)]
VAES = {(size, channels): tiny_vae(size, channels=channels) for size in SIZES for channels in (1, 3)}
VAE = VAES[(16, 16), 3]
MEAN, STD = [0.45, 0.5, 0.4], [0.2, 0.25, 0.3]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def smooth(views):
    """Per sample, with a gradient everywhere, in any dtype."""
    return (views.float() - 0.3).square().flatten(1).sum(1)


@given(
    size=st.sampled_from(SIZES),
    channels=st.sampled_from([1, 3]),
    batch=st.sampled_from([0, 1, 7]),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    layout=st.sampled_from([torch.contiguous_format, torch.channels_last]),
    clae=st.booleans(),
    p=st.sampled_from([0.0, 0.4, 1.0]),
    chunk_size=st.sampled_from([None, 2]),
    steps=st.integers(1, 2),
    seed=st.integers(0, 2**31),
)
def test_views_are_like_the_images_which_stay(size, channels, batch, dtype, layout, clae, p, chunk_size, steps, seed):
    torch.manual_seed(seed)
    options = {"p": p, "steps": steps} | ({} if clae else {"chunk_size": chunk_size})
    aug = CLAETransform(**options) if clae else IDAATransform(VAES[size, channels], **options)
    x = torch.rand(batch, channels, *size).to(dtype).contiguous(memory_format=layout).requires_grad_()
    before = x.detach().clone()
    views = aug(x, loss_fn=smooth)
    assert (views.shape, views.dtype, views.device, views.stride()) == (x.shape, x.dtype, x.device, x.stride())
    assert not views.requires_grad
    assert x.grad is None
    assert torch.equal(x, before)
    assert views.data_ptr() != x.data_ptr() or not batch
    assert views.isfinite().all()


@given(
    norm=st.sampled_from(["linf", "l2"]),
    unit=st.sampled_from(["latent", "posterior"]),
    steps=st.integers(1, 4),
    random_start=st.booleans(),
    eps=st.one_of(st.floats(0, 2, width=32), st.lists(st.floats(0, 2, width=32), min_size=4, max_size=4)),
    step_size=st.one_of(st.none(), st.floats(0, 1)),
    chunk_size=st.sampled_from([None, 3]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=20)
def test_delta_stays_within_eps_and_the_residual_intact(
    norm, unit, steps, random_start, eps, step_size, chunk_size, seed
):
    torch.manual_seed(seed)
    options = {"norm": norm, "steps": steps, "random_start": random_start, "step_size": step_size}
    options |= {"eps_unit": unit, "chunk_size": chunk_size, "mean": VAE.mean, "std": VAE.std}
    x, eps = torch.rand(4, 3, 16, 16) * 2 - 1, torch.tensor(eps) if isinstance(eps, list) else eps
    found = IDAATransform(VAE, 0.1, **options).explain(x, loss_fn=smooth, eps=eps)
    length = found.delta.abs().amax(1) if norm == "linf" else torch.linalg.vector_norm(found.delta, dim=1)
    assert (length <= torch.as_tensor(eps, dtype=torch.float32)).all()
    posterior = VAE.encode(x)
    step = found.delta * (1 if unit == "latent" else torch.exp(0.5 * posterior.log_variance))
    moved, kept = VAE.decode(posterior.mean + step), VAE.decode(posterior.mean)
    torch.testing.assert_close(found.views - moved, x - kept, atol=1e-5, rtol=0)


def test_eps_is_in_units_of_the_latents_scale(x, loss_fn):
    plain = IDAATransform(tiny_vae()).explain(x, loss_fn=loss_fn, eps=0.6)
    scaled = IDAATransform(tiny_vae(latent_scale=3.0)).explain(x, loss_fn=loss_fn, eps=0.2)
    torch.testing.assert_close(scaled.delta, plain.delta)


class TestP:
    @settings(max_examples=20)
    @given(p=st.floats(0, 1), seed=st.integers(0, 2**31), batch=st.integers(1, 12))
    def test_skipped_rows_are_bit_equal_and_the_others_as_with_p_1(self, p, seed, batch):
        x = images((batch, 3, 16, 16), seed)
        views = IDAATransform(VAE, p=p)(x, loss_fn=smooth, generator=seeded(seed))
        drawn = torch.rand(batch, generator=seeded(seed)) < p
        assert torch.equal(changed(views, x), drawn)
        everywhere = IDAATransform(VAE)(x, loss_fn=smooth)
        torch.testing.assert_close(views[drawn], everywhere[drawn], atol=1e-5, rtol=0)

    @pytest.mark.parametrize("p", [0.0, 0.5])
    def test_skipped_rows_are_not_encoded_but_the_closure_sees_all(self, p, x, vae, loss_fn):
        """Also where none is drawn: other ranks may wait for this one inside a closure that gathers."""
        encoded, seen = [], []
        vae.encoder.register_forward_hook(lambda m, args, out: encoded.append(len(args[0])))
        aug = IDAATransform(vae, p=p)
        drawn = int((torch.rand(4, generator=seeded(4)) < p).sum())
        with torch.inference_mode():
            views = aug(x.clone(), loss_fn=lambda v: (seen.append(len(v)), loss_fn(v))[1], generator=seeded(4))
        assert seen == [4]
        assert encoded == [drawn] * (drawn > 0)
        assert int(changed(views, x).sum()) == drawn


@pytest.mark.parametrize("random_start", [False, True])
def test_same_seed_same_views(x, vae, loss_fn, random_start):
    aug = IDAATransform(vae, 0.1, random_start=random_start, p=0.7, norm="l2")
    by_generator = [aug(x, loss_fn=loss_fn, generator=seeded(s)) for s in (5, 5, 6)]
    assert torch.equal(by_generator[0], by_generator[1])
    assert not torch.equal(by_generator[0], by_generator[2])
    torch.manual_seed(5)
    first = aug(x, loss_fn=loss_fn)
    torch.manual_seed(5)
    assert torch.equal(aug(x, loss_fn=loss_fn), first)


class TestSources:
    def test_a_mean_a_sum_and_a_gradient_give_the_same_views(self, x, aug, loss_fn):
        summed = aug(x, loss_fn=lambda v: loss_fn(v).sum())
        torch.testing.assert_close(aug(x, loss_fn=loss_fn), summed)
        torch.testing.assert_close(aug(x, loss_fn=lambda v: loss_fn(v).mean()), summed)
        torch.testing.assert_close(aug(x, loss_fn=lambda v: loss_fn(v).mean().view(1)), summed)
        leaf = x.clone().requires_grad_()
        loss_fn(leaf).sum().backward()
        torch.testing.assert_close(aug(x, grad=leaf.grad), summed, atol=1e-6, rtol=0)

    @pytest.mark.parametrize("p", [0.0, 0.5, 1.0])
    def test_closures_may_write_to_the_views_and_keep_them(self, p, x, vae):
        """They get a copy that is no leaf, whatever p and whoever asks."""
        aug, before, kept = IDAATransform(vae, p=p), x.clone(), []
        in_place = lambda v: smooth((kept.append(v), v.sub_(0.5).div_(0.25))[1])  # noqa: E731
        plain = lambda v: smooth((v - 0.5) / 0.25)  # noqa: E731
        views = [aug(x, loss_fn=f, generator=seeded(1)) for f in (in_place, plain)]
        found = [aug.explain(x, loss_fn=f) for f in (in_place, plain)]
        with torch.no_grad():
            for tensor in kept:
                tensor.fill_(7.0)
        assert torch.equal(*views)
        assert torch.equal(found[0].views, found[1].views)
        torch.testing.assert_close(found[0].loss_before, plain(x))
        assert torch.equal(x, before)

    @pytest.mark.parametrize("reentrant", [True, False])
    def test_activation_checkpointing(self, reentrant, x, aug, encoder):
        encoder.eval()
        loss = lambda v: torch.utils.checkpoint.checkpoint(encoder, v, use_reentrant=reentrant)[:, 0]  # noqa: E731
        torch.testing.assert_close(aug(x, loss_fn=loss), aug(x, loss_fn=lambda v: encoder(v)[:, 0]))
        assert all(p.grad is None for p in encoder.parameters())


class TestModes:
    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
    def test_grad_modes(self, x, aug, encoder, mode):
        encoder.eval()
        with torch.no_grad():
            anchor = encoder(x.flip(-1))
        loss = lambda v: (encoder(v) - anchor).square().sum(1)  # noqa: E731
        expected = aug(x, loss_fn=loss)
        with mode():
            for given_x in (x, x.clone(), x.clone()[:]):
                torch.testing.assert_close(aug(given_x, loss_fn=loss), expected)

    def test_a_transform_loaded_or_cast_in_inference_mode_works_anywhere(self, x, loss_fn, folder):
        with torch.inference_mode():
            made = [
                IDAATransform.from_pretrained(folder),
                IDAATransform.from_pretrained(folder).double(),
                CLAETransform(),
            ]
        for aug in made:
            assert changed(aug(x, loss_fn=loss_fn), x).all()
            with torch.inference_mode():
                assert changed(aug(x.clone(), loss_fn=loss_fn), x).all()

    def test_autocast_reaches_the_closure_and_not_the_autoencoder(self, x, vae, encoder):
        dtypes, seen = set(), []
        vae.decoder.register_forward_hook(lambda m, args, out: dtypes.add(out.dtype))
        encoder.eval()

        def loss(views):
            z = encoder(views)
            seen.append((views.dtype, z.dtype))
            return z.float().square().sum(1)

        with torch.autocast("cpu", torch.bfloat16):
            views = IDAATransform(vae)(x, loss_fn=loss)
            assert torch.is_autocast_enabled("cpu")
        assert dtypes == {torch.float32}
        assert seen == [(torch.float32, torch.bfloat16)]
        assert views.dtype == torch.float32


class TestUnits:
    """With mean and std, clip and the eps of pixels are in [0, 1], whatever x is normalised by."""

    normalize = staticmethod(v2.Normalize(MEAN, STD))

    def unit(self, x):
        return x * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)

    @pytest.mark.parametrize("clip", [None, (0.2, 0.7)])
    @pytest.mark.parametrize("clae", [True, False])
    def test_views_are_those_of_the_same_images_in_unit_range(self, clip, clae, x):
        make = (lambda **o: CLAETransform(0.2, **o)) if clae else (lambda **o: IDAATransform(tiny_vae(), 2.0, **o))
        expected = make(clip=clip)(x, loss_fn=smooth)
        found = make(clip=clip, mean=MEAN, std=STD)(self.normalize(x), loss_fn=lambda v: smooth(self.unit(v)))
        close = (self.unit(found) - expected).abs() < 1e-5
        assert close.float().mean() > 0.99  # the sign of a gradient that is nearly zero may differ by rounding
        if clip is not None:
            assert (clip[0] - 1e-6 <= self.unit(found)).all()
            assert (self.unit(found) <= clip[1] + 1e-6).all()
            assert ((self.unit(found) - clip[1]).abs() < 1e-6).any()

    def test_eps_of_clae(self, x):
        x = self.normalize(x)
        moved = CLAETransform(8 / 255, mean=MEAN, std=STD)(x, loss_fn=lambda v: v.sum()) - x
        torch.testing.assert_close(moved, (8 / 255 / torch.tensor(STD)).view(3, 1, 1).expand_as(moved))


class TestCLAE:
    def test_is_the_sign_of_the_pixel_gradient(self, x, loss_fn):
        leaf = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss_fn(leaf).sum(), leaf)
        assert torch.equal(CLAETransform(0.01)(x, loss_fn=loss_fn), x + 0.01 * gradient.sign())


class TestTheObject:
    @pytest.mark.parametrize("copier", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
    @pytest.mark.parametrize("make", [lambda v: IDAATransform(v, 0.2, norm="l2", steps=2), lambda _: CLAETransform()])
    def test_copies_and_pickles_give_the_same_views(self, x, vae, loss_fn, copier, make):
        aug = make(vae)
        again = copier(aug)
        assert repr(again) == repr(aug)
        assert torch.equal(again(x, loss_fn=loss_fn), aug(x, loss_fn=loss_fn))

    def test_repr_is_one_line_that_says_what_is_not_default(self, vae):
        assert repr(IDAATransform(vae)) == "IDAATransform(ConvVAE, eps=0.1)"
        assert repr(IDAATransform(vae, 0.2, steps=3, p=0.5)) == "IDAATransform(ConvVAE, eps=0.2, steps=3, p=0.5)"
        assert repr(CLAETransform()) == "CLAETransform(eps=0.006)"

    def test_settings_are_attributes_that_are_checked_and_count_from_the_next_call(self, x, vae, loss_fn):
        aug = IDAATransform(vae, 0.3)
        aug.eps, aug.steps = 0.25, 2
        assert (aug.eps, aug.norm, aug.steps, aug.mean) == (0.25, "linf", 2, None)
        assert torch.equal(aug(x, loss_fn=loss_fn), IDAATransform(vae, 0.25, steps=2)(x, loss_fn=loss_fn))
        for name, value in (("norm", "l1"), ("eps", -1.0), ("steps", 0)):
            with pytest.raises(ValueError, match=f"{name}={value!r}"):
                setattr(aug, name, value)
        assert (aug.eps, aug.norm, aug.steps) == (0.25, "linf", 2)

    def test_explain_tells_how_the_views_came_about(self, x, aug, vae, loss_fn):
        found = aug.explain(x, loss_fn=loss_fn)
        assert torch.equal(found.views, aug(x, loss_fn=loss_fn))
        torch.testing.assert_close(found.reconstruction + found.residual, x)
        torch.testing.assert_close(found.loss_before, loss_fn(x).detach())
        torch.testing.assert_close(found.loss_after, loss_fn(found.views).detach())
        torch.testing.assert_close(found.latent, vae.encode((x - 0.5) / 0.25).mean)
        assert found.delta.shape == (4, 8)
        linear = aug.explain(x, grad=torch.randn_like(x))
        assert (linear.loss_after > linear.loss_before).all()
