"""Signals (B, C, L): the network in one dimension, its views, its data and its training."""

import math

import numpy as np
import pytest
import torch
from conftest import tiny_vae
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_runs import train_by_command

from idaa_transforms import CLAETransform, IDAATransform
from idaa_transforms.autoencoders import ConvVAE, Wrapped
from idaa_transforms.cli import main
from idaa_transforms.training.augmentation import SignalAugmentation
from idaa_transforms.training.card import publish
from idaa_transforms.training.evaluation import evaluate_vae
from idaa_transforms.training.images import load_signals, statistics
from idaa_transforms.training.vae import Recipe, train_vae


def signals(shape, seed=0):
    """In units of their own, far from [0, 1]."""
    return 30 * torch.randn(shape, generator=torch.Generator().manual_seed(seed)) + 100


def close(found, expected):
    """To 1e-5 of the standard deviation of `signals`: near zero, values around 100 leave no rounding of their own."""
    torch.testing.assert_close(found, expected, atol=30e-5, rtol=0)


def signal_vae(length=64, channels=6, **config):
    return tiny_vae((length,), channels=channels, **{"mean": [100.0] * channels, "std": [30.0] * channels} | config)


def rising(views):
    return (views * torch.linspace(-1, 1, views[0].numel()).view(views.shape[1:])).pow(2).flatten(1).sum(1)


@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    """Sines of three channels as an .npz, channels before time."""
    generator = torch.Generator().manual_seed(0)
    frequency, phase = (
        1 + 2 * torch.rand(300, 1, 1, generator=generator),
        6 * torch.rand(300, 3, 1, generator=generator),
    )
    x = (
        5 * torch.sin(frequency * torch.linspace(0, 2 * math.pi, 32) + phase)
        + torch.tensor([-10.0, 0.0, 10.0])[:, None]
    )
    file = tmp_path_factory.mktemp("waves") / "waves.npz"
    np.savez(file, x_train=x.numpy(), y_train=np.arange(300) % 7)
    return file


class TestNetwork:
    @settings(max_examples=20)
    @given(length=st.integers(8, 300), channels=st.integers(1, 13), depth=st.sampled_from([None, 1, 2, 3]))
    def test_any_length_comes_back(self, length, channels, depth):
        vae = signal_vae(length, channels, depth=depth)
        x = torch.zeros(2, channels, length)
        assert vae(x).shape == x.shape
        assert vae.encode(x).mean.shape == (2, 8)
        again = ConvVAE(**vae.config)
        again.load_state_dict(vae.state_dict())
        assert again.config == vae.config

    @pytest.mark.parametrize("size", [(), (8, 8, 8), (0,)])
    def test_sizes_that_are_neither(self, size):
        with pytest.raises(ValueError, match=r"is neither \(height, width\) nor, of signals, \(length,\)"):
            ConvVAE(size)


class TestViews:
    @given(length=st.integers(1, 300), channels=st.integers(1, 13), seed=st.integers(0, 99))
    @settings(max_examples=10)
    def test_every_promise_at_every_length(self, length, channels, seed):
        x, aug = signals((3, channels, length), seed), IDAATransform(signal_vae(channels=channels), 0.3)
        before = x.clone()
        found, views = aug.explain(x, loss_fn=rising), aug(x, loss_fn=rising)
        assert torch.equal(x, before)
        assert torch.equal(views, found.views)
        assert views.shape == found.residual.shape == x.shape
        assert found.delta.abs().max() <= 0.3
        moved = aug.codec.decode(found.latent + found.delta, x.shape)
        close(views, found.residual + moved)
        leaf = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(rising(leaf).sum(), leaf)
        by_grad = aug.explain(x, grad=gradient)
        rows = (by_grad.delta == found.delta).all(1)  # a gradient that is nearly zero may change its sign
        torch.testing.assert_close(by_grad.views[rows], views[rows], atol=1e-3, rtol=0)

    def test_clip_and_an_autoencoder_of_any_length(self):
        x, vae = signals((4, 6, 61)), signal_vae()
        views = IDAATransform(vae, 0.3, clip=(40.0, 160.0))(x, loss_fn=rising)
        assert (views.min(), views.max()) == (40, 160)
        statistics = {"mean": vae.mean, "std": vae.std, "module": vae}
        free = Wrapped(lambda v: v[..., ::4], lambda z: z.repeat_interleave(4, -1), factor=4, axes=1, **statistics)
        assert IDAATransform(free)(x, loss_fn=rising).shape == (4, 6, 61)

    def test_clae(self):
        x = signals((4, 6, 50))
        aug = CLAETransform(0.5, signals=True)
        torch.testing.assert_close(
            aug(x, loss_fn=rising) - x, 0.5 * (x * torch.linspace(-1, 1, 300).view(6, 50) ** 2).sign()
        )
        mean, std = [100.0] * 6, [30.0] * 6
        moved = CLAETransform(0.5, signals=True, mean=mean, std=std)((x - 100) / 30, loss_fn=rising) - (x - 100) / 30
        torch.testing.assert_close(moved.abs().amax(), torch.tensor(0.5 / 30))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda x: x[0], r"shape \(6, 64\), not \(B, C, L\); add the batch dimension: x\[None\]"),
            (lambda x: x[None], r"shape \(1, 4, 6, 64\), not \(B, C, L\); stack them into one batch"),
            (lambda x: x[..., :0], r"shape \(4, 6, 0\), without a single value"),
            (
                lambda x: x[:, :5],
                r"^signals have .* takes 6 channels, not 5; .* own: idaa train-vae DATA --out my-vae --signals ncl",
            ),
            (lambda x: x * math.nan, r"hold 1536 NaN or infinite values"),
        ],
    )
    def test_what_is_refused(self, change, message):
        with pytest.raises(ValueError, match=message):
            IDAATransform(signal_vae())(change(signals((4, 6, 64))), loss_fn=rising)


class TestData:
    def test_both_layouts_and_a_held_out_part(self, waves, tmp_path):
        found = load_signals(waves)
        assert (found.train.shape, found.test.shape) == ((285, 3, 32), (15, 3, 32))
        assert found.train.dtype == torch.float32
        assert found.test_labels.tolist() == [i % 7 for i in range(0, 300, 20)]
        assert str(found) == "waves.npz: 285 to train on, 15 to test on, 32, 3 channels"
        with np.load(waves) as data:
            turned = data["x_train"].transpose(0, 2, 1)
        np.savez(tmp_path / "a.npz", x_train=turned[20:].astype("float64"), x_test=turned[:20])
        again = load_signals(tmp_path / "a.npz", "nlc")
        assert (again.train.shape, again.test.shape, again.train_labels) == ((280, 3, 32), (20, 3, 32), None)
        np.save(tmp_path / "a.npy", turned)
        assert torch.equal(load_signals(tmp_path / "a.npy", "nlc").train, found.train)

    @pytest.mark.parametrize(
        ("arrays", "message"),
        [
            ({"x_test": np.zeros((4, 2, 8))}, "has no x_train"),
            ({"x_train": np.zeros((4, 8))}, r"x_train has shape \(4, 8\) and type float64; signals are numbers"),
            ({"x_train": np.full((4, 2, 8), np.nan)}, "NaN or infinite values in 4 of 4 signals"),
            ({"x_train": np.zeros((4, 2, 8)), "x_test": np.zeros((4, 3, 8))}, "differ in size or channels"),
            (
                {"x_train": np.zeros((4, 2, 8)), "y_train": np.zeros(3)},
                r"y_train .* shape \(3,\); labels are 4 whole",
            ),
            ({"x_train": np.zeros((1, 2, 8))}, "too few rows: 0 to train on, 1 to test on"),
        ],
    )
    def test_what_is_refused(self, arrays, message, tmp_path):
        np.savez(tmp_path / "bad.npz", **arrays)
        with pytest.raises(ValueError, match=f"bad.npz: .*{message}"):
            load_signals(tmp_path / "bad.npz")


class TestAugmentation:
    @given(length=st.integers(1, 90), seed=st.integers(0, 99))
    def test_windows_of_a_ramp_are_ramps(self, length, seed):
        torch.manual_seed(seed)
        ramp = torch.arange(length, dtype=torch.float32).expand(3, 2, -1)
        found = SignalAugmentation([1.0, 1.0], crop=0.4, gain=0, noise=0)(ramp)
        steps = found.diff(dim=2)
        torch.testing.assert_close(steps, steps[..., :1].expand_as(steps), atol=1e-4, rtol=0)
        assert (found >= 0).all()
        assert (found <= length - 1).all()
        if length > 1:
            assert (steps >= 0.4 - 1e-4).all()
            assert (steps <= 1 + 1e-4).all()

    def test_each_signal_has_its_own_and_noise_is_in_units_of_the_channel(self):
        x = signals((400, 2, 50))
        torch.manual_seed(0)
        louder = SignalAugmentation([1.0, 1.0], crop=1, gain=0.1, noise=0)(x) / x
        torch.testing.assert_close(louder, louder[:, :1, :1].expand_as(louder))
        assert 0.09 < louder[:, 0, 0].log().std() < 0.11
        noise = SignalAugmentation([1.0, 10.0], crop=1, gain=0, noise=0.02)(x) - x
        torch.testing.assert_close(noise.std((0, 2)), torch.tensor([0.02, 0.2]), atol=0, rtol=0.05)


@pytest.mark.slow
def test_a_vae_of_signals_learns_and_is_published(waves, tmp_path):
    found = load_signals(waves)
    mean, std = statistics(found.train)
    torch.manual_seed(0)
    vae = ConvVAE((32,), 8, channels=3, width=32, mean=mean, std=std, beta=0.02)
    before = evaluate_vae(vae, found.test)["mse"]
    recipe = Recipe(epochs=4, batch_size=16, lr=3e-3)
    train_vae(vae, found, recipe, tmp_path / "run")
    assert (tmp_path / "run" / "progress.png").read_bytes().startswith(b"\x89PNG")
    measured = publish(vae, found, recipe, tmp_path / "run", name="waves-vae")
    assert measured["mse"] < 0.8 * before
    assert "psnr" not in measured
    card = (tmp_path / "run" / "README.md").read_text()
    assert "x: (B, 3, 32) float in the units of the training data" in card
    assert "signals of length 32, a latent of 8 numbers" in card
    assert "samples.png" not in card
    aug = IDAATransform.from_pretrained(tmp_path / "run")
    assert (rising(aug(found.test, loss_fn=rising)) > rising(found.test)).all()


@pytest.mark.slow
def test_by_the_command(waves, tmp_path, capsys):
    out = tmp_path / "waves-vae"
    small = ["--latent-dim", "8", "--width", "16", "--epochs", "1", "--batch-size", "32"]
    with pytest.raises(SystemExit, match="--skip-bad is of images, and --signals says"):
        main(["train-vae", str(waves), "--signals", "ncl", "--out", str(out), *small, "--skip-bad"])
    train_by_command(str(waves), "--signals", "ncl", "--out", str(out), *small)
    vae = IDAATransform.from_pretrained(out).autoencoder
    assert (vae.image_size, vae.channels, vae.beta) == ((32,), 3, 0.1 * 32 / 16)
    assert list(vae.mean) == pytest.approx(statistics(load_signals(waves).train)[0])
    capsys.readouterr()
    main(["eval-vae", str(out), str(waves)])
    expected = evaluate_vae(vae, load_signals(waves).test)["mse"]
    assert f"mse {expected:.4f}" in " ".join(capsys.readouterr().out.split())
    with np.load(waves) as data:
        np.savez(tmp_path / "turned.npz", x_train=data["x_train"].transpose(0, 2, 1))
    with pytest.raises(SystemExit, match=r"turned.npz are \(32, 3\), and .*waves-vae takes 3 channels; --signals nlc"):
        main(["eval-vae", str(out), str(tmp_path / "turned.npz")])
    with pytest.raises(SystemExit, match="waves-vae are for signals, and this command reads images"):
        main(["calibrate", str(out), "--data", str(waves), "--reference", "test_signals:signal_vae"])
