"""Training a VAE: it learns, it resumes to the same weights, and it measures what it says."""

import csv
import math
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from picture_files import PICTURES, write
from several import together
from toy_runs import train_by_command

from examples.shared.runs import set_up
from idaa_transforms import IDAATransform
from idaa_transforms.autoencoders import ConvVAE
from idaa_transforms.cli import main
from idaa_transforms.sample import cifar10_sample
from idaa_transforms.training.evaluation import evaluate_vae, normalised, save_samples
from idaa_transforms.training.images import Images
from idaa_transforms.training.run import own_device
from idaa_transforms.training.vae import Recipe, train_vae

pytestmark = pytest.mark.slow

IMAGES = (cifar10_sample()[0] * 255).round().byte()
SET = Images(IMAGES, IMAGES, "sample")


def fresh():
    torch.manual_seed(0)
    return ConvVAE(32, 16, width=16)


def rows(folder):
    return [{k: float(v) for k, v in row.items()} for row in csv.DictReader((folder / "log.csv").open())]


def test_it_learns_real_images(tmp_path):
    vae = fresh()
    before = evaluate_vae(vae, IMAGES)
    images = SET._replace(train=IMAGES.repeat(4, 1, 1, 1))  # few epochs, each of which draws its progress
    assert train_vae(vae, images, Recipe(epochs=3, batch_size=16, lr=3e-3), tmp_path) == 3
    assert evaluate_vae(vae, IMAGES)["mse"] < 0.7 * before["mse"]
    assert [row["epoch"] for row in rows(tmp_path)] == [1, 2, 3]
    assert rows(tmp_path)[-1]["loss"] < rows(tmp_path)[0]["loss"]


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path):
    recipe = Recipe(epochs=2, batch_size=16)
    whole, parts = fresh(), fresh()
    train_vae(whole, SET, recipe, tmp_path / "whole")
    assert train_vae(parts, SET, recipe, tmp_path / "parts", stop_after=1) == 1
    torch.manual_seed(99)  # a new process starts elsewhere
    other = ConvVAE(32, 16, width=16)
    train_vae(other, SET, recipe, tmp_path / "parts")
    for key, value in whole.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key
    log = (tmp_path / "parts" / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in log] == ["epoch", "1", "2"]


def test_a_checkpoint_of_another_run_is_refused_and_stays(tmp_path):
    recipe = Recipe(epochs=2, batch_size=32)
    train_vae(fresh(), SET, recipe, tmp_path, stop_after=1)
    before, changed = (tmp_path / "checkpoint.pt").read_bytes(), IMAGES.clone()
    changed[-1, -1, -1, -1] ^= 1
    for vae, images, each, message in (
        (fresh(), SET, replace(recipe, lr=0.1), r"lr 0.0005, not 0.1"),
        (ConvVAE(32, 8, width=16), SET, recipe, "latent_dim 16, not 8"),
        (fresh(), SET._replace(train=changed), recipe, "other images than these"),
        (fresh(), SET._replace(test=IMAGES[1:]), recipe, "other images than these"),
    ):
        with pytest.raises(ValueError, match=rf"checkpoint.pt was made with {message}; use another --out"):
            train_vae(vae, images, each, tmp_path)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert train_vae(fresh(), SET._replace(name="renamed"), recipe, tmp_path) == 2


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    vae = fresh()
    torch.nn.init.constant_(vae.to_log_variance.bias, 1e4)
    with pytest.raises(RuntimeError, match=r"the loss became .* in epoch 1"):
        train_vae(vae, SET, Recipe(epochs=1, batch_size=32), tmp_path)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_evaluation_against_plain_formulas():
    vae = fresh().eval()
    measured = evaluate_vae(vae, IMAGES, batch_size=10)
    x = normalised(vae, IMAGES)
    with torch.no_grad():
        posterior = vae.encode(x)
        g = vae.decode(posterior.mean)
    std = torch.tensor(vae.std).view(-1, 1, 1)
    psnr = [10 * math.log10(1 / e) for e in ((g - x) * std).square().flatten(1).mean(1).tolist()]
    variance = (x - x.mean((0, 2, 3), keepdim=True)).square().mean()
    expected = {
        "explained": 1 - ((g - x).square().mean() / variance).item(),
        "mse": torch.nn.functional.mse_loss(g, x).item(),
        "psnr": sum(psnr) / len(psnr),
        "kl": posterior.kl().mean().item(),
        "energy_g": (g.square().sum() / x.square().sum()).item(),
        "energy_r": ((x - g).square().sum() / x.square().sum()).item(),
        "active": int((posterior.mean.var(0) > 0.01).sum()),
    }
    assert measured == pytest.approx(expected, rel=1e-4)


def test_weights_that_are_not_usable_and_the_cure(tmp_path, monkeypatch, capsys):
    """On the user's own pictures: what is trained in a moment says so, and what starts from weights is usable; that is
    loaded by the line that is printed, though its folder has the name of weights that are shipped."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "pictures", PICTURES, size=(40, 30))
    run = ["train-vae", "pictures", "--out"]
    small = ["--image-size", "24", "--latent-dim", "4", "--width", "8", "--epochs", "1"]
    for _ in range(2):  # the second time it is finished, and is as bad as it was
        with pytest.raises(SystemExit) as stop:
            main([*run, "bad", *small])
        assert stop.value.code == 3
    out = capsys.readouterr().out
    assert "pictures: 60 to train on, 4 to test on, 24x24, 3 channels" in out
    assert re.search(r"PSNR [\d.]+ dB; [\d.,]+ images/s", out)
    assert re.search(r"less than 50%: these weights are not usable yet. .* or --from natural-vae", out)
    assert "this run is finished (1 epochs), and nothing was written." in out
    main([*run, "cifar10-vae", "--from", "cifar10-vae-small", "--epochs", "1"])
    out = capsys.readouterr().out
    assert re.search(r"It explains 9\d\.\d% of the variance of 4 test images, which it was not trained on\.", out)
    assert "\ncifar10-vae-small itself explains " in out  # as much, or more
    use = next(line for line in out.splitlines() if line.endswith(" loads it"))
    aug = eval(use.removesuffix(" loads it"), {"IDAATransform": IDAATransform})
    start = IDAATransform.from_pretrained("cifar10-vae-small").autoencoder
    assert aug.autoencoder.config == start.config
    difference = aug.autoencoder.encoder[0].conv.weight - start.encoder[0].conv.weight
    assert 0 < difference.abs().max() < 0.1
    assert all(map(torch.equal, aug.autoencoder.buffers(), start.buffers()))  # those of a few pictures would spoil it
    assert "It started from the weights cifar10-vae-small." in (tmp_path / "cifar10-vae" / "README.md").read_text()


def test_samples_are_of_the_users_own_images(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("idaa_transforms.training.evaluation.save_grid", lambda rows, *_: drawn.append(rows["x"]))
    save_samples(fresh().eval(), IMAGES[:2], tmp_path / "samples.png")
    torch.testing.assert_close(drawn[0], IMAGES[:2] / 255)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--from", "natural-vae", "--latent-dim", "8"], "--latent-dim comes with the weights of --from; leave one"),
        (["--from", "nothing"], "nothing"),
        (
            ["--out", "pictures/run"],
            "--out pictures/run lies in pictures, whose pictures are read; say a folder",
        ),
    ],
)
def test_what_cannot_be_combined(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "pictures", PICTURES[:4])
    with pytest.raises(SystemExit, match=message):
        main(["train-vae", "pictures", "--out", "run", *options])


def test_two_processes_learn_as_one_does(tmp_path):
    """Same global batch. Batch norm sees half of it each, and the random numbers differ: the losses are close only."""
    arrays = IMAGES.permute(0, 2, 3, 1).numpy().repeat(4, 0)
    np.savez(tmp_path / "toy.npz", x_train=arrays, x_test=arrays[:16])
    small = ["--latent-dim", "8", "--width", "16", "--batch-size", "32", "--lr", "0.002", "--epochs", "3"]
    run = [str(tmp_path / "toy.npz"), *small, "--out"]
    train_by_command(*run, str(tmp_path / "one"))
    together(train_by_command, *run, str(tmp_path / "two"))
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert [row["loss"] for row in two] == pytest.approx([row["loss"] for row in one], rel=0.15)
    assert two[-1]["loss"] < 0.8 * two[0]["loss"]
    assert IDAATransform.from_pretrained(tmp_path / "two").autoencoder.latent_dim == 8
    assert (tmp_path / "two" / "progress.png").read_bytes().startswith(b"\x89PNG")


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert [str(own_device(name)) for name in ("cpu", "cuda", "cuda:3")] == ["cpu", "cuda", "cuda:3"]
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert [str(own_device(name)) for name in ("cpu", "cuda", "cuda:3")] == ["cpu", "cuda:1", "cuda:3"]


def test_a_gpu_without_a_number_is_the_current_one(monkeypatch):
    """torch refuses to be told "cuda" as the current device."""
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    for device in ("cuda", "cuda:3"):
        assert set_up(SimpleNamespace(device=device, threads=0)) == (0, 1)
    assert chosen == [torch.device("cuda:3")]
