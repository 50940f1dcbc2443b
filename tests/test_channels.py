"""Any number of channels: from arrays by the command to weights, views and pictures."""

import numpy as np
import pytest
import torch
from conftest import tiny_vae
from toy_runs import train_by_command

from idaa_transforms import IDAATransform
from idaa_transforms._util.pictures import save_grid
from idaa_transforms.training.augmentation import random_augmentation

CHANNELS = [1, 2, 5, 13]


@pytest.mark.parametrize("channels", CHANNELS)
def test_the_command_that_the_error_names(channels, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).integers(40, 90, (40, 16, 16, channels), dtype=np.uint8)
    np.savez("DATA.npz", x_train=x)
    views = torch.from_numpy(x[:4]).permute(0, 3, 1, 2) / 255
    with pytest.raises(ValueError, match=rf"not {channels}; .*: idaa train-vae DATA --out my-vae"):
        IDAATransform(tiny_vae())(views, grad=views)
    small = ["--latent-dim", "4", "--width", "8", "--epochs", "1", "--batch-size", "38"]
    train_by_command("DATA.npz", "--out", "my-vae", *small)
    aug = IDAATransform.from_pretrained("./my-vae")
    found = aug.explain(views, grad=views - 0.2)
    assert found.views.shape == views.shape
    assert f"x: (B, {channels}, 16, 16)" in (tmp_path / "my-vae" / "README.md").read_text()
    if channels not in (1, 3):
        expected = torch.from_numpy(np.delete(x, [0, 20], axis=0)).double() / 255  # every twentieth is for testing
        assert torch.tensor(aug.autoencoder.mean).allclose(expected.mean((0, 1, 2)).float())
        assert torch.tensor(aug.autoencoder.std).allclose(expected.std((0, 1, 2), correction=0).float())


@pytest.mark.parametrize("channels", [*CHANNELS, 3])
def test_random_augmentation_keeps_the_channels_and_their_differences(channels):
    """Without hue, saturation and grey where there are no colours: a channel that is black stays black."""
    torch.manual_seed(0)
    x = torch.rand(32, channels, 16, 16)
    x[:, 0] = 0
    found = random_augmentation(tiny_vae(channels=channels))(x)
    assert found.shape == x.shape
    assert (found.min(), found.max()) >= (0, 0)
    if channels != 3:
        brighter = found[:, 0].amax((1, 2))
        assert (found[:, 0] - brighter[:, None, None]).abs().max() < 1e-5  # and one value, if it was made brighter


@pytest.mark.parametrize(("channels", "shown"), [(1, 1), (2, 1), (3, 3), (5, 3), (13, 3)])
def test_pictures_show_three_channels_or_grey(channels, shown, tmp_path):
    x = torch.rand(2, channels, 8, 8)
    save_grid({"x": x}, tmp_path / "all.png", "")
    save_grid({"x": x[:, :shown]}, tmp_path / "some.png", "")
    assert (tmp_path / "all.png").read_bytes() == (tmp_path / "some.png").read_bytes()
