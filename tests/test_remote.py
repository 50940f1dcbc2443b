"""Repositories on the Hub: the real client against a server on localhost, with and without faults."""

import hashlib

import pytest
import torch
from conftest import edit_config
from hub_server import Hub
from huggingface_hub import constants
from tiny_diffusers import TINY

from idaa_transforms import IDAATransform, hub
from idaa_transforms.cli import main
from idaa_transforms.hub.folder import CONFIG, WEIGHTS
from idaa_transforms.hub.registry import WeightsError


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


def test_repository_revision_subfolder_and_cache(server, folder, x, loss_fn):
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


def test_main_moves_and_a_pin_does_not(server, folder, tmp_path):
    old = server.commit("me/vae", files_of(folder))
    assert IDAATransform.from_pretrained("me/vae").eps == 0.2
    edit_config(folder, transform__eps=0.4)
    server.commit("me/vae", files_of(folder))
    assert IDAATransform.from_pretrained("me/vae").eps == 0.4
    assert IDAATransform.from_pretrained("me/vae", revision=old).eps == 0.2


def test_push_and_back_is_exact(server, folder, x, loss_fn, monkeypatch, capsys):
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
        assert again.settings.saved() == aug.settings.saved()
        for key, value in aug.state_dict().items():
            assert torch.equal(again.state_dict()[key], value), key
        assert torch.equal(again(x, loss_fn=loss_fn), aug(x, loss_fn=loss_fn))


def test_push_refuses_what_would_not_load_or_may_not_write(server, folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    server.read_only = True
    with pytest.raises(WeightsError, match=r"did not take 'me/vae'.*token that may write"):
        hub.push(folder, "me/vae")
    (folder / WEIGHTS).write_bytes(b"")
    asked = len(server.requests)
    with pytest.raises(WeightsError, match="it is damaged"):
        hub.push(folder, "me/vae")
    assert len(server.requests) == asked


def test_a_push_that_fails_leaves_nothing_half_made(server, folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    server.no_commits = True
    with pytest.raises(WeightsError, match="did not take 'me/vae'"):
        hub.push(folder, "me/vae")
    assert "me/vae" not in server.files
    server.no_deletions = True
    with pytest.raises(WeightsError, match="is left there empty: delete me/vae"):
        hub.push(folder, "me/vae")
    server.no_deletions = False
    with pytest.raises(WeightsError, match="did not take 'me/vae'"):
        hub.push(folder, "me/vae")
    assert "me/vae" in server.files, "what somebody else had made is not removed"
    server.no_commits = False
    assert hub.push(folder, "me/vae").startswith(server.url)


def test_a_push_without_a_network(server, folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SystemExit, match=r"idaa: the Hub did not take 'me/vae': .*try again when the Hub"):
        main(["push", str(folder), "me/vae"])


def test_a_path_with_the_name_of_shipped_weights_is_what_is_published(server, folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.chdir(folder.parent)
    folder.rename("cifar10-vae")
    main(["push", "cifar10-vae", "me/mine"])
    assert IDAATransform.from_pretrained("me/mine").autoencoder.latent_dim == 8


def diffusers_files(folder, **how):
    import diffusers

    torch.manual_seed(0)
    diffusers.AutoencoderTiny(**TINY["AutoencoderTiny"]).save_pretrained(folder, **how)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("how", [{}, {"variant": "fp16"}, {"max_shard_size": "10KB"}])
def test_repositories_of_diffusers_as_they_are(server, tmp_path, how, monkeypatch):
    monkeypatch.setattr("idaa_transforms.autoencoders.diffusers.explained_variance", lambda _: 1.0)  # it is untrained
    files = diffusers_files(tmp_path / "vae", **how)
    server.commit("me/pipe", {f"vae/{name}": content for name, content in files.items()})
    server.commit("me/pipe", {"model_index.json": b'{"vae": ["diffusers", "AutoencoderTiny"]}'})
    there = IDAATransform.from_pretrained("me/pipe", subfolder="vae").autoencoder.state_dict()
    here = IDAATransform.from_pretrained(tmp_path / "vae").autoencoder.state_dict()
    assert all(torch.equal(there[key], value) for key, value in here.items())
    with pytest.raises(WeightsError, match=r'no config.json: this is a whole pipeline .*subfolder="vae"'):
        IDAATransform.from_pretrained("me/pipe")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    hub.folder.recommend(tmp_path / "vae", {"eps": 0.03}, {})
    hub.push(tmp_path / "vae", "me/again")
    assert IDAATransform.from_pretrained("me/again").eps == 0.03


def test_pickles_are_refused_by_name(server, tmp_path):
    files = diffusers_files(tmp_path / "vae", safe_serialization=False)
    server.commit("me/pickled", files)
    with pytest.raises(
        WeightsError, match=r"'me/pickled' has its weights as a pickle only \(diffusion_pytorch_model.bin\)"
    ):
        IDAATransform.from_pretrained("me/pickled")


def test_what_the_hub_does_not_have(server, folder):
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


def test_wrong_bytes_are_found_out(server, folder):
    server.commit("me/vae", files_of(folder))
    IDAATransform.from_pretrained("me/vae", cache_dir=folder.parent / "another")
    server.wrong = True
    with pytest.raises(WeightsError, match=r"has sha256 .* it is damaged|not a config"):
        IDAATransform.from_pretrained("me/vae")


def test_half_a_file_is_no_file(server, folder):
    server.commit("me/vae", files_of(folder))
    server.half = True
    with pytest.raises(WeightsError, match=r"downloading config.json of 'me/vae' failed"):
        IDAATransform.from_pretrained("me/vae")
    server.half = False
    assert IDAATransform.from_pretrained("me/vae").eps == 0.2


def test_a_server_that_hangs(server, folder, monkeypatch):
    server.commit("me/vae", files_of(folder))
    server.sleep = 2.0
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    with pytest.raises(WeightsError, match=r"downloading config.json of 'me/vae' failed: .*timed out"):
        IDAATransform.from_pretrained("me/vae")


@pytest.mark.parametrize("cached", [False, True])
def test_offline(server, folder, monkeypatch, cached):
    server.commit("me/vae", files_of(folder))
    if cached:
        IDAATransform.from_pretrained("me/vae")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    if cached:
        assert IDAATransform.from_pretrained("me/vae").eps == 0.2
    else:
        with pytest.raises(WeightsError, match=r"not in the cache.*HF_HUB_OFFLINE.*'cifar10-vae'"):
            IDAATransform.from_pretrained("me/vae")


def test_names_that_are_not_in_the_package(server, folder, monkeypatch):
    commit = server.commit("team/far-vae", files_of(folder))
    server.commit("team/far-vae", {CONFIG: b"moved on"})
    digest = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    far = {
        "far-vae": hub.registry.Pretrained("data", digest, "free", "team/far-vae", commit),
        "lost-vae": hub.registry.Pretrained("data", digest, "free"),
    }
    monkeypatch.setattr(hub.registry, "PRETRAINED", hub.PRETRAINED | far)
    with pytest.raises(WeightsError, match="not in the cache"):
        IDAATransform.from_pretrained("far-vae", local_files_only=True)
    assert "not in the cache" in hub.list_pretrained()[-2]["source"]
    assert IDAATransform.from_pretrained("far-vae").eps == 0.2
    assert hub.list_pretrained()[-2]["latent_dim"] == 8
    with pytest.raises(WeightsError, match="'lost-vae' are not in this installation; they come with a checkout"):
        IDAATransform.from_pretrained("lost-vae")
