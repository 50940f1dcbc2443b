"""Identity-disentangled adversarial augmentation for self-supervised learning, as batch transforms::

aug = IDAATransform.from_pretrained("cifar10-vae")
views = aug(x, loss_fn=nce)

Names are imported when they are first used, so that ``import idaa_transforms`` and the ``idaa`` command start at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ._version import __version__

if TYPE_CHECKING:
    from . import autoencoders as autoencoders
    from . import batchnorm as batchnorm
    from . import hub as hub
    from . import kornia as kornia
    from . import lightning as lightning
    from . import losses as losses
    from . import measure as measure
    from . import objectives as objectives
    from . import pipelines as pipelines
    from . import replay as replay
    from . import training as training
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

_HOMES = {
    ".core.attack": ("Explanation",),
    ".core.direction": ("ClosureError", "ZeroGradientWarning"),
    ".core.guard": ("Guard",),
    ".core.settings": ("Settings",),
    ".core.shield": ("ClosureMutationWarning", "untouched"),
    ".schedule": ("EpsSchedule",),
    ".transform": ("CLAETransform", "IDAATransform"),
}
_MODULES = (
    *("autoencoders", "batchnorm", "hub", "kornia", "lightning", "losses"),
    *("measure", "objectives", "pipelines", "replay", "training"),
)

if not TYPE_CHECKING:  # a type checker would take every name for one of ours

    def __getattr__(name):
        if name in _MODULES:
            return import_module(f".{name}", __name__)
        home = next((module for module, names in _HOMES.items() if name in names), None)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value = getattr(import_module(home, __name__), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
