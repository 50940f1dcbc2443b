"""Weights by name, folder and repository: loaded exactly, or refused with one clear error."""

import hashlib
import json
import pickle
import subprocess
import sys

import pytest
import torch
from conftest import tiny_vae
from hub_server import Hub
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from idaa_transforms import IDAATransform, hub
from idaa_transforms.cli import main
from idaa_transforms.files import CONFIG, WEIGHTS
from idaa_transforms.hub import WeightsError


@pytest.fixture
def folder(tmp_path):
    aug = IDAATransform(tiny_vae(), 0.2, norm="l2", steps=2, clip=(0.0, 1.0))
    aug.save_pretrained(tmp_path / "vae")
    return tmp_path / "vae"


@pytest.fixture
def server(monkeypatch, tmp_path):
    """The real client against a Hub on localhost."""
    server = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield server
    server.server.shutdown()


def files_of(folder, prefix=""):
    return {prefix + name: (folder / name).read_bytes() for name in (CONFIG, WEIGHTS)}


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
        from idaa_transforms.autoencoders.evaluation import evaluate_vae
        from idaa_transforms.sample import cifar10_sample

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
        monkeypatch.setattr(hub, "find", lambda *_: tmp_path)
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


class TestFolder:
    def test_round_trip_is_exact(self, folder, x, loss_fn):
        aug = IDAATransform(tiny_vae(), 0.2, norm="l2", steps=2, clip=(0.0, 1.0))
        again = IDAATransform.from_pretrained(folder)
        assert again.settings() == aug.settings()
        assert again.autoencoder.config == aug.autoencoder.config
        for key, value in aug.state_dict().items():
            assert torch.equal(again.state_dict()[key], value), key
        assert torch.equal(again(x, loss_fn=loss_fn), aug(x, loss_fn=loss_fn))

    def test_arguments_go_before_what_was_saved(self, folder):
        aug = IDAATransform.from_pretrained(str(folder), eps=0.7, steps=1, p=0.5)
        assert aug.settings() == {"eps": 0.7, "norm": "l2", "p": 0.5, "clip": (0.0, 1.0)}

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
        hub.save(aug.autoencoder, folder, aug.settings(), torch.float16)
        assert load_file(folder / WEIGHTS)["to_mean.weight"].dtype == torch.float16
        half = IDAATransform.from_pretrained(folder)
        assert half.autoencoder.to_mean.weight.dtype == torch.float32
        assert (half(x, loss_fn=loss_fn) - aug(x, loss_fn=loss_fn)).abs().max() < 1e-2


def edit_config(folder, **changes):
    config = json.loads((folder / CONFIG).read_text())
    for path, value in changes.items():
        *way, last = path.split("__")
        place = config
        for key in way:
            place = place[key]
        place[last] = value
    (folder / CONFIG).write_text(json.dumps(config))


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


def test_only_what_can_be_loaded_is_saved(tmp_path):
    from idaa_transforms import CLAETransform

    with pytest.raises(TypeError, match="not a PixelSpace"):
        hub.save(CLAETransform().autoencoder, tmp_path, {})


class TestHub:
    def test_repository_revision_subfolder_and_cache(self, server, folder, x, loss_fn):
        server.commit("me/vae", files_of(folder))
        deep = server.commit("me/vae", files_of(folder, "deep/"))
        expected = IDAATransform.from_pretrained(folder)(x, loss_fn=loss_fn)
        assert torch.equal(IDAATransform.from_pretrained("me/vae")(x, loss_fn=loss_fn), expected)
        pinned = IDAATransform.from_pretrained("me/vae", revision=deep, subfolder="deep", steps=3)
        assert pinned.steps == 3
        asked = len(server.requests)
        for options in ({"local_files_only": True}, {"revision": deep}):
            cached = IDAATransform.from_pretrained("me/vae", **options)
            assert torch.equal(cached(x, loss_fn=loss_fn), expected)
            assert len(server.requests) == asked, "what is cached and pinned needs no request"

    def test_main_moves_and_a_pin_does_not(self, server, folder, tmp_path):
        old = server.commit("me/vae", files_of(folder))
        assert IDAATransform.from_pretrained("me/vae").eps == 0.2
        edit_config(folder, transform__eps=0.4)
        server.commit("me/vae", files_of(folder))
        assert IDAATransform.from_pretrained("me/vae").eps == 0.4
        assert IDAATransform.from_pretrained("me/vae", revision=old).eps == 0.2

    def test_push_and_back_is_exact(self, server, folder, x, loss_fn, monkeypatch, capsys):
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        aug = IDAATransform.from_pretrained(folder)
        (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# card")
        (folder / "checkpoint.pt").write_bytes(b"stays at home")
        address = aug.push_to_hub("me/pushed")
        assert address.startswith(f"{server.url}/me/pushed/commit/")
        main(["push", str(folder), "me/by-command"])
        assert capsys.readouterr().out.startswith(f"{server.url}/me/by-command/commit/")
        assert set(server.files["me/by-command"]["main"]) == {CONFIG, WEIGHTS, "README.md"}
        for name in ("me/pushed", "me/by-command"):
            again = IDAATransform.from_pretrained(name)
            assert again.settings() == aug.settings()
            for key, value in aug.state_dict().items():
                assert torch.equal(again.state_dict()[key], value), key
            assert torch.equal(again(x, loss_fn=loss_fn), aug(x, loss_fn=loss_fn))

    def test_push_refuses_what_would_not_load_or_may_not_write(self, server, folder, monkeypatch):
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        server.read_only = True
        with pytest.raises(WeightsError, match=r"did not take 'me/vae'.*token that may write"):
            hub.push(folder, "me/vae")
        (folder / WEIGHTS).write_bytes(b"")
        asked = len(server.requests)
        with pytest.raises(WeightsError, match="it is damaged"):
            hub.push(folder, "me/vae")
        assert len(server.requests) == asked

    def test_what_the_hub_does_not_have(self, server, folder):
        server.commit("me/vae", {CONFIG: (folder / CONFIG).read_bytes()})
        server.commit("me/other", {"model.bin": b"x"})
        server.gated.add("me/gated")
        for name, revision, message in (
            ("me/nothing", None, "no repository 'me/nothing', or it is private"),
            ("me/vae", "v9", "no 'me/vae' at revision 'v9'; leave revision= out"),
            ("me/vae", None, "'me/vae' has no model.safetensors"),
            ("me/other", None, "'me/other' has no config.json"),
            ("me/gated", None, "'me/gated' is gated; ask for access"),
        ):
            with pytest.raises(WeightsError, match=message):
                IDAATransform.from_pretrained(name, revision=revision)

    def test_wrong_bytes_are_found_out(self, server, folder):
        server.commit("me/vae", files_of(folder))
        IDAATransform.from_pretrained("me/vae", cache_dir=folder.parent / "another")
        server.wrong = True
        with pytest.raises(WeightsError, match=r"has sha256 .* it is damaged|not a config"):
            IDAATransform.from_pretrained("me/vae")

    def test_half_a_file_is_no_file(self, server, folder):
        server.commit("me/vae", files_of(folder))
        server.half = True
        with pytest.raises(WeightsError, match=r"downloading config.json of 'me/vae' failed"):
            IDAATransform.from_pretrained("me/vae")
        server.half = False
        assert IDAATransform.from_pretrained("me/vae").eps == 0.2

    def test_a_server_that_hangs(self, server, folder, monkeypatch):
        server.commit("me/vae", files_of(folder))
        server.sleep = 2.0
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
        with pytest.raises(WeightsError, match=r"downloading config.json of 'me/vae' failed: .*timed out"):
            IDAATransform.from_pretrained("me/vae")

    @pytest.mark.parametrize("cached", [False, True])
    def test_offline(self, server, folder, monkeypatch, cached):
        server.commit("me/vae", files_of(folder))
        if cached:
            IDAATransform.from_pretrained("me/vae")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        if cached:
            assert IDAATransform.from_pretrained("me/vae").eps == 0.2
        else:
            with pytest.raises(WeightsError, match=r"not in the cache.*HF_HUB_OFFLINE.*'cifar10-vae'"):
                IDAATransform.from_pretrained("me/vae")

    def test_names_that_are_not_in_the_package(self, server, folder, monkeypatch):
        commit = server.commit("team/far-vae", files_of(folder))
        server.commit("team/far-vae", {CONFIG: b"moved on"})
        digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
        far = {
            "far-vae": hub.Pretrained("data", digest, "team/far-vae", commit),
            "lost-vae": hub.Pretrained("data", digest),
        }
        monkeypatch.setattr(hub, "PRETRAINED", hub.PRETRAINED | far)
        with pytest.raises(WeightsError, match="not in the cache"):
            IDAATransform.from_pretrained("far-vae", local_files_only=True)
        assert "not in the cache" in hub.list_pretrained()[-2]["source"]
        assert IDAATransform.from_pretrained("far-vae").eps == 0.2
        assert hub.list_pretrained()[-2]["latent_dim"] == 8
        with pytest.raises(WeightsError, match="'lost-vae' are not in this installation; they come with a checkout"):
            IDAATransform.from_pretrained("lost-vae")


def test_list(capsys):
    names = [row["name"] for row in hub.list_pretrained()]
    assert "cifar10-vae" in names
    main(["list"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == names
    assert "13.52 M" in lines[1]
    assert "27.1 MB" in lines[1]
