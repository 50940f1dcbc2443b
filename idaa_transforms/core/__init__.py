"""The method, and one attack with the user's model kept as it was. Knows tensors, autoencoders and closures only."""

from .functional import Views, idaa

__all__ = ["Views", "idaa"]
