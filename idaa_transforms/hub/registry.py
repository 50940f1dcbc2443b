"""Load pretrained autoencoders: by a name of this release, from a folder, or from the Hugging Face Hub."""

from __future__ import annotations

import difflib
import json
import math
import os
from pathlib import Path
from typing import Any, NamedTuple, Unpack

from .folder import CONFIG, WEIGHTS, WeightsError, build, check_hash, fill, read_config, read_settings, read_weights
from .remote import HubOptions, download


class Pretrained(NamedTuple):
    """Weights that come with this release."""

    data: str
    sha256: str
    terms: str  # of the training images; the weights themselves are Apache-2.0 where these allow it


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
}
RECOMMENDED = "cifar10-vae-small"
"""The weights to try first."""
_PACKAGE = Path(__file__).parents[1]


def load(name: str | os.PathLike[str], **options: Unpack[HubOptions]) -> tuple[Any, dict[str, Any]]:
    """The autoencoder called ``name``, frozen, in float32 and eval mode, and the transform's settings saved with it.

    Its weights are real also under ``torch.device("meta")`` and accelerate's ``init_empty_weights()``.

    Args:
        name: one of ``PRETRAINED`` (these come first), a folder, or ``org/repository`` on the Hub; a ``Path`` is
            always a folder. Folders and repositories may also hold an autoencoder of diffusers, with
            ``subfolder="vae"`` for that of a pipeline.
        options: ``revision`` and so on, for the Hub; ``subfolder`` for folders too.

    Raises:
        WeightsError: with what is wrong and what to do about it.
    """
    import torch

    with torch.device("cpu"):  # whatever device is the default: weights are read from a file
        return _load(name, find(name, **options))


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
    fill(autoencoder, read_weights(weights, autoencoder.state_dict()))
    return autoencoder.eval(), settings


def list_pretrained() -> list[dict[str, Any]]:
    """The weights of this release, one dict each: name, data, image_size, latent_dim, beta, parameters (of the
    network), terms (of the training images), megabytes (of the file), source (the package or the checkout)."""
    rows = []
    for name, about in PRETRAINED.items():
        folder = find(name)
        config = read_config(folder / CONFIG)
        rows.append(
            {
                "name": name,
                "data": about.data,
                **{key: config["autoencoder"][key] for key in ("image_size", "latent_dim", "beta")},
                "parameters": _parameters(folder / WEIGHTS),
                "terms": about.terms,
                "megabytes": round((folder / WEIGHTS).stat().st_size / 1e6, 1),
                "source": "the package" if folder.is_relative_to(_PACKAGE) else "the checkout",
            }
        )
    return rows


def _parameters(file: Path) -> int:
    """The number of parameters in the safetensors ``file``, by its header, without statistics of batch norm."""
    with file.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    tensors = {name: about["shape"] for name, about in header.items() if name != "__metadata__"}
    return sum(math.prod(shape) for name, shape in tensors.items() if "running_" not in name and "num_b" not in name)


def find(name: str | os.PathLike[str], **options: Unpack[HubOptions]) -> Path:
    """The folder that holds ``name``, downloaded if need be. A ``Path`` is a folder, whatever it is called."""
    text = os.fspath(name)
    if isinstance(name, str) and text in PRETRAINED:
        return installed(text)
    folder = Path(text).expanduser()
    if text and folder.is_dir():
        return folder / (options.get("subfolder") or "")
    if isinstance(name, os.PathLike) or text.startswith((".", "/", "~")) or text.count("/") > 1:
        raise WeightsError(f"there is no folder {text!r}. {_available()}")
    if "/" not in text:
        close = difflib.get_close_matches(text, PRETRAINED, 1)
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise WeightsError(f"unknown name {text!r}{hint} {_available()}")
    return download(text, _available(), **options)


def installed(name: str) -> Path:
    """The folder ``name`` of weights/, in the package or, in a checkout, beside it.

    Raises:
        WeightsError: it has no weights.
    """
    for folder in (_PACKAGE / "weights" / name, _PACKAGE.parent / "weights" / name):
        if (folder / WEIGHTS).is_file():
            return folder
    raise WeightsError(f"the weights of {name!r} are not in this installation; install the package again")


def _available() -> str:
    return f"Available weights: {', '.join(PRETRAINED)}; or a folder, or org/name on the Hub."
