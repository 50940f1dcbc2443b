"""A folder of weights: ``config.json``, ``model.safetensors`` and a model card, ``README.md``.

The config holds a format version, class and arguments of the autoencoder, and settings of the transform. Nothing in it
is executed, and nothing is unpickled. A folder of diffusers' has its own two files; our settings are in a third,
``idaa.json``.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import reprlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._util.files import write_json, write_whole

FORMAT_VERSION = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"
SETTINGS = "idaa.json"
"""Settings of the transform beside the config of another library."""
PIPELINE = "model_index.json"
AUTOENCODERS = ("ConvVAE",)

if TYPE_CHECKING:  # imported where it is used: `idaa list` needs no torch
    import torch

    from ..autoencoders import ConvVAE


class WeightsError(OSError):
    """Weights that cannot be found or read, or are not what they should be."""


def save(
    autoencoder: ConvVAE, folder: str | os.PathLike[str], settings: dict[str, Any], dtype: torch.dtype | None = None
) -> Path:
    """Write ``autoencoder`` and the transform's ``settings`` to ``folder``, weights as ``dtype`` if one is given.

    Raises:
        TypeError: it is no :class:`.ConvVAE`.
        ValueError: ``folder`` is empty text.
    """
    from safetensors.torch import save as serialise

    if type(autoencoder).__name__ not in AUTOENCODERS:
        raise TypeError(f"only {sorted(AUTOENCODERS)} can be saved, not a {type(autoencoder).__name__}")
    if not os.fspath(folder):
        raise ValueError("the folder to save to is empty text; use '.' for the working folder")
    folder = Path(folder).expanduser()
    state = {
        key: (value.to(dtype) if dtype and value.is_floating_point() else value).contiguous()
        for key, value in autoencoder.state_dict().items()
    }
    content = serialise(state, metadata={"format": "pt"})
    config = {
        "format_version": FORMAT_VERSION,
        "library_name": "idaa_transforms",
        "weights_sha256": hashlib.sha256(content).hexdigest(),
        "autoencoder": {"class": type(autoencoder).__name__, **autoencoder.config},
        "transform": settings,
    }
    write_whole(folder / WEIGHTS, content)
    write_json(folder / CONFIG, config)
    return folder


def recommend(folder: Path, settings: dict[str, Any], reason: dict[str, Any]) -> None:
    """Make ``settings`` of the transform those of ``folder``, with the ``reason``, which nothing reads.

    What images are normalised by is the folder's own: it was measured on images in [0, 1], with the same views.
    """
    config = read_config(folder / CONFIG)
    kept = read_settings(folder, config)
    settings = {name: kept[name] for name in ("mean", "std") if name in kept} | settings
    new = {"transform": settings, "calibration": reason}
    if "_class_name" in config:
        write_json(folder / SETTINGS, {"format_version": FORMAT_VERSION, **new})
    else:
        write_json(folder / CONFIG, config | new)


def read_json(file: Path) -> dict[str, Any]:
    """The object in ``file``."""
    try:
        content = json.loads(file.read_text("utf-8"), parse_float=_finite, parse_constant=_finite)
        if not isinstance(content, dict):
            raise ValueError(f"a {type(content).__name__} instead of an object")
    except FileNotFoundError as error:
        hint = pipeline_hint(file.parent)
        made = hint or "; a folder of weights is made by save_pretrained or train-vae"
        raise WeightsError(f"there is no {file}{made}") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{file} is not a config of this library ({error}); save the weights again") from error
    return content


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is no usable number")
    return value


def pipeline_hint(folder: Path) -> str:
    """What to say of a folder that holds a whole pipeline of diffusers; empty for any other."""
    try:
        parts = json.loads((folder / PIPELINE).read_text("utf-8"))
    except (OSError, ValueError):
        return ""
    name = next((name for name in ("vqvae", "movq") if name in parts), "vae")
    return f': this is a whole pipeline of diffusers; take its autoencoder: subfolder="{name}" (--subfolder {name})'


def read_config(file: Path) -> dict[str, Any]:
    """The config in ``file``; one of diffusers' (with a ``_class_name``) as it is."""
    config = read_json(file)
    if "_class_name" in config:
        return config
    try:
        version, name = config["format_version"], config["autoencoder"]["class"]
    except (KeyError, TypeError) as error:
        raise WeightsError(f"{file} is not a config of this library ({error!r}); save the weights again") from error
    if version != FORMAT_VERSION:
        raise WeightsError(
            f"{file} has format version {reprlib.repr(version)}, and this release reads {FORMAT_VERSION}; "
            "upgrade idaa_transforms"
        )
    if not isinstance(name, str) or name not in AUTOENCODERS:
        raise WeightsError(
            f"{file} names the autoencoder {reprlib.repr(name)}; this release has {sorted(AUTOENCODERS)}"
        )
    digest = config.get("weights_sha256")
    if not isinstance(digest, str | None):
        raise WeightsError(f"{file} has {reprlib.repr(digest)} as weights_sha256; save the weights again")
    return config


def read_settings(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Settings of the transform in ``folder`` with its ``config``."""
    from .._core.settings import check_settings

    file = folder / (SETTINGS if "_class_name" in config else CONFIG)
    if file.name == SETTINGS:
        config = read_json(file) if file.is_file() else {}
    settings = config.get("transform", {})
    if not isinstance(settings, dict):
        raise WeightsError(f"{file} has {reprlib.repr(settings)} under 'transform', not settings by name; remove it")
    try:
        return check_settings(settings)
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{file} has settings that cannot be used: {str(error)[:300]}") from error


def build(config: dict[str, Any], file: Path) -> torch.nn.Module:
    """The network that ``config``, which was read from ``file``, describes, without weights yet."""
    import torch

    from .. import autoencoders

    arguments = dict(config["autoencoder"])
    kind = getattr(autoencoders, arguments.pop("class"))  # one of AUTOENCODERS
    try:
        with torch.device("meta"):  # no memory and no random numbers for weights that are read next
            return kind(**arguments)
    except Exception as error:  # whatever numbers and types somebody may have written there
        reason = str(error).partition("\n")[0][:300]
        raise WeightsError(f"{file} does not describe a {kind.__name__}: {reason}") from error


def fill(module: torch.nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Make the tensors of ``state`` the parameters, frozen, and the buffers of ``module``.

    They are written where torch keeps them, since accelerate's ``init_empty_weights`` empties what is registered.
    """
    import torch

    for key, value in state.items():
        prefix, _, name = key.rpartition(".")
        part = module.get_submodule(prefix)
        if name in part._parameters:
            part._parameters[name] = torch.nn.Parameter(value, requires_grad=False)
        else:
            part._buffers[name] = value


def read_weights(file: Path, expected: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of ``file``, floats as float32, if they have the names, shapes and kinds of ``expected``."""
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
        raise WeightsError(f"{file} does not fit its config: missing {_some(missing)}, not known {_some(extra)}")
    for key, value in state.items():
        like = expected[key]
        if value.shape != like.shape or value.is_floating_point() != like.is_floating_point():
            raise WeightsError(
                f"{file} does not fit its config: {key} has shape {tuple(value.shape)} and type {value.dtype} instead "
                f"of {tuple(like.shape)} and {like.dtype}"
            )
    return {key: value.float() if value.is_floating_point() else value for key, value in state.items()}


def _some(keys: list[str]) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"{[key[:60] for key in keys[:3]]}{more}" if keys else "nothing"


def check_hash(file: Path, *expected: str | None) -> None:
    """Raise unless ``file`` has each sha256 of ``expected`` that is not None."""
    wanted = {digest for digest in expected if digest is not None}
    with file.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest() if wanted else ""
    for digest in wanted - {found}:
        raise WeightsError(
            f"{file} has sha256 {found[:12]}..., not {digest[:12]}... as it should: it is damaged or not what was "
            "saved; download it again, or reinstall the package"
        )
