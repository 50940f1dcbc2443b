"""The weights of this release, by name, without a network."""

import subprocess
import sys

import pytest
import torch

from idaa_transforms import IDAATransform, hub
from idaa_transforms.cli import main
from idaa_transforms.hub.folder import CONFIG, WEIGHTS
from idaa_transforms.hub.registry import WeightsError
from idaa_transforms.training.evaluation import evaluate_vae
from idaa_transforms.util.sample import cifar10_sample


class TestShipped:
    def test_it_is_what_the_release_says(self):
        vae, settings = hub.load("cifar10-vae")
        assert (vae.image_size, vae.latent_dim, vae.channels) == ((32, 32), 512, 3)
        assert settings["eps"] == 0.1
        assert not vae.training
        assert {p.dtype for p in vae.parameters()} == {torch.float32}
        assert repr(IDAATransform.from_pretrained("cifar10-vae")) == "IDAATransform('cifar10-vae', eps=0.1)"

    def test_it_knows_real_images(self):
        """The card says 0.07 or less on the whole test set; these are 64 of its images."""

        vae, _ = hub.load("cifar10-vae")
        images = (cifar10_sample()[0] * 255).round().byte()
        measured = evaluate_vae(vae, images)
        assert measured["mse"] < 0.08
        assert measured["energy_g"] > 0.8

    def test_a_damaged_file_is_found_out(self, tmp_path, monkeypatch):
        source = hub.find("cifar10-vae")
        copy = bytearray((source / WEIGHTS).read_bytes())
        copy[-1] ^= 1
        (tmp_path / WEIGHTS).write_bytes(copy)
        (tmp_path / CONFIG).write_bytes((source / CONFIG).read_bytes())
        monkeypatch.setattr(hub.registry, "find", lambda *_: tmp_path)
        with pytest.raises(WeightsError, match=r"has sha256 .* as it should: it is damaged"):
            hub.load("cifar10-vae")

    def test_no_network_is_touched(self):
        code = """
import socket
def refuse(*args, **kwargs): raise AssertionError("network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from idaa_transforms import IDAATransform
print(IDAATransform.from_pretrained("cifar10-vae", p=0.5))
"""
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert run.stdout == "IDAATransform('cifar10-vae', eps=0.1, p=0.5)\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar11-vae", "unknown name 'cifar11-vae'; did you mean 'cifar10-vae'.*shipped"),
        ("nonsense", r"unknown name 'nonsense'; There is: \['cifar10-vae'"),
        ("./nowhere", "there is no folder './nowhere'"),
        ("a/b/c", "there is no folder 'a/b/c'"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(WeightsError, match=message):
        IDAATransform.from_pretrained(name)


def test_list(capsys):
    names = [row["name"] for row in hub.list_pretrained()]
    place = names.index("cifar10-vae") + 1
    main(["list"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == names
    assert "13.52 M" in lines[place]
    assert "27.1 MB" in lines[place]
    assert lines[place].endswith("the checkout")
