"""Weights by name, from folders and from the Hub; the real client against a server on localhost, with faults."""

import pickle
import socket

import pytest
import torch
from conftest import edit_config, tiny_vae
from hub_server import Hub
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from tiny_diffusers import TINY

from idaa_transforms import CLAETransform, IDAATransform, hub
from idaa_transforms.cli import main
from idaa_transforms.hub import WeightsError
from idaa_transforms.hub.folder import CONFIG, WEIGHTS, recommend


class TestFolder:
    def test_a_round_trip_is_exact_and_draws_no_random_numbers(self, folder, x, loss_fn):
        aug, before = IDAATransform(tiny_vae(), 0.2, norm="l2", steps=2, clip=(0.0, 1.0)), torch.get_rng_state()
        again = IDAATransform.from_pretrained(folder.parent, subfolder=folder.name)
        assert torch.equal(torch.get_rng_state(), before)
        assert repr(again).partition(", ")[2] == repr(aug).partition(", ")[2]
        assert again.autoencoder.config == aug.autoencoder.config
        assert torch.equal(again(x, loss_fn=loss_fn), aug(x, loss_fn=loss_fn))

    def test_arguments_override_what_was_saved(self, folder):
        aug = IDAATransform.from_pretrained(str(folder), eps=0.7, steps=1, p=0.5)
        assert (aug.eps, aug.steps, aug.p, aug.norm, aug.clip) == (0.7, 1, 0.5, "l2", (0.0, 1.0))

    def test_half_precision_storage(self, folder, x, loss_fn):
        aug = IDAATransform.from_pretrained(folder)
        views = aug(x, loss_fn=loss_fn)
        hub.save(aug.autoencoder, folder, {"eps": 0.2, "norm": "l2", "steps": 2, "clip": (0, 1)}, torch.float16)
        assert load_file(folder / WEIGHTS)["to_mean.weight"].dtype == torch.float16
        half = IDAATransform.from_pretrained(folder)
        assert half.autoencoder.to_mean.weight.dtype == torch.float32
        assert (half(x, loss_fn=loss_fn) - views).abs().max() < 1e-2

    def test_a_recommendation_keeps_what_images_are_normalised_by(self, folder):
        vae = IDAATransform.from_pretrained(folder).autoencoder
        IDAATransform(vae, 0.2, mean=[0.4] * 3, std=[0.2] * 3).save_pretrained(folder)
        recommend(folder, {"eps": 0.3, "steps": 2}, {})
        aug = IDAATransform.from_pretrained(folder)
        assert (aug.eps, aug.steps, aug.mean, aug.std) == (0.3, 2, (0.4,) * 3, (0.2,) * 3)

    def test_only_what_can_be_loaded_is_saved(self, tmp_path):
        with pytest.raises(TypeError, match="not a PixelSpace"):
            hub.save(CLAETransform().autoencoder, tmp_path, {})

    def test_a_home_folder_is_expanded_and_an_empty_one_refused(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        assert hub.save(tiny_vae(), "~/mine", {}) == tmp_path / "mine"
        assert hub.load("~/mine")[0].latent_dim == 8
        with pytest.raises(ValueError, match="is empty text"):
            hub.save(tiny_vae(), "", {})
        with pytest.raises(WeightsError, match="unknown name ''"):
            hub.load("")


@pytest.mark.parametrize("around", ["meta device", "init_empty_weights", "with buffers"])
def test_weights_are_real_where_empty_ones_are_asked_for(around, folder):
    accelerate = pytest.importorskip("accelerate")
    contexts = {
        "meta device": lambda: torch.device("meta"),
        "init_empty_weights": lambda: accelerate.init_empty_weights(include_buffers=False),
        "with buffers": lambda: accelerate.init_empty_weights(include_buffers=True),
    }
    expected = hub.load(folder)[0].state_dict()
    with contexts[around]():
        found = hub.load(folder)[0].state_dict()
        assert next(hub.load("cifar10-vae-small")[0].parameters()).device.type == "cpu"
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def edit_weights(folder, change):
    state = load_file(folder / WEIGHTS)
    change(state)
    save_file(state, folder / WEIGHTS)
    edit_config(folder, weights_sha256=None)


def write(content):
    """Weights with this content, whose hash nobody knows."""
    return lambda f: [(f / WEIGHTS).write_bytes(content), edit_config(f, weights_sha256=None)]


def flip_a_byte(folder):
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-5] ^= 1
    (folder / WEIGHTS).write_bytes(content)


DAMAGE = {
    "a byte flipped": (flip_a_byte, "has sha256 .* as it should: it is damaged or not what was saved"),
    "no config": (lambda f: (f / CONFIG).unlink(), "there is no .*config.json"),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "has no model.safetensors"),
    "truncated": (lambda f: write((f / WEIGHTS).read_bytes()[:-10])(f), "truncated, damaged"),
    "empty": (write(b""), "truncated, damaged"),
    "pickle": (write(pickle.dumps({"evil": print})), "not safetensors at all"),
    "not JSON": (lambda f: (f / CONFIG).write_text("{"), "not a config of this library"),
    "not a number": (lambda f: edit_config(f, transform__eps=float("nan")), "NaN is no usable number"),
    "foreign config": (lambda f: (f / CONFIG).write_text('{"model_type": "bert"}'), "not a config of this library"),
    "future": (lambda f: edit_config(f, format_version=2), "format version 2, and this release reads 1; upgrade"),
    "class": (lambda f: edit_config(f, autoencoder__class="os.system"), r"'os.system'; this release has \['ConvVAE'\]"),
    "argument": (lambda f: edit_config(f, autoencoder__depht=3), "does not describe a ConvVAE"),
    "depth": (lambda f: edit_config(f, autoencoder__depth=10**30), "does not describe a ConvVAE: .* halvings"),
    "setting": (lambda f: edit_config(f, transform__epsilon=3), "'epsilon' is not a setting; settings are eps, norm"),
    "shape": (lambda f: edit_config(f, autoencoder__latent_dim=9), r"has shape \(.*8.*\) .* instead of \(.*9.*\)"),
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
    with pytest.raises(WeightsError, match=message) as error:
        IDAATransform.from_pretrained(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cifar11-vae", "unknown name 'cifar11-vae'; did you mean 'cifar10-vae'"),
        (
            "nonsense",
            "unknown name 'nonsense'. Available weights: natural-vae, .*; or a folder, or org/name on the Hub",
        ),
        ("./nowhere", "there is no folder './nowhere'"),
        ("a/b/c", "there is no folder 'a/b/c'"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(WeightsError, match=message):
        IDAATransform.from_pretrained(name)


class TestShipped:
    def test_no_network_is_needed(self, monkeypatch):
        def refuse(*_, **__):
            raise AssertionError("network")

        for owner, name in ((socket.socket, "connect"), (socket, "create_connection"), (socket, "getaddrinfo")):
            monkeypatch.setattr(owner, name, refuse)
        aug = IDAATransform.from_pretrained("cifar10-vae", p=0.5)
        assert repr(aug) == "IDAATransform('cifar10-vae', eps=0.1, p=0.5)"

    def test_a_damaged_file_is_found_out(self, tmp_path, monkeypatch):
        folder = tmp_path / "weights" / "cifar10-vae"
        hub.save(hub.load("cifar10-vae-small")[0], folder, {"eps": 0.1})
        monkeypatch.setattr(hub.registry, "_PACKAGE", tmp_path)
        with pytest.raises(WeightsError, match=r"has sha256 .* as it should: it is damaged"):
            hub.load("cifar10-vae")
        with pytest.raises(WeightsError, match=r"'natural-vae' are not in this installation; install the package"):
            hub.load("natural-vae")


@pytest.fixture
def server(monkeypatch, tmp_path):
    """The real client against a Hub on localhost."""
    server = Hub()
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield server
    server.server.shutdown()


def files_of(folder, prefix=""):
    return {prefix + name: (folder / name).read_bytes() for name in (CONFIG, WEIGHTS)}


class TestDownload:
    def test_revision_subfolder_and_cache(self, server, folder):
        old = server.commit("me/vae", files_of(folder))
        deep = server.commit("me/vae", files_of(folder, "deep/"))
        expected = hub.load(folder)[0].state_dict()
        assert all(torch.equal(hub.load("me/vae")[0].state_dict()[key], value) for key, value in expected.items())
        assert IDAATransform.from_pretrained("me/vae", revision=deep, subfolder="deep", steps=3).steps == 3
        asked = len(server.requests)
        assert IDAATransform.from_pretrained("me/vae", local_files_only=True).eps == 0.2
        assert IDAATransform.from_pretrained("me/vae", revision=deep).eps == 0.2
        assert len(server.requests) == asked, "what is cached and pinned needs no request"
        edit_config(folder, transform__eps=0.4)
        server.commit("me/vae", files_of(folder))
        assert IDAATransform.from_pretrained("me/vae").eps == 0.4
        assert IDAATransform.from_pretrained("me/vae", revision=old).eps == 0.2

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
                hub.load(name, revision=revision)

    def test_wrong_bytes_half_a_file_and_a_server_that_hangs(self, server, folder, monkeypatch):
        server.commit("me/vae", files_of(folder))
        server.wrong = True
        with pytest.raises(WeightsError, match=r"has sha256 .* it is damaged|not a config"):
            hub.load("me/vae", cache_dir=folder.parent / "another")
        server.wrong, server.half = False, True
        with pytest.raises(WeightsError, match=r"downloading config.json of 'me/vae' failed"):
            hub.load("me/vae")
        server.half, server.sleep = False, 2.0
        monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
        with pytest.raises(WeightsError, match=r"downloading config.json of 'me/vae' failed: .*timed out"):
            hub.load("me/vae")
        server.sleep = 0
        assert hub.load("me/vae")[1]["eps"] == 0.2

    @pytest.mark.parametrize("cached", [False, True])
    def test_offline(self, server, folder, monkeypatch, cached):
        server.commit("me/vae", files_of(folder))
        if cached:
            hub.load("me/vae")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        if cached:
            assert hub.load("me/vae")[1]["eps"] == 0.2
        else:
            with pytest.raises(WeightsError, match=r"not in the cache.*HF_HUB_OFFLINE.*cifar10-vae"):
                hub.load("me/vae")


class TestPush:
    def test_push_and_back_is_exact(self, server, folder, capsys):
        aug = IDAATransform.from_pretrained(folder)
        (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# card")
        (folder / "checkpoint.pt").write_bytes(b"stays at home")
        assert aug.push_to_hub("me/pushed").startswith(f"{server.url}/me/pushed/commit/")
        main(["push", str(folder), "me/by-command"])
        assert capsys.readouterr().out.startswith(f"{server.url}/me/by-command/commit/")
        assert set(server.files["me/by-command"]["main"]) == {CONFIG, WEIGHTS, "README.md"}
        for name in ("me/pushed", "me/by-command"):
            again, settings = hub.load(name)
            assert settings == hub.load(folder)[1]
            expected = aug.autoencoder.state_dict()
            assert all(torch.equal(again.state_dict()[key], value) for key, value in expected.items())

    def test_what_would_not_load_is_not_pushed(self, server, folder):
        (folder / WEIGHTS).write_bytes(b"")
        with pytest.raises(WeightsError, match="it is damaged"):
            hub.push(folder, "me/vae")
        assert server.requests == []

    def test_nothing_is_left_half_done(self, server, folder):
        server.read_only = True
        with pytest.raises(WeightsError, match=r"did not take 'me/vae'.*token that may write"):
            hub.push(folder, "me/vae")
        server.read_only, server.no_commits = False, True
        with pytest.raises(WeightsError, match="did not take 'me/vae'"):
            hub.push(folder, "me/vae")
        assert "me/vae" not in server.files
        server.no_deletions = True
        with pytest.raises(WeightsError, match="could not be removed again and is empty: delete me/vae"):
            hub.push(folder, "me/vae")
        server.no_deletions = False
        with pytest.raises(WeightsError, match="did not take 'me/vae'"):
            hub.push(folder, "me/vae")
        assert "me/vae" in server.files, "what somebody else had made is not removed"
        server.no_commits = False
        assert hub.push(folder, "me/vae").startswith(server.url)

    def test_without_a_network(self, server, folder, monkeypatch):
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        with pytest.raises(SystemExit, match=r"idaa: the Hub did not take 'me/vae': .*try again when the Hub"):
            main(["push", str(folder), "me/vae"])

    def test_a_path_with_the_name_of_shipped_weights_is_what_is_published(self, server, folder, monkeypatch):
        monkeypatch.chdir(folder.parent)
        folder.rename("cifar10-vae")
        main(["push", "cifar10-vae", "me/mine"])
        assert hub.load("me/mine")[0].latent_dim == 8


class TestDiffusers:
    @pytest.fixture(autouse=True)
    def untrained(self, monkeypatch):
        monkeypatch.setattr("idaa_transforms.autoencoders.diffusers.explained_variance", lambda _: 1.0)

    def files(self, folder, **how):
        diffusers = pytest.importorskip("diffusers")
        torch.manual_seed(0)
        diffusers.AutoencoderTiny(**TINY["AutoencoderTiny"]).save_pretrained(folder, **how)
        return {file.name: file.read_bytes() for file in folder.iterdir()}

    @pytest.mark.parametrize("how", [{}, {"variant": "fp16"}, {"max_shard_size": "10KB"}])
    def test_repositories_as_they_are(self, server, tmp_path, how):
        files = self.files(tmp_path / "vae", **how)
        server.commit("me/pipe", {f"vae/{name}": content for name, content in files.items()})
        server.commit("me/pipe", {"model_index.json": b'{"vae": ["diffusers", "AutoencoderTiny"]}'})
        there, here = hub.load("me/pipe", subfolder="vae")[0].state_dict(), hub.load(tmp_path / "vae")[0].state_dict()
        assert all(torch.equal(there[key], value) for key, value in here.items())
        with pytest.raises(WeightsError, match=r'no config.json: this is a whole pipeline .*subfolder="vae"'):
            hub.load("me/pipe")
        recommend(tmp_path / "vae", {"eps": 0.03}, {})
        hub.push(tmp_path / "vae", "me/again")
        assert hub.load("me/again")[1]["eps"] == 0.03

    def test_pickles_are_refused_by_name(self, server, tmp_path):
        server.commit("me/pickled", self.files(tmp_path / "vae", safe_serialization=False))
        for place in ("me/pickled", tmp_path / "vae"):
            with pytest.raises(WeightsError, match=r"as a pickle only \(diffusion_pytorch_model.bin\)"):
                hub.load(place)
