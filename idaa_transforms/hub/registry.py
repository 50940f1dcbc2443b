"""Pretrained autoencoders by name: those of this release, folders, and repositories on the Hugging Face Hub."""

from __future__ import annotations

import difflib
import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from .folder import CONFIG, WEIGHTS, WeightsError, build, check_hash, read_config, read_settings, read_weights
from .remote import ANYWHERE, Where, download


class Pretrained(NamedTuple):
    """Weights that belong to this release. The narrow ones are in the package; the others in weights/ of a checkout or,
    once they are published, at one commit of a repository on the Hub."""

    data: str
    sha256: str
    terms: str  # what the terms of the training images allow; the weights themselves are Apache-2.0 where these do
    repository: str | None = None
    revision: str | None = None  # a commit, 40 hexadecimal digits


OF_CIFAR = "none stated with the images (Krizhevsky, 2009)"
PRETRAINED = {
    "natural-vae": Pretrained(
        "photographs",
        "096f8ee46b0379633460e120d30dad50859681668eedcea28533f4262fe7afde",
        "CC0 and MIT; none stated with two sets of four",
    ),
    "cifar10-vae": Pretrained("CIFAR-10", "32489795bfb0ea8542962e49be25035003c9d6afe3c2770ab298e14bbf773684", OF_CIFAR),
    "cifar10-vae-z128": Pretrained(
        "CIFAR-10", "2f250c5133f9f454d6eb095af03867267c4e97a765d1d272c6e1676404809e61", OF_CIFAR
    ),
    "cifar10-vae-small": Pretrained(
        "CIFAR-10", "5486e327d33c73df0bdad2935ad0d6a963166d4a29d775ff9d8e5366ca5c637a", OF_CIFAR
    ),
    "cifar100-vae": Pretrained(
        "CIFAR-100", "46a12d5c0e808cc0faf5c4345eeb666f1b5b9578532b20ff52c558b262607edf", OF_CIFAR
    ),
    "tiny-imagenet-vae": Pretrained(
        "Tiny ImageNet",
        "8aac7b6e1aa2aa6193b7d527a16adddbbeac918c547425aebdda717f9f9fcf40",
        "ImageNet's: research only",
    ),
}


def load(name: str | os.PathLike[str], where: Where = ANYWHERE) -> tuple[Any, dict[str, Any]]:
    """The autoencoder called ``name``, in float32 and eval mode, and the settings of the transform saved with it.

    Args:
        name: one of ``PRETRAINED`` (these come first), a folder, or ``org/repository`` on the Hub; a ``Path`` is
            always a folder. The latter two may also hold an autoencoder of diffusers, with ``subfolder="vae"`` for
            that of a pipeline.
        where: revision and so on, for the Hub; ``subfolder`` for folders too.

    Raises:
        WeightsError: with what is wrong and what to do about it.
    """
    import torch

    with torch.device("cpu"):  # whatever device is the default here: weights are read from a file
        return _load(name, find(name, where))


def _load(name: str | os.PathLike[str], folder: Path) -> tuple[Any, dict[str, Any]]:
    config = read_config(folder / CONFIG)
    settings = read_settings(folder, config)
    if "_class_name" in config:
        from ..autoencoders.diffusers import load_diffusers

        try:
            return load_diffusers(folder, config["_class_name"]), settings
        except ImportError:
            raise
        except Exception as error:  # diffusers raises of many kinds
            raise WeightsError(f"{os.fspath(name)!r} cannot be used: {' '.join(str(error).split())}") from error
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise WeightsError(f"{folder} has no {WEIGHTS}; save it again with save_pretrained, or download it anew")
    shipped = PRETRAINED[name].sha256 if isinstance(name, str) and name in PRETRAINED else None
    check_hash(weights, config.get("weights_sha256"), shipped)
    autoencoder = build(config, folder / CONFIG)
    autoencoder.load_state_dict(read_weights(weights, autoencoder.state_dict()), assign=True)
    return autoencoder.eval(), settings


def list_pretrained() -> list[dict[str, Any]]:
    """What belongs to this release, one dict a name: name, data, image_size, latent_dim, beta, parameters (of the
    network), terms (of the training images), megabytes (of the file), source (the package, the checkout, or
    repository and commit)."""
    found = []
    for name, about in PRETRAINED.items():
        try:
            folder = find(name, Where(local_files_only=True))
        except WeightsError as error:
            found.append({"name": name, "data": about.data, "source": str(error)})
            continue
        config = read_config(folder / CONFIG)
        parameters = _parameters(folder / WEIGHTS)
        config = config["autoencoder"]
        shown = {key: config[key] for key in ("image_size", "latent_dim", "beta")}
        size = round((folder / WEIGHTS).stat().st_size / 1e6, 1)
        rest: dict[str, Any] = {
            "parameters": parameters,
            "terms": about.terms,
            "megabytes": size,
            "source": _source(folder, about),
        }
        found.append({"name": name, "data": about.data, **shown, **rest})
    return found


def _parameters(file: Path) -> int:
    """The number of parameters in the safetensors ``file``, by its header, without statistics of batch norm."""
    with file.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    tensors = {name: about["shape"] for name, about in header.items() if name != "__metadata__"}
    return sum(math.prod(shape) for name, shape in tensors.items() if "running_" not in name and "num_b" not in name)


def _source(folder: Path, about: Pretrained) -> str:
    package = Path(__file__).parents[1]
    if folder.is_relative_to(package):
        return "the package"
    checkout = folder.is_relative_to(package.parent / "weights")
    return "the checkout" if checkout else f"{about.repository}@{about.revision}"


def find(name: str | os.PathLike[str], where: Where = ANYWHERE) -> Path:
    """The folder that holds ``name``, downloaded where it has to be. A ``Path`` is a folder, whatever it is called."""
    text = os.fspath(name)
    if isinstance(name, str) and text in PRETRAINED:
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
    return download(text, where, _known())


def installed(name: str) -> Path | None:
    """The folder ``name`` of weights/ in the package or, in a checkout, beside it; None where it has no weights."""
    package = Path(__file__).parents[1]
    folders = (package / "weights" / name, package.parent / "weights" / name)
    return next((folder for folder in folders if (folder / WEIGHTS).is_file()), None)


def _find_pretrained(name: str, where: Where) -> Path:
    about = PRETRAINED[name]
    if folder := installed(name):
        return folder
    if about.repository is not None:
        return download(about.repository, where._replace(revision=about.revision), _known())
    raise WeightsError(
        f"the weights of {name!r} are not in this installation; they come with a checkout, in weights/{name}"
    )


def _known() -> str:
    return f"{sorted(PRETRAINED)} (shipped), a folder ('./my-vae'), or a repository on the Hub ('org/name')"
