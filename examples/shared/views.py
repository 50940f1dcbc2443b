"""What stands beside two random views in examples/ssl, and the VAE that its adversarial ones come from."""

from typing import Literal, get_args

View = Literal["none", "third", "same-crop", "latent", "clae", "clae-grad", "idaa", "idaa-grad"]
VIEWS = get_args(View)
NATURAL = "natural-vae"
"""For photographs of any kind and size: images are resampled to what the VAE takes."""
WEIGHTS = {"cifar10": "cifar10-vae", "cifar100": "cifar10-vae", "tiny-imagenet": NATURAL}
"""The weights to use for a data set; `idaa train-vae` makes weights of its own images."""
