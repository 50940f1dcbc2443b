"""Identity-disentangled adversarial augmentation for self-supervised learning, as batch transforms::

aug = IDAATransform.from_pretrained("cifar10-vae")
views = aug(x, loss_fn=nce)
"""

from ._core.checks import ClosureError, ZeroGradientWarning
from ._version import __version__
from .guard import Guard
from .preserve import ClosureMutationWarning, preserve_state
from .transforms import CLAETransform, Explanation, IDAATransform

__all__ = [
    "CLAETransform",
    "ClosureError",
    "ClosureMutationWarning",
    "Explanation",
    "Guard",
    "IDAATransform",
    "ZeroGradientWarning",
    "__version__",
    "preserve_state",
]
