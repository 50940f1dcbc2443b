"""Read the authors' checkpoints into :class:`.ConvVAE`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from .conv import CIFAR_STATISTICS, IMAGENET_STATISTICS, ConvVAE, authors_beta

_NAMES = {
    "encoder": "encoder",
    "decoder": "decoder",
    "fc11": "to_mean",
    "fc12": "to_log_variance",
    "fc21": "from_latent",
}


def load_authors_checkpoint(file: Path, beta: float | None = None) -> ConvVAE:
    """The network in ``file``, a state dict that the authors' train_vae saved (``model_epochN.pth``).

    Their layers come in the same order as ours, so tensors are matched by place, and each by its shape. Image size,
    latent size and width are read off the shapes. Nothing but tensors is unpickled.

    Args:
        file: keys encoder.N..., decoder.N..., bn, fc11, fc12, fc21; a ``module.`` before them does not matter.
        beta: what it was trained with, if known; default: the authors' kl = 0.1.

    Raises:
        ValueError: with what does not fit.
    """
    try:
        saved = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{file} is not a state dict of tensors: {error}") from error
    saved = saved.get("state_dict", saved) if isinstance(saved, dict) else saved
    if not isinstance(saved, dict) or not all(isinstance(value, Tensor) for value in saved.values()):
        raise ValueError(f"{file} holds a {type(saved).__name__}, not a state dict of tensors")
    saved = {key.removeprefix("module."): value for key, value in saved.items()}
    parts = {name: _part(saved, name) for name in (*_NAMES, "bn")}
    if missing := [name for name, part in parts.items() if not part]:
        raise ValueError(f"{file} has no tensors {missing}; its keys begin with {_prefixes(saved)}")

    latent_dim, features = saved["fc11.weight"].shape
    first, *_, last = (value for value in parts["encoder"].values() if value.ndim == 4)
    width = last.shape[0]
    depth = sum(value.ndim == 4 and value.shape[2] == 4 for value in parts["encoder"].values())
    side = round((features / width) ** 0.5)
    size = {(3, 10): 84}.get((depth, side), side * 2**depth)  # 84 is halved to 10
    mean, std = CIFAR_STATISTICS if size == 32 else IMAGENET_STATISTICS
    beta = authors_beta((size, size), latent_dim) if beta is None else beta
    vae = ConvVAE(size, latent_dim, channels=first.shape[1], width=width, depth=depth, mean=mean, std=std, beta=beta)

    ours = vae.state_dict()
    output_norm = _part(ours, f"decoder.{len(vae.decoder) - 1}")  # they keep it apart
    for theirs, name in _NAMES.items():
        _copy(parts[theirs], {k: v for k, v in _part(ours, name).items() if k not in output_norm}, file)
    _copy(parts["bn"], output_norm, file)
    return vae.eval()


def _part(saved: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: value for key, value in saved.items() if key.startswith(f"{name}.")}


def _prefixes(keys: Iterable[str]) -> list[str]:
    return sorted({key.split(".")[0] for key in keys})[:8]


def _copy(theirs: dict[str, Tensor], ours: dict[str, Tensor], file: Path) -> None:
    """Copy tensors in order."""
    for (their_key, value), (our_key, place) in zip(theirs.items(), ours.items(), strict=False):
        if value.shape != place.shape:
            raise ValueError(
                f"{file} is not one of the authors' networks: {their_key} has shape {tuple(value.shape)} where "
                f"{our_key} has {tuple(place.shape)}"
            )
        place.copy_(value)
    if len(theirs) != len(ours):
        raise ValueError(
            f"{file} has {len(theirs)} tensors where the authors' network has {len(ours)}: {list(theirs)[-1]}"
        )
