"""diffusers' autoencoders, each class as a tiny random model, and any pair of callables."""

import json

import pytest
import torch
from conftest import tiny_vae
from safetensors.torch import load_file, save_file
from tiny_diffusers import TINY
from torch import nn

from idaa_transforms import IDAATransform
from idaa_transforms.autoencoders import Wrapped
from idaa_transforms.autoencoders.diffusers import CLASSES, WEIGHTS, DiffusersAutoencoder
from idaa_transforms.autoencoders.plausible import explained_variance
from idaa_transforms.hub import WeightsError

pytestmark = pytest.mark.slow

diffusers = pytest.importorskip("diffusers")


def build(name):
    torch.manual_seed(0)
    return getattr(diffusers, name)(**TINY[name])


def smooth_loss(views):
    return (views - 0.3).square().flatten(1).sum(1)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize(("size", "dtype"), [((16, 16), torch.bfloat16), ((17, 30), torch.float32)])
def test_views_of_any_size_within_eps(name, size, dtype):
    autoencoder = DiffusersAutoencoder(build(name)).to(dtype)
    aug = IDAATransform(autoencoder, 0.05, steps=2)
    x = torch.rand(3, 3, *size)
    with torch.autocast("cpu", torch.float16):
        found = aug.explain(x, loss_fn=smooth_loss)
    assert found.views.shape == x.shape
    assert found.views.dtype == torch.float32
    assert found.views.isfinite().all()
    assert (found.views != x).flatten(1).any(1).all()
    assert found.delta.abs().max() <= torch.tensor(0.05 * autoencoder.latent_scale)
    torch.testing.assert_close(found.reconstruction + found.residual, x)
    assert found.latent.shape[2] == -(-size[0] // autoencoder.factor)
    assert {p.dtype for p in autoencoder.parameters()} == {dtype}


@pytest.mark.parametrize("name", ["AutoencoderKL", "AsymmetricAutoencoderKL", "AutoencoderDC"])
def test_reconstructions_are_diffusers_own(name):
    model = build(name).eval()
    autoencoder = DiffusersAutoencoder(model).eval()
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(autoencoder.decode(autoencoder.encode(x)), model(x).sample)


def test_an_untrained_one_is_refused_with_the_reason(tmp_path):
    build("AutoencoderKL").save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"explains .* of the variance of natural images .* untrained, or"):
        IDAATransform.from_pretrained(tmp_path)


def test_what_does_not_fit_is_refused(tmp_path):
    build("AutoencoderKL").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "_class_name": "UNet2DModel"}))
    with pytest.raises(WeightsError, match=r"names the class 'UNet2DModel'; of diffusers this release loads"):
        IDAATransform.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    state = load_file(tmp_path / WEIGHTS)
    state.pop("quant_conv.weight")
    save_file(state, tmp_path / WEIGHTS)
    with pytest.raises(WeightsError, match=r"does not fit its config: .*quant_conv.weight"):
        IDAATransform.from_pretrained(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(WeightsError, match=r"has none of diffusion_pytorch_model.safetensors"):
        IDAATransform.from_pretrained(tmp_path)


class TestWrapped:
    def test_methods_modules_and_functions(self, x, loss_fn):
        vae = tiny_vae()
        expected = IDAATransform(vae)(x, loss_fn=loss_fn)
        statistics = {"mean": vae.mean, "std": vae.std}
        for wrapped in (
            Wrapped(vae.encode, vae.decode, **statistics),
            Wrapped(lambda v: vae.encode(v).mean, lambda z: vae.decode(z), module=vae, **statistics),
            Wrapped(nn.Sequential(vae.encoder, vae.to_mean), nn.Sequential(vae.from_latent, vae.decoder), **statistics),
        ):
            aug = IDAATransform(wrapped)
            assert torch.equal(aug(x, loss_fn=loss_fn), expected)
            assert sum(1 for _ in wrapped.parameters()) > 0

    def test_a_wrong_range_shows(self):
        aug = IDAATransform.from_pretrained("cifar10-vae")
        vae = aug.autoencoder
        assert explained_variance(vae) > 0.8
        in_bytes = Wrapped(vae.encode, vae.decode, std=[1 / 255] * 3, image_size=(32, 32))
        assert explained_variance(in_bytes) < 0.5
