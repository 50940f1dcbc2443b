"""Pretrained autoencoders by name: those of this release, folders, and repositories on the Hugging Face Hub."""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..autoencoders.diffusers import WEIGHTS as DIFFUSERS_WEIGHTS
from ..autoencoders.diffusers import load_diffusers
from ..core.settings import Settings
from .folder import AUTOENCODERS, CONFIG, WEIGHTS, WeightsError, check_hash, read_config, read_weights, save

__all__ = ["PRETRAINED", "WeightsError", "Where", "find", "list_pretrained", "load", "push", "save"]


class Pretrained(NamedTuple):
    """Weights that belong to this release. The narrow ones are in the package; the others in weights/ of a checkout or,
    once they are published, at one commit of a repository on the Hub."""

    data: str
    sha256: str
    repository: str | None = None
    revision: str | None = None  # a commit, 40 hexadecimal digits


PRETRAINED = {
    "cifar10-vae": Pretrained("CIFAR-10", "32489795bfb0ea8542962e49be25035003c9d6afe3c2770ab298e14bbf773684"),
    "cifar10-vae-z128": Pretrained("CIFAR-10", "2f250c5133f9f454d6eb095af03867267c4e97a765d1d272c6e1676404809e61"),
    "cifar10-vae-small": Pretrained("CIFAR-10", "5486e327d33c73df0bdad2935ad0d6a963166d4a29d775ff9d8e5366ca5c637a"),
    "cifar100-vae": Pretrained("CIFAR-100", "46a12d5c0e808cc0faf5c4345eeb666f1b5b9578532b20ff52c558b262607edf"),
    "tiny-imagenet-vae": Pretrained(
        "Tiny ImageNet", "8aac7b6e1aa2aa6193b7d527a16adddbbeac918c547425aebdda717f9f9fcf40"
    ),
}


class Where(NamedTuple):
    """Where on the Hub or in a folder, as in ``huggingface_hub``."""

    revision: str | None = None
    subfolder: str | None = None
    cache_dir: str | Path | None = None
    token: str | bool | None = None
    local_files_only: bool = False


ANYWHERE = Where()


def load(name: str | os.PathLike[str], where: Where = ANYWHERE) -> tuple[Any, dict[str, Any]]:
    """The autoencoder called ``name``, in float32 and eval mode, and the settings of the transform saved with it.

    Args:
        name: one of :data:`PRETRAINED` (these come first), a folder, or ``org/repository`` on the Hub. The latter two
            may also hold an autoencoder of diffusers, with ``subfolder="vae"`` for that of a pipeline.
        where: revision and so on, for the Hub; ``subfolder`` for folders too.

    Raises:
        WeightsError: with what is wrong and what to do about it.
    """
    folder = find(name, where)
    config = read_config(folder / CONFIG)
    if "_class_name" in config:
        try:
            return load_diffusers(folder, config["_class_name"]), {}
        except (ValueError, OSError) as error:
            raise WeightsError(f"{os.fspath(name)!r} cannot be used: {error}") from error
    build, arguments = AUTOENCODERS[config["autoencoder"].pop("class")], config["autoencoder"]
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise WeightsError(f"{folder} has no {WEIGHTS}; save it again with save_pretrained, or download it anew")
    shipped = PRETRAINED.get(os.fspath(name))
    check_hash(weights, config.get("weights_sha256"), shipped.sha256 if shipped else None)
    try:
        with torch.device("meta"):  # no memory and no random numbers for weights that are read next
            autoencoder = build(**arguments)
    except (TypeError, ValueError) as error:
        raise WeightsError(f"{folder / CONFIG} does not describe a {build.__name__}: {error}") from error
    autoencoder.load_state_dict(read_weights(weights, autoencoder.state_dict()), assign=True)
    settings = config.get("transform", {})
    if unknown := set(settings) - {"eps", *Settings.__annotations__}:
        raise WeightsError(f"{folder / CONFIG} has unknown settings {sorted(unknown)} under 'transform'; remove them")
    return autoencoder.eval(), settings


def list_pretrained() -> list[dict[str, Any]]:
    """What belongs to this release, one dict a name: name, data, image_size, latent_dim, beta, parameters (of the
    network), license, megabytes (of the file), source (the package, the checkout, or
    repository and commit)."""
    found = []
    for name, about in PRETRAINED.items():
        try:
            folder = find(name, Where(local_files_only=True))
        except WeightsError as error:
            found.append({"name": name, "data": about.data, "source": str(error)})
            continue
        config = read_config(folder / CONFIG)["autoencoder"]
        with torch.device("meta"):
            parameters = sum(p.numel() for p in AUTOENCODERS[config.pop("class")](**config).parameters())
        shown = {key: config[key] for key in ("image_size", "latent_dim", "beta")}
        size = round((folder / WEIGHTS).stat().st_size / 1e6, 1)
        rest: dict[str, Any] = {
            "parameters": parameters,
            "license": "Apache-2.0",
            "megabytes": size,
            "source": _source(folder, about),
        }
        found.append({"name": name, "data": about.data, **shown, **rest})
    return found


def _source(folder: Path, about: Pretrained) -> str:
    here = Path(__file__)
    if folder.is_relative_to(here.parent):
        return "the package"
    return (
        "the checkout" if folder.is_relative_to(here.parents[1] / "weights") else f"{about.repository}@{about.revision}"
    )


def push(folder: str | os.PathLike[str], repository: str, *, private: bool = False, token: str | None = None) -> str:
    """Upload a folder of weights to ``org/name`` on the Hub, which is made if need be; returns the commit's address.

    Loads it first, so that nothing is published that would not load.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, errors

    load(folder)
    files = [Path(folder) / name for name in (CONFIG, WEIGHTS, "README.md", "samples.png")]
    operations = [CommitOperationAdd(file.name, file) for file in files if file.exists()]
    api = HfApi(token=token, library_name="idaa_transforms")
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.create_commit(repository, operations, commit_message="Upload weights with idaa_transforms")
    except errors.HfHubHTTPError as error:
        raise WeightsError(
            f"the Hub did not take {repository!r}: {' '.join(str(error).split())} Log in with a token that may write "
            "(`hf auth login`), and check the spelling of the organisation"
        ) from error
    return str(commit.commit_url)


def find(name: str | os.PathLike[str], where: Where = ANYWHERE) -> Path:
    """The folder that holds ``name``, downloaded where it has to be."""
    text = os.fspath(name)
    if text in PRETRAINED:
        return _find_pretrained(text, where)
    folder = Path(text).expanduser()
    if folder.is_dir():
        return folder / (where.subfolder or "")
    if isinstance(name, os.PathLike) or text.startswith((".", "/", "~")) or text.count("/") > 1:
        raise WeightsError(f"there is no folder {text!r}; what else is there to load: {_known()}")
    if "/" not in text:
        close = difflib.get_close_matches(text, PRETRAINED, 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise WeightsError(f"unknown name {text!r}; {hint}There is: {_known()}")
    return _download(text, where)


def _find_pretrained(name: str, where: Where) -> Path:
    here, about = Path(__file__), PRETRAINED[name]
    for folder in (here.parents[1] / "weights" / name, here.parents[2] / "weights" / name):
        if (folder / WEIGHTS).is_file():
            return folder
    if about.repository is not None:
        return _download(about.repository, where._replace(revision=about.revision))
    raise WeightsError(
        f"the weights of {name!r} are not in this installation; they come with a checkout, in weights/{name}"
    )


def _known() -> str:
    return f"{sorted(PRETRAINED)} (shipped), a folder ('./my-vae'), or a repository on the Hub ('org/name')"


def _download(repository: str, where: Where) -> Path:
    from huggingface_hub import errors, hf_hub_download

    said = f"{repository!r}" + (f" at revision {where.revision!r}" if where.revision else "")

    def get(file: str) -> Path:
        path = hf_hub_download(
            repository,
            file,
            revision=where.revision,
            subfolder=where.subfolder,
            cache_dir=where.cache_dir,
            token=where.token,
            local_files_only=where.local_files_only,
            library_name="idaa_transforms",
        )
        return Path(path)

    file = CONFIG
    try:
        config = get(file)
        file = DIFFUSERS_WEIGHTS if "_class_name" in read_config(config) else WEIGHTS
        get(file)
    except errors.GatedRepoError as error:
        raise WeightsError(f"{said} is gated; ask for access on its page, then `hf auth login` or token=") from error
    except errors.RepositoryNotFoundError as error:
        raise WeightsError(
            f"the Hub has no repository {said}, or it is private: check the spelling, or log in (`hf auth login`)"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise WeightsError(f"the Hub has no {said}; leave revision= out for its main branch") from error
    except errors.LocalEntryNotFoundError as error:
        raise WeightsError(
            f"{said} is not in the cache, and the Hub was not reached (no network, "
            f"HF_HUB_OFFLINE or local_files_only); connect once, or use what needs no network: {_known()}"
        ) from error
    except errors.EntryNotFoundError as error:
        raise WeightsError(f"{said} has no {file}: it was not saved by save_pretrained of this library") from error
    except WeightsError:
        raise
    except Exception as error:  # the client passes on whatever its HTTP library raises
        raise WeightsError(f"downloading {file} of {said} failed: {error}") from error
    return config.parent
