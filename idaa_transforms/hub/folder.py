"""A folder of weights: ``config.json``, ``model.safetensors`` and a model card, ``README.md``.

The config holds a format version, class and arguments of the autoencoder, and settings of the transform. Nothing in it
is executed, and nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch

from ..autoencoders import ConvVAE

FORMAT_VERSION = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
AUTOENCODERS = {"ConvVAE": ConvVAE}


class WeightsError(OSError):
    """Weights that cannot be found or read, or are not what they should be."""


def save(
    autoencoder: ConvVAE, folder: str | os.PathLike[str], settings: dict[str, Any], dtype: torch.dtype | None = None
) -> Path:
    """Write ``autoencoder`` and the transform's ``settings`` to ``folder``, weights as ``dtype`` if one is given."""
    from safetensors.torch import save_file

    if type(autoencoder).__name__ not in AUTOENCODERS:
        raise TypeError(f"only {sorted(AUTOENCODERS)} can be saved, not a {type(autoencoder).__name__}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        key: (value.to(dtype) if dtype and value.is_floating_point() else value).contiguous()
        for key, value in autoencoder.state_dict().items()
    }
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    config = {
        "format_version": FORMAT_VERSION,
        "library_name": "idaa_transforms",
        "weights_sha256": _sha256(folder / WEIGHTS),
        "autoencoder": {"class": type(autoencoder).__name__, **autoencoder.config},
        "transform": settings,
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    return folder


def recommend(folder: Path, settings: dict[str, Any], reason: dict[str, Any]) -> None:
    """Put ``settings`` of the transform into the config of ``folder``, and the ``reason``, which nothing reads."""
    read_config(folder / CONFIG)
    config = json.loads((folder / CONFIG).read_text()) | {"transform": settings, "calibration": reason}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")


def read_config(file: Path) -> dict[str, Any]:
    """The config in ``file``; one of diffusers' (with a ``_class_name``) as it is."""
    try:
        config = json.loads(file.read_text())
        if "_class_name" in config:  # of diffusers
            return config
        version, name = config["format_version"], config["autoencoder"]["class"]
    except FileNotFoundError as error:
        raise WeightsError(
            f"there is no {file}; a folder of weights is made by save_pretrained or train-vae"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{file} is not a config of this library ({error!r}); save the weights again") from error
    if version != FORMAT_VERSION:
        raise WeightsError(
            f"{file} has format version {version!r}, and this release reads {FORMAT_VERSION}; "
            "upgrade: pip install -U idaa_transforms"
        )
    if name not in AUTOENCODERS:
        raise WeightsError(f"{file} names the autoencoder {name!r}; this release has {sorted(AUTOENCODERS)}")
    return config


def read_weights(file: Path, expected: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of ``file``, floats as float32, after a look at whether they are the ``expected`` ones."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(file)
    except SafetensorError as error:
        raise WeightsError(
            f"{file} is truncated, damaged or not safetensors at all ({error}); download or save it again"
        ) from error
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or extra:
        raise WeightsError(
            f"{file} does not fit its config: missing {missing or 'nothing'}, not known {extra or 'nothing'}"
        )
    for key, value in state.items():
        if value.shape != expected[key].shape:
            raise WeightsError(
                f"{file} does not fit its config: {key} has shape {tuple(value.shape)} instead of "
                f"{tuple(expected[key].shape)}"
            )
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def check_hash(file: Path, *expected: str | None) -> None:
    """Raise unless ``file`` has each sha256 of ``expected`` that is not None."""
    wanted = {digest for digest in expected if digest is not None}
    found = _sha256(file) if wanted else ""
    for digest in wanted - {found}:
        raise WeightsError(
            f"{file} has sha256 {found[:12]}..., not {digest[:12]}... as it should: it is damaged or not what was "
            "saved; download it again, or reinstall the package"
        )


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
