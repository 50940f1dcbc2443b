"""Training a VAE: it learns, it resumes to the same weights, and it measures what it says."""

import csv
import math
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from picture_files import PICTURES, write
from safetensors.torch import load_file

from examples.shared.runs import set_up
from idaa_transforms import IDAATransform
from idaa_transforms.autoencoders import ConvVAE
from idaa_transforms.cli import main
from idaa_transforms.sample import cifar10_sample
from idaa_transforms.training.evaluation import evaluate_vae, normalised, save_samples
from idaa_transforms.training.images import Images, load_images
from idaa_transforms.training.run import own_device
from idaa_transforms.training.vae import Recipe, train_vae

pytestmark = pytest.mark.slow

IMAGES = (cifar10_sample()[0] * 255).round().byte()
SET = Images(IMAGES, IMAGES, "sample")


def fresh():
    torch.manual_seed(0)
    return ConvVAE(32, 16, width=16)


def test_it_learns_real_images(tmp_path):
    vae = fresh()
    before = evaluate_vae(vae, IMAGES)
    assert train_vae(vae, SET, Recipe(epochs=12, batch_size=16, lr=3e-3), tmp_path) == 12
    after = evaluate_vae(vae, IMAGES)
    assert after["mse"] < 0.7 * before["mse"]
    rows = list(csv.DictReader((tmp_path / "log.csv").open()))
    assert [int(r["epoch"]) for r in rows] == list(range(1, 13))
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])


def test_an_interrupted_run_ends_with_the_same_weights(tmp_path):
    recipe = Recipe(epochs=3, batch_size=16)
    whole, parts = fresh(), fresh()
    train_vae(whole, SET, recipe, tmp_path / "whole")
    assert train_vae(parts, SET, recipe, tmp_path / "parts", stop_after=1) == 1
    torch.manual_seed(99)  # a new process starts elsewhere
    other = ConvVAE(32, 16, width=16)
    train_vae(other, SET, recipe, tmp_path / "parts")
    for key, value in whole.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key
    log = (tmp_path / "parts" / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in log] == ["epoch", "1", "2", "3"]


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    train_vae(fresh(), SET, Recipe(epochs=1, batch_size=32), tmp_path)
    with pytest.raises(ValueError, match=r"checkpoint.pt was made with lr 0.0005, not 0.1; use another --out"):
        train_vae(fresh(), SET, Recipe(epochs=1, batch_size=32, lr=0.1), tmp_path)
    with pytest.raises(ValueError, match="was made with latent_dim 16, not 8; use another --out"):
        train_vae(ConvVAE(32, 8, width=16), SET, Recipe(epochs=1, batch_size=32), tmp_path)


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


def test_a_vae_that_learns_nothing_says_so(tmp_path, capsys):
    """And the next command, on the user's own pictures and from weights that are shipped, makes usable ones."""
    write(tmp_path / "pictures", PICTURES, size=(40, 30))
    run = ["train-vae", str(tmp_path / "pictures"), "--out"]
    small = ["--image-size", "24", "--latent-dim", "4", "--width", "8", "--epochs", "1", "--about", "Ours."]
    with pytest.raises(SystemExit) as stop:
        main([*run, str(tmp_path / "bad"), *small])
    assert stop.value.code == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "pictures: 60 to train on, 4 to test on, 24x24, 3 channels"
    terms = r"loss [\d.,]+ nats = [\d.,]+ reconstruction error \+ 7.2 \(beta\) x [\d.,]+ KL"
    assert re.fullmatch(
        rf"epoch 1 of 1: {terms}; -?\d+% explained, " + r"PSNR [\d.]+ dB; [\d.,]+ images/s, 0 s left", lines[1]
    )
    assert lines[-1].startswith("That is less than 50%: these weights are not usable yet. Train in another folder with")
    assert lines[-1].endswith("more epochs, more images or --from natural-vae.")
    with pytest.raises(SystemExit):  # it is finished, and is as bad as it was
        main([*run, str(tmp_path / "bad"), *small])
    assert "this run is finished (1 epochs), and nothing was written." in capsys.readouterr().out
    main([*run, str(tmp_path / "good"), "--from", "cifar10-vae-small", "--epochs", "1"])
    share, measured, use, *better = capsys.readouterr().out.splitlines()[3:]
    assert [line[:34] for line in better] == ["cifar10-vae-small itself explains "]  # as much, or more
    assert re.fullmatch(r"It explains 9\d\.\d% of the variance of 4 test images, which it was not trained on\.", share)
    assert measured.startswith("PSNR 2")
    aug = eval(use.removesuffix(" loads it"), {"IDAATransform": IDAATransform})
    start = IDAATransform.from_pretrained("cifar10-vae-small").autoencoder
    assert aug.autoencoder.config == start.config
    difference = aug.autoencoder.encoder[0].conv.weight - start.encoder[0].conv.weight
    assert 0 < difference.abs().max() < 0.1
    assert all(map(torch.equal, aug.autoencoder.buffers(), start.buffers()))  # those of a few pictures would spoil it
    card = (tmp_path / "good" / "README.md").read_text()
    assert "It started from the weights cifar10-vae-small." in card
    own = torch.stack([load_images(str(tmp_path / "pictures"), 32).test[0]])
    with pytest.MonkeyPatch.context() as patch:
        drawn = []
        patch.setattr("idaa_transforms.training.evaluation.save_grid", lambda rows, *_: drawn.append(rows["x"]))
        save_samples(aug.autoencoder, own, tmp_path / "samples.png")
    assert torch.allclose(drawn[0], own / 255, atol=1e-6)


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


def test_a_file_without_images(tmp_path):
    np.savez(tmp_path / "empty.npz", y=np.zeros(3))
    with pytest.raises(SystemExit, match="has no x_train and no x_test; it holds"):
        main(["train-vae", str(tmp_path / "empty.npz"), "--out", str(tmp_path / "run")])


def command(folder, *options):
    """The command line that trains on the sample images, in a process of its own."""
    arrays = IMAGES.permute(0, 2, 3, 1).numpy().repeat(2, 0)
    np.savez(folder / "toy.npz", x_train=arrays, x_test=arrays[:16])
    run = [
        str(folder / "toy.npz"),
        "--latent-dim",
        "8",
        "--width",
        "16",
        "--batch-size",
        "32",
        "--lr",
        "0.002",
        *options,
    ]
    return ["-m", "idaa_transforms.cli", "train-vae", *run]


def rows(folder):
    return [{k: float(v) for k, v in row.items()} for row in csv.DictReader((folder / "log.csv").open())]


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path):
    run = [sys.executable, *command(tmp_path, "--epochs", "12")]
    killed = subprocess.Popen(
        [*run, "--out", str(tmp_path / "killed")], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    while not (tmp_path / "killed" / "checkpoint.pt").exists():
        assert killed.poll() is None
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    done = torch.load(tmp_path / "killed" / "checkpoint.pt", weights_only=True)["epoch"]
    assert 1 <= done < 12
    for name in ("killed", "whole"):
        subprocess.run([*run, "--out", str(tmp_path / name)], check=False, capture_output=True)
    left, right = (load_file(tmp_path / name / "model.safetensors") for name in ("killed", "whole"))
    assert all(torch.equal(left[key], right[key]) for key in right)
    assert [r["epoch"] for r in rows(tmp_path / "killed")] == list(range(1, 13))


def test_two_processes_learn_as_one_does(tmp_path):
    """Same global batch. Batch norm sees half of it each, and the random numbers differ: the losses are close only."""
    run = command(tmp_path, "--epochs", "6")
    subprocess.run([sys.executable, *run, "--out", str(tmp_path / "one")], check=False, capture_output=True)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*torchrun, *run, "--out", str(tmp_path / "two")], check=False, capture_output=True)
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert len(one) == len(two) == 6
    for a, b in zip(one, two, strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=0.15)
    assert two[-1]["loss"] < 0.7 * two[0]["loss"]
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
