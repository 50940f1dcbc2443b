"""IDAA, and CLAE, the same in pixel space, as torchvision v2 transforms of whole batches."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self, Unpack

import torch
from PIL.Image import Image as PILImage
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten
from torchvision import tv_tensors
from torchvision.transforms import v2

from .autoencoders.protocol import Autoencoder, PixelSpace
from .core.attack import Attack
from .core.functional import Loss
from .core.settings import Options


class AdversarialTransform(Attack, v2.Transform):
    """An :class:`~idaa_transforms.core.attack.Attack` as a torchvision v2 transform.

    Call it as ``aug(x, loss_fn=nce)`` or, with a gradient at hand, ``aug(x, grad=x.grad)``. In a container, which
    passes nothing but images, use :meth:`bound` or :meth:`bind`.
    """

    # torchvision asks to override transform, not forward. But transform sees one leaf at a time, and neither loss_fn=
    # nor the other images; v2's own MixUp and CutMix override forward for the like reason.

    def forward(
        self,
        *inputs: Any,
        loss_fn: Loss | Sequence[Loss] | None = None,
        grad: Tensor | Sequence[Tensor] | None = None,
        eps: float | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Any:
        """Hard views of the images in ``inputs``, in the same structure.

        Args:
            inputs: float images (B, C, H, W), alone or anywhere in tuples, lists and dicts. As in torchvision, every
                ``tv_tensors.Image`` and ``Video`` (B, T, C, H, W) is transformed or, if there is none, the first plain
                tensor; all else passes, and so does a call without any.
            loss_fn: ``loss_fn(views)`` of shape () or (B,), maximised; (B,) is summed, so that an image's direction
                does not depend on the batch size. It sees the whole batch. A list has one for each batch of images
                in ``inputs``, in their order; one alone serves them all.
            grad: instead of ``loss_fn``, the gradient of any loss with respect to x, or a list as above. No pass
                through a model then.
            eps: instead of the transform's own, a float or one for each image, (B,).
            generator: of the random start, and of the choice of images where p < 1.

        Returns:
            Views with the shape, dtype, device and memory format of x, detached. x is never written to.

        Raises:
            TypeError, ValueError: for images, eps or gradients of the wrong kind.
            ClosureError: for a closure that gives no direction. A gradient of zero is a ``ZeroGradientWarning``, once.
        """
        flat, spec = tree_flatten(inputs if len(inputs) > 1 else inputs[0])
        images = [i for i, leaf in enumerate(flat) if isinstance(leaf, tv_tensors.Image | tv_tensors.Video | PILImage)]
        images = images or [i for i, leaf in enumerate(flat) if _is_plain(leaf)][:1]
        loss_fn = self.closure(loss_fn, grad)
        losses, grads = _one_each("loss_fn", loss_fn, len(images)), _one_each("grad", grad, len(images))
        for i, own_loss, own_grad in zip(images, losses, grads, strict=True):
            like = flat[i]
            views = self.views(self.resolve(_plain(like), own_loss, own_grad, eps, generator, p=self.settings.p))
            flat[i] = tv_tensors.wrap(views, like=like) if isinstance(like, tv_tensors.TVTensor) else views
        return tree_unflatten(flat, spec)


class IDAATransform(AdversarialTransform):
    """Identity-disentangled adversarial augmentation (Yang et al., ICML 2022): x' = x - D(E(x)) + D(E(x) + delta).

    Takes the arguments of :class:`~idaa_transforms.core.attack.Attack`; ``eps`` defaults to the paper's 0.1 (SimCLR on
    CIFAR-10, z = 512) and, with pretrained weights, to what their config recommends.

    Use the view as a third one, beside two random ones. Where no random augmentation is known that fits the data, try
    first what costs nothing, such as random quantization, and then a larger eps (measured in ``docs/board.md``).

    Shape:
        (B, C, H, W) float in [0, 1], or normalised as ``mean`` and ``std`` say, of any size, to the same. Where the
        autoencoder takes signals, (B, C, L) of any length, in the units it was trained on.

    Example:
        >>> aug = IDAATransform.from_pretrained("cifar10-vae", p=0.5)
        >>> views = aug(x, loss_fn=lambda v: nt_xent(model(v), anchor))
    """

    name: str | None = None

    def __init__(self, autoencoder: Autoencoder, eps: float = 0.1, **options: Unpack[Options]) -> None:
        super().__init__(autoencoder, eps, **options)

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        eps: float | None = None,
        *,
        revision: str | None = None,
        subfolder: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        **options: Unpack[Options],
    ) -> Self:
        """A transform on pretrained weights.

        Args:
            name: a name this package ships (see ``idaa_transforms.hub.PRETRAINED``; no network needed), a local
                folder, or ``org/repository`` on the Hugging Face Hub.
            eps: default: what the weights' config recommends.
            revision: branch, tag or commit on the Hub.
            subfolder: of the folder or repository.
            cache_dir, token, local_files_only: as in ``huggingface_hub``.
            options: settings of the transform, before those that were saved with the weights.

        Raises:
            WeightsError: for a name that does not resolve, and weights that are missing, damaged or foreign.
        """
        from . import hub

        autoencoder, saved = hub.load(
            name,
            revision=revision,
            subfolder=subfolder,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
        )
        chosen: dict[str, Any] = saved | options | ({} if eps is None else {"eps": eps})
        transform = cls(autoencoder, **chosen)
        transform.name = os.fspath(name)
        return transform

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write weights and settings as a folder that :meth:`from_pretrained` reads, here or from the Hub."""
        from . import hub

        hub.save(self.autoencoder, folder, self.settings.saved())

    def push_to_hub(self, repository: str, *, private: bool = False, token: str | None = None) -> str:
        """Upload weights and settings to ``org/name`` on the Hugging Face Hub; returns the commit's address."""
        from tempfile import TemporaryDirectory

        from . import hub

        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return hub.push(folder, repository, private=private, token=token)

    def __repr__(self) -> str:
        source = repr(self.name) if self.name else type(self.autoencoder).__name__
        return super().__repr__().replace("(", f"({source}, ", 1)


class CLAETransform(AdversarialTransform):
    """The baseline CLAE (Ho and Vasconcelos, NeurIPS 2020): the same step, in the pixels: x' = x + delta.

    ``eps`` is in pixels of [0, 1], also where x is normalised by ``mean`` and ``std``. The default is the IDAA paper's:
    0.03 on normalised pixels.

    Args:
        signals: take signals (B, C, L) instead of images. ``eps`` is in their own units then, or in those before
            ``mean`` and ``std``.

    Shape:
        (B, C, H, W) or, of signals, (B, C, L) float to the same.
    """

    def __init__(self, eps: float = 0.006, *, signals: bool = False, **options: Unpack[Options]) -> None:
        super().__init__(PixelSpace(1 if signals else 2), eps, **options)


def _one_each(name: str, value: Any, count: int) -> Sequence[Any]:
    """``value`` for each of ``count`` batches of images: the items of a list, or the same closure again."""
    if not isinstance(value, list | tuple):
        if isinstance(value, Tensor) and count > 1:
            raise ValueError(f"one {name} was given for {count} batches of images; pass a list with one for each")
        return [value] * count
    if len(value) != count:
        raise ValueError(f"{len(value)} {name}s were given for {count} batches of images; pass one for each")
    return value


def _is_plain(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and not isinstance(leaf, tv_tensors.TVTensor)


def _plain(image: Any) -> Any:
    return image.as_subclass(Tensor) if isinstance(image, Tensor) else image
