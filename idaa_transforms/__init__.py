"""Identity-disentangled adversarial augmentation for self-supervised learning, as batch transforms::

aug = IDAATransform.from_pretrained("cifar10-vae-small")
views = aug(x, loss_fn=nce)

Names are imported when they are first used, so that ``import idaa_transforms`` and the ``idaa`` command start at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from ._version import __version__

if TYPE_CHECKING:
    from . import autoencoders as autoencoders
    from . import batchnorm as batchnorm
    from . import functional as functional
    from . import hub as hub
    from . import kornia as kornia
    from . import lightning as lightning
    from . import losses as losses
    from . import measure as measure
    from . import objectives as objectives
    from . import random as random
    from . import sample as sample
    from . import training as training
    from ._core.checks import ClosureError, ZeroGradientWarning
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

_HOMES = {
    "._core.checks": ("ClosureError", "ZeroGradientWarning"),
    ".guard": ("Guard",),
    ".preserve": ("ClosureMutationWarning", "preserve_state"),
    ".transforms": ("CLAETransform", "Explanation", "IDAATransform"),
}
_MODULES = (
    *("autoencoders", "batchnorm", "functional", "hub", "kornia", "lightning", "losses"),
    *("measure", "objectives", "random", "sample", "training"),
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
