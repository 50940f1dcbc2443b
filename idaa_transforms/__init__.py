"""Identity-disentangled adversarial augmentation for self-supervised learning, as batch transforms.

aug = IDAATransform.from_pretrained("cifar10-vae")
views = aug(x, loss_fn=nce)
"""

from ._version import __version__
from .core.attack import Explanation
from .core.checks import ClosureError, ZeroGradientWarning
from .core.shield import ClosureMutationWarning, untouched
from .schedule import EpsSchedule
from .transform import CLAETransform, IDAATransform

__all__ = [
    "CLAETransform",
    "ClosureError",
    "ClosureMutationWarning",
    "EpsSchedule",
    "Explanation",
    "IDAATransform",
    "ZeroGradientWarning",
    "__version__",
    "untouched",
]
