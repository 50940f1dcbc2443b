"""IDAA and CLAE as kornia augmentations: with p, replay, data keys and containers. Needs the extra ``kornia``."""

from __future__ import annotations

import os
from typing import Any, Self

import torch
from torch import Tensor

from .core.attack import Attack
from .core.binding import Bindable
from .core.functional import Loss
from .transform import CLAETransform, IDAATransform
from .util.extras import require

require("kornia", "kornia")
import kornia  # noqa: E402
from kornia.augmentation import IntensityAugmentationBase2D  # noqa: E402

if tuple(int(part) for part in kornia.__version__.split(".")[:2]) < (0, 9):
    raise ImportError(
        f"kornia {kornia.__version__} hands augmentations a part of the batch; 0.9 or newer is needed: "
        "pip install -U 'kornia>=0.9'"
    )

CHANGE = "change"  # in the params of a call: views - images, zero on the rows that were skipped


class _RandomAttack(Bindable, IntensityAugmentationBase2D):
    """What both augmentations share. The closure sees the whole batch; only the rows that ``p`` selects are attacked.

    The change that the attack found goes into the params of the call. A replay, ``aug(x, params=aug._params)``, adds
    it again, bit for bit, and needs neither closure nor autoencoder.
    """

    def __init__(self, attack: Attack, p: float, same_on_batch: bool, keepdim: bool) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, p_batch=1.0, keepdim=keepdim)
        if attack.p != 1.0:
            raise ValueError(f"p={attack.p} was given to the transform within; give it to {type(self).__name__}")
        self.attack = attack

    def compile(self, **options: Any) -> None:
        """As :meth:`~idaa_transforms.core.attack.Attack.compile`."""
        self.attack.compile(**options)

    def forward(
        self,
        input: Tensor,
        params: dict[str, Tensor] | None = None,
        loss_fn: Loss | None = None,
        grad: Tensor | None = None,
        eps: float | Tensor | None = None,
        generator: torch.Generator | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Views of ``input``.

        Args:
            input: (B, C, H, W) or (C, H, W) float.
            params: of an earlier call, to replay it.
            loss_fn, grad, eps, generator: as in :class:`~idaa_transforms.IDAATransform`. The rows are chosen by
                kornia, from the global random numbers.
            kwargs: kornia's.
        """
        x = self.transform_tensor(input)
        if params is None:
            params = self.forward_parameters(x.shape)
        if CHANGE not in params:
            source = self._given_or_bound(loss_fn, grad)
            rows = (params["batch_prob"] > 0.5).nonzero().flatten()
            rows = None if len(rows) == len(x) else rows
            grad = self.transform_tensor(grad) if grad is not None else None
            params[CHANGE] = self.attack.views(x, source, grad, eps, generator, rows) - x.detach()
        elif params[CHANGE].shape != x.shape:
            raise ValueError(
                f"params are of a batch of shape {tuple(params[CHANGE].shape)} and cannot be replayed on one of shape "
                f"{tuple(x.shape)}; leave params out for a new attack"
            )
        return super().forward(input, params=params, **kwargs)

    def apply_transform(
        self, input: Tensor, params: dict[str, Tensor], flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """The images plus the change."""
        view = input + params[CHANGE].to(input)
        return view if self.attack.clip is None else view.clamp(*self.attack.clip)

    def explain(self, *args: Any, **kwargs: Any) -> Any:
        """As :meth:`~idaa_transforms.core.attack.Attack.explain`."""
        return self.attack.explain(*args, **kwargs)

    def stats(self) -> dict[str, int]:
        """As :meth:`~idaa_transforms.core.attack.Attack.stats`."""
        return self.attack.stats()

    def __repr__(self) -> str:
        inside = repr(self.attack).partition("(")[2]
        return f"{type(self).__name__}({inside[:-1]}, p={self.p}, same_on_batch={self.same_on_batch})"


class RandomIDAA(_RandomAttack):
    """Identity-disentangled adversarial augmentation as a kornia augmentation.

    Args:
        autoencoder: as of :class:`~idaa_transforms.IDAATransform`; by name with :meth:`from_pretrained`.
        eps: how far delta may go, in units of the latent's scale.
        p: probability of a view, image by image.
        same_on_batch: all images or none.
        keepdim: (C, H, W) in, (C, H, W) out.
        parameters: the others of :class:`~idaa_transforms.IDAATransform`.

    Shape:
        (B, C, H, W) or (C, H, W) float to (B, C, H, W). Masks, boxes and keypoints pass.

    Example:
        >>> aug = AugmentationSequential(RandomHorizontalFlip(), RandomIDAA.from_pretrained("cifar10-vae", p=0.5))
        >>> with aug[1].bound(nce):
        ...     views = aug(x)
    """

    def __init__(
        self,
        autoencoder: Any,
        eps: float = 0.1,
        p: float = 0.5,
        same_on_batch: bool = False,
        keepdim: bool = False,
        **parameters: Any,
    ) -> None:
        super().__init__(IDAATransform(autoencoder, eps, **parameters), p, same_on_batch, keepdim)

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        eps: float | None = None,
        p: float = 0.5,
        same_on_batch: bool = False,
        keepdim: bool = False,
        **parameters: Any,
    ) -> Self:
        """As :meth:`IDAATransform.from_pretrained <idaa_transforms.IDAATransform.from_pretrained>`."""
        transform = IDAATransform.from_pretrained(name, eps, **parameters, p=1.0)
        made = cls(transform.autoencoder, transform.eps, p, same_on_batch, keepdim)
        made.attack = transform
        return made


class RandomCLAE(_RandomAttack):
    """The baseline CLAE (Ho and Vasconcelos, NeurIPS 2020): the same step in pixels. ``eps`` is in the units of x."""

    def __init__(
        self, eps: float = 0.03, p: float = 0.5, same_on_batch: bool = False, keepdim: bool = False, **parameters: Any
    ) -> None:
        super().__init__(CLAETransform(eps, **parameters), p, same_on_batch, keepdim)
