"""Autoencoders of the diffusers library, from the Hub or built by you. Needs the extra ``diffusers``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..util.extras import require
from .plausible import explained_variance

CLASSES = ("AutoencoderKL", "AsymmetricAutoencoderKL", "AutoencoderTiny", "AutoencoderDC", "VQModel")
WEIGHTS = "diffusion_pytorch_model.safetensors"


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

    model, info = getattr(diffusers, name).from_pretrained(
        folder, use_safetensors=True, local_files_only=True, low_cpu_mem_usage=False, output_loading_info=True
    )
    wrong = {kind: keys for kind, keys in info.items() if keys}
    if wrong:
        raise ValueError(f"{folder / WEIGHTS} does not fit its config: {wrong}")
    autoencoder = DiffusersAutoencoder(model)
    explained = explained_variance(autoencoder)
    if not explained > 0.5:
        raise ValueError(
            f"{name} explains {explained:.2f} of the variance of natural images where a working one explains more than "
            "0.5: its weights are untrained, or its images are not RGB in [-1, 1]"
        )
    return autoencoder
