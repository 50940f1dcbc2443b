"""A folder of weights: loaded exactly, or refused with one clear error."""

import pickle

import pytest
import torch
from conftest import edit_config, tiny_vae
from safetensors.torch import load_file, save_file

from idaa_transforms import CLAETransform, IDAATransform, hub
from idaa_transforms.hub.folder import CONFIG, WEIGHTS, recommend
from idaa_transforms.hub.registry import WeightsError


class TestFolder:
    def test_round_trip_is_exact(self, folder, x, loss_fn):
        aug = IDAATransform(tiny_vae(), 0.2, norm="l2", steps=2, clip=(0.0, 1.0))
        again = IDAATransform.from_pretrained(folder)
        assert again.settings.saved() == aug.settings.saved()
        assert again.autoencoder.config == aug.autoencoder.config
        for key, value in aug.state_dict().items():
            assert torch.equal(again.state_dict()[key], value), key
        assert torch.equal(again(x, loss_fn=loss_fn), aug(x, loss_fn=loss_fn))

    def test_arguments_go_before_what_was_saved(self, folder):
        aug = IDAATransform.from_pretrained(str(folder), eps=0.7, steps=1, p=0.5)
        assert aug.settings.saved() == {"eps": 0.7, "norm": "l2", "p": 0.5, "clip": (0.0, 1.0)}

    def test_subfolder(self, folder):
        assert IDAATransform.from_pretrained(folder.parent, subfolder="vae").eps == 0.2

    def test_random_numbers_are_left_alone(self, folder):
        torch.manual_seed(0)
        expected = torch.rand(1)
        torch.manual_seed(0)
        IDAATransform.from_pretrained(folder)
        assert torch.equal(torch.rand(1), expected)

    def test_half_precision_storage(self, folder, x, loss_fn):
        aug = IDAATransform.from_pretrained(folder)
        hub.save(aug.autoencoder, folder, aug.settings.saved(), torch.float16)
        assert load_file(folder / WEIGHTS)["to_mean.weight"].dtype == torch.float16
        half = IDAATransform.from_pretrained(folder)
        assert half.autoencoder.to_mean.weight.dtype == torch.float32
        assert (half(x, loss_fn=loss_fn) - aug(x, loss_fn=loss_fn)).abs().max() < 1e-2


def edit_weights(folder, change):
    state = load_file(folder / WEIGHTS)
    change(state)
    save_file(state, folder / WEIGHTS)
    forget_hash(folder)


def forget_hash(folder):
    edit_config(folder, weights_sha256=None)


def make_pickle(folder):
    (folder / WEIGHTS).write_bytes(pickle.dumps({"evil": print}))


def flip_a_byte(folder):
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-5] ^= 1
    (folder / WEIGHTS).write_bytes(content)


DAMAGE = {
    "a byte flipped": (flip_a_byte, "has sha256 .* as it should: it is damaged or not what was saved"),
    "no config": (lambda f: (f / CONFIG).unlink(), "there is no .*config.json"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "has no model.safetensors"),
    "truncated": (
        lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-10]),
        "truncated, damaged|damaged or",
    ),
    "empty": (lambda f: (f / WEIGHTS).write_bytes(b""), "it is damaged"),
    "empty, of an unknown hash": (lambda f: [(f / WEIGHTS).write_bytes(b""), forget_hash(f)], "truncated, damaged"),
    "pickle": (lambda f: [make_pickle(f), forget_hash(f)], "not safetensors at all"),
    "not JSON": (lambda f: (f / CONFIG).write_text("{"), "not a config of this library"),
    "foreign config": (lambda f: (f / CONFIG).write_text('{"model_type": "bert"}'), "not a config of this library"),
    "future": (lambda f: edit_config(f, format_version=2), "format version 2, and this release reads 1; upgrade"),
    "class": (lambda f: edit_config(f, autoencoder__class="os.system"), r"'os.system'; this release has \['ConvVAE'\]"),
    "argument": (lambda f: edit_config(f, autoencoder__depht=3), "does not describe a ConvVAE"),
    "setting": (lambda f: edit_config(f, transform__epsilon=3), r"unknown settings \['epsilon'\]"),
    "shape": (
        lambda f: edit_config(f, autoencoder__latent_dim=9),
        r"to_mean.weight has shape|from_latent.weight has shape .*\(\d+, 8\) instead of",
    ),
    "missing": (lambda f: edit_weights(f, lambda s: s.pop("to_mean.bias")), r"missing \['to_mean.bias'\]"),
    "extra": (lambda f: edit_weights(f, lambda s: s.update(x=torch.ones(1))), r"not known \['x'\]"),
    "renamed": (
        lambda f: edit_weights(f, lambda s: s.update(bias=s.pop("to_mean.bias"))),
        r"missing \['to_mean.bias'\], not known \['bias'\]",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_folders(kind, folder):
    spoil, message = DAMAGE[kind]
    spoil(folder)
    with pytest.raises(WeightsError, match=message):
        IDAATransform.from_pretrained(folder)


def test_only_what_can_be_loaded_is_saved(tmp_path):
    with pytest.raises(TypeError, match="not a PixelSpace"):
        hub.save(CLAETransform().autoencoder, tmp_path, {})


def test_a_recommendation_keeps_what_images_are_normalised_by(folder):
    """It is found on images in [0, 1], by the same views."""
    saved = IDAATransform.from_pretrained(folder)
    IDAATransform(saved.autoencoder, 0.2, mean=[0.4] * 3, std=[0.2] * 3).save_pretrained(folder)
    recommend(folder, {"eps": 0.3, "steps": 2}, {})
    settings = IDAATransform.from_pretrained(folder).settings
    assert (settings.eps, settings.steps, settings.mean, settings.std) == (0.3, 2, (0.4,) * 3, (0.2,) * 3)
