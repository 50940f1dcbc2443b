"""Autoencoders of the diffusers library, from the Hub or built by you. Needs the extra ``diffusers``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .._util.extras import require
from .plausible import explained_variance

CLASSES = ("AutoencoderKL", "AsymmetricAutoencoderKL", "AutoencoderTiny", "AutoencoderDC", "VQModel")
WEIGHTS = "diffusion_pytorch_model.safetensors"
FORMS = (
    (WEIGHTS, None),
    (f"{WEIGHTS}.index.json", None),
    ("diffusion_pytorch_model.fp16.safetensors", "fp16"),
    (f"{WEIGHTS}.index.fp16.json", "fp16"),
)
"""Files that weights come in, whole or in shards, and the name of the variant, best first."""
PICKLED = ("diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.bin")


def pickled(name: str) -> str:
    """Why the file ``name`` is not read, and what to do."""
    return (
        f"has its weights as a pickle only ({name}), which can run code and is not read here; save them as "
        "safetensors: diffusers' from_pretrained, then save_pretrained"
    )


class DiffusersAutoencoder(nn.Module):
    """One of diffusers' autoencoders (:data:`CLASSES`) for the transforms.

    Images are in [-1, 1] inside, of any size: height and width are padded to the factor and cropped back. The unit of
    eps is 1 / scaling_factor, the standard deviation of the latent as the model's config states it. It computes in its
    own dtype. For big decoders use the transform's ``chunk_size``, or ``model.enable_gradient_checkpointing()``.

    These autoencoders reconstruct almost perfectly, so R(x) is near 0 and what identifies the sample is in G(x), which
    is what moves: keep eps small.
    """

    mean, std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    channels = 3

    def __init__(self, model: Any) -> None:
        super().__init__()
        name = type(model).__name__
        if name not in CLASSES:
            raise TypeError(f"{name} is not one of the tested autoencoders {CLASSES}; wrap it: autoencoders.Wrapped")
        self.model: Any = model
        config = model.config
        self.latent_scale = 1 / float(getattr(config, "scaling_factor", None) or 1.0)
        self.factor = _factor(name, config)
        self._decode_options = {"force_not_quantize": True} if name == "VQModel" else {}

    def encode(self, x: Tensor) -> Tensor:
        """Images in [-1, 1] (B, 3, H, W) to the latent (B, C, H / factor, W / factor), its mode where it is a
        distribution."""
        encoded: Any = self.model.encode(x)
        if hasattr(encoded, "latent_dist"):
            return encoded.latent_dist.mode()
        return encoded.latents if hasattr(encoded, "latents") else encoded.latent

    def decode(self, z: Tensor) -> Tensor:
        """The latent to images in about [-1, 1]."""
        return self.model.decode(z, **self._decode_options).sample


def _factor(name: str, config: Any) -> int:
    if name in ("AutoencoderDC", "AutoencoderTiny"):
        return 2 ** (len(config.encoder_block_out_channels) - 1)
    if name == "AsymmetricAutoencoderKL":
        return 2 ** (len(config.down_block_out_channels) - 1)
    return 2 ** (len(config.block_out_channels) - 1)


def shards(file: Path) -> list[str]:
    """The files that an index of FORMS names; none for weights that are one file."""
    if file.suffix != ".json":
        return []
    try:
        names = set(json.loads(file.read_text("utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{file} is not an index of shards ({error!r}); download it again") from error
    if foreign := sorted(str(name) for name in names if Path(str(name)).name != name or ".safetensors" not in name):
        raise ValueError(f"{file} names {foreign[0]!r}, which is no file of safetensors beside it")
    return sorted(names)


def stored(folder: Path) -> tuple[list[str], str | None]:
    """The files of weights in ``folder``, and which variant they are.

    Raises:
        ValueError: there are none that can be read here.
    """
    for name, variant in FORMS:
        if (folder / name).is_file():
            names = [name, *shards(folder / name)]
            if missing := [n for n in names if not (folder / n).is_file()]:
                raise ValueError(f"{folder} has no {missing[0]}, which {name} names; download it again")
            return names, variant
    if name := next((name for name in PICKLED if (folder / name).is_file()), ""):
        raise ValueError(f"{folder} {pickled(name)}")
    raise ValueError(f"{folder} has none of {', '.join(name for name, _ in FORMS)}")


def load_diffusers(folder: Path, name: str) -> DiffusersAutoencoder:
    """The autoencoder of class ``name`` in ``folder``, with every weight found and a reconstruction that makes sense.

    Raises:
        ImportError: without diffusers.
        ValueError: for another class, weights that do not fit, and reconstructions that do not.
    """
    if name not in CLASSES:
        raise ValueError(f"the config names the class {name!r}; of diffusers this release loads {CLASSES}")
    require("diffusers", "diffusers")
    import diffusers

    names, variant = stored(folder)
    model, info = getattr(diffusers, name).from_pretrained(
        folder,
        variant=variant,
        torch_dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        low_cpu_mem_usage=False,
        output_loading_info=True,
    )
    wrong = {kind: keys for kind, keys in info.items() if keys}
    if wrong:
        raise ValueError(f"{folder / names[0]} does not fit its config: {wrong}")
    autoencoder = DiffusersAutoencoder(model)
    explained = explained_variance(autoencoder)
    if not explained > 0.5:
        raise ValueError(
            f"{name} explains {explained:.2f} of the variance of natural images where a working one explains more than "
            "0.5: its weights are untrained, or its images are not RGB in [-1, 1]"
        )
    return autoencoder
