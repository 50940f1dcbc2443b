"""Autoencoders: the protocol, the paper's VAEs, and a wrapper for anyone's."""

from .conv import ConvVAE, Posterior
from .protocol import Autoencoder, PixelSpace
from .wrap import Wrapped

__all__ = ["Autoencoder", "ConvVAE", "PixelSpace", "Posterior", "Wrapped"]
