"""The weights and networks that the app offers. Loaded once and shared by all visitors."""

from __future__ import annotations

from collections.abc import Sequence

from .. import hub
from ..hub.registry import RECOMMENDED
from ..measure.classifiers import CLASSIFIERS
from ..measure.models import load_model


class Models:
    """What visitors may choose from.

    Args:
        weights: names, folders and repositories, as :meth:`IDAATransform.from_pretrained` takes them. Default: those of
            this release.
        networks: as :func:`~idaa_transforms.measure.load_model` takes them, beside the package's own.

    Attributes:
        weights: name to autoencoder and saved settings.
        networks: name to frozen network.

    Raises:
        ValueError, OSError, ImportError: something cannot be loaded, or is not for colour pictures.
    """

    def __init__(self, weights: Sequence[str] = (), networks: Sequence[str] = ()) -> None:
        names = weights or sorted(hub.PRETRAINED, key=lambda name: name != RECOMMENDED)
        self.weights = {name: hub.load(name) for name in names}
        self.networks = {name: load_model(name, logits=True) for name in dict.fromkeys((*networks, *CLASSIFIERS))}
        for name, (autoencoder, _) in self.weights.items():
            size = getattr(autoencoder, "image_size", None) or (0, 0)
            if len(size) != 2 or len(autoencoder.mean) != 3:
                raise ValueError(f"the app shows pictures in colour, and {name!r} takes something else; leave it out")

    def classes(self, name: str, count: int) -> Sequence[str]:
        """Names of the ``count`` classes of a network: its attribute ``classes``, ImageNet's, or numbers."""
        own = getattr(self.networks[name], "classes", ())
        if len(own) == count:
            return [str(each) for each in own]
        if count == 1000 and ":" not in name:  # one of timm's
            from timm.data import ImageNetInfo

            return [text.partition(",")[0] for text in ImageNetInfo().label_descriptions()]
        return [f"class {i}" for i in range(count)]
