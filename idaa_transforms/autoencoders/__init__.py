"""Autoencoders: the protocol, and the paper's VAEs."""

from .conv import ConvVAE, Posterior
from .protocol import Autoencoder, PixelSpace

__all__ = ["Autoencoder", "ConvVAE", "PixelSpace", "Posterior"]
