"""Identity-disentangled adversarial augmentation for self-supervised learning, as batch transforms.

aug = IDAATransform.from_pretrained("cifar10-vae")
views = aug(x, loss_fn=nce)
"""

from .attack import Explanation
from .checks import ClosureError, ZeroGradientWarning
from .closures import ClosureMutationWarning, untouched
from .schedule import EpsSchedule
from .transform import CLAETransform, IDAATransform

__version__ = "0.1.0"

__all__ = [
    "CLAETransform",
    "ClosureError",
    "ClosureMutationWarning",
    "EpsSchedule",
    "Explanation",
    "IDAATransform",
    "ZeroGradientWarning",
    "untouched",
]
