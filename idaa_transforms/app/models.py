"""The weights and networks that the app offers, each loaded once and shared by all visitors."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch

from .. import hub
from ..measure.classifiers import CLASSIFIERS
from ..measure.models import ModelError, load_model, one_line

NETWORKS = tuple(CLASSIFIERS)


def weights_here() -> list[str]:
    """Names of this release whose weights are in this installation."""
    return [row["name"] for row in hub.list_pretrained() if "megabytes" in row]


class Models:
    """What is offered, and nothing else: who visits a page does not load files or download by typing a name.

    Args:
        weights: names, folders and repositories, as :meth:`IDAATransform.from_pretrained` takes them.
        networks: as :func:`~idaa_transforms.measure.load_model` takes them, beside the package's own. One of timm's is
            used with its pretrained weights where they are on this machine, and else untrained.

    Attributes:
        lock: held while they compute; an attack changes modes and hooks of a network for a moment.
    """

    def __init__(self, weights: Sequence[str] = (), networks: Sequence[str] = ()) -> None:
        self.names = tuple(dict.fromkeys(weights or weights_here()))
        self.networks = tuple(dict.fromkeys((*networks, *NETWORKS)))
        self.lock = threading.RLock()
        self._loaded: dict[tuple[str, str], Any] = {}

    def load(self) -> None:
        """Load everything now, so that mistakes are told at once and nobody waits later."""
        for name in self.names:
            self.weights(name)
        for name in self.networks:
            self.network(name)

    def weights(self, name: str) -> tuple[Any, dict[str, Any]]:
        """Autoencoder and saved settings.

        Raises:
            ValueError: it is not offered, or not for colour pictures.
            WeightsError: it cannot be loaded.
        """
        if name not in self.names:
            raise ValueError(f"weights {name!r} are not offered here; there is {', '.join(self.names)}")
        return self._once("weights", name, _weights)

    def network(self, name: str) -> Any:
        """The network, frozen.

        Raises:
            ValueError: it is not offered, or cannot be built.
        """
        if name not in self.networks:
            raise ValueError(f"the network {name!r} is not offered here; there is {', '.join(self.networks)}")
        return self._once("network", name, _network)

    def is_trained(self, name: str) -> bool:
        """Whether a network of timm's came with weights; of others it is not for us to say."""
        return not _is_timm(name) or is_pretrained(name)

    def classes(self, name: str, count: int) -> Sequence[str]:
        """Names of the ``count`` classes of a network: its attribute ``classes``, ImageNet's, or numbers."""
        own = getattr(self.network(name), "classes", None)
        if own is not None and len(own) == count:
            return [str(each) for each in own]
        if count == 1000 and _is_timm(name):
            from timm.data import ImageNetInfo

            return [text.partition(",")[0] for text in ImageNetInfo().label_descriptions()]
        return [f"class {i}" for i in range(count)]

    def _once(self, kind: str, name: str, make: Any) -> Any:
        with self.lock:
            if (kind, name) not in self._loaded:
                self._loaded[kind, name] = make(name)
            return self._loaded[kind, name]


def _weights(name: str) -> tuple[Any, dict[str, Any]]:
    autoencoder, saved = hub.load(name)
    if len(getattr(autoencoder, "image_size", None) or (0, 0)) == 1 or len(autoencoder.mean) != 3:
        raise ValueError(f"the app shows pictures in colour, and {name!r} takes something else; leave it out")
    return autoencoder, saved


def _network(name: str) -> Any:
    try:
        with torch.random.fork_rng():
            if not _is_timm(name):
                return load_model(name, logits=True)
            torch.manual_seed(0)
            return load_model(name, logits=True, pretrained=is_pretrained(name))
    except (ModelError, ImportError, OSError):
        raise
    except Exception as error:  # whatever code of the user's may raise
        raise ModelError(f"{name} cannot be built by calling it without arguments ({one_line(error)})") from error


def _is_timm(name: str) -> bool:
    return ":" not in name and name not in CLASSIFIERS


def is_pretrained(name: str) -> bool:
    """Whether pretrained weights of timm's ``name`` are in the cache of the Hugging Face Hub on this machine."""
    from huggingface_hub import try_to_load_from_cache
    from timm.models import get_pretrained_cfg

    about = get_pretrained_cfg(name)
    if about is None or not about.hf_hub_id:
        return False
    files = ("model.safetensors", "pytorch_model.bin")
    return any(isinstance(try_to_load_from_cache(about.hf_hub_id, file), str) for file in files)
