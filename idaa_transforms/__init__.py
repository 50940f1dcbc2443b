"""Identity-disentangled adversarial augmentation for self-supervised learning, as batch transforms::

aug = IDAATransform.from_pretrained("cifar10-vae")
views = aug(x, loss_fn=nce)
"""

from ._version import __version__
from .core.attack import Explanation
from .core.direction import ClosureError, ZeroGradientWarning
from .core.guard import Guard
from .core.settings import Settings
from .core.shield import ClosureMutationWarning, untouched
from .schedule import EpsSchedule
from .transform import CLAETransform, IDAATransform

__all__ = [
    "CLAETransform",
    "ClosureError",
    "ClosureMutationWarning",
    "EpsSchedule",
    "Explanation",
    "Guard",
    "IDAATransform",
    "Settings",
    "ZeroGradientWarning",
    "__version__",
    "untouched",
]
