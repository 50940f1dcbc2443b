"""IDAA and CLAE as kornia augmentations: with p, replay, data keys and containers. Needs the extra ``kornia``."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from ._core.ascent import Norm
from ._core.binding import Bindable
from ._core.settings import EpsUnit
from ._util.extras import require
from .autoencoders.protocol import Autoencoder
from .functional import Loss, clamped
from .guard import Guard
from .transforms import AdversarialTransform, CLAETransform, Explanation, IDAATransform

require("kornia", "kornia")
import kornia  # noqa: E402
from kornia.augmentation import IntensityAugmentationBase2D  # noqa: E402

if tuple(int(part) for part in kornia.__version__.split(".")[:2]) < (0, 9):
    raise ImportError(
        f"kornia {kornia.__version__} hands augmentations a part of the batch; 0.9 or newer is needed: "
        "pip install -U 'kornia>=0.9'"
    )

CHANGE, IMAGES = "change", "change_of"  # in the params of a call, see _RandomAttack
NOW = "change_now"  # the one that apply_transform shall add, while forward runs


class _RandomAttack(Bindable, IntensityAugmentationBase2D):
    """What both augmentations share. The closure sees the whole batch; only the rows that ``p`` selects are attacked.

    The change that the attack found, views - images, zero on the rows that were skipped, goes into the params of the
    call, beside a checksum of the images. A replay, ``aug(x, params=aug._params)``, adds it again, bit for bit, and
    needs neither closure nor autoencoder. Further batches of the same call, ``data_keys=["input", "input"]``, get
    changes of their own, under numbered names.
    """

    _own: tuple[Loss, ...] = ()  # the closure of bind()

    def __init__(self, attack: AdversarialTransform, p: float, same_on_batch: bool, keepdim: bool) -> None:
        super().__init__(p=p, same_on_batch=same_on_batch, p_batch=1.0, keepdim=keepdim)
        self.attack = attack

    def bind(self, loss_fn: Loss) -> Self:
        """This augmentation with ``loss_fn`` for good: ``AugmentationSequential(aug.bind(nce))``."""
        made = copy.copy(self)
        made._own = (loss_fn,)
        return made

    def _closure(self) -> Loss | None:
        return self._own[0] if self._own else self._bound_loss()

    if TYPE_CHECKING:

        def to(self, *args: Any, **kwargs: Any) -> Self: ...
        def __call__(
            self,
            input: Tensor,
            params: dict[str, Tensor] | None = None,
            *,
            loss_fn: Loss | None = None,
            grad: Tensor | None = None,
            eps: float | Tensor | None = None,
            generator: torch.Generator | None = None,
            **kwargs: Any,
        ) -> Tensor: ...

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
            params: of an earlier call, to replay it; or fresh ones, of ``forward_parameters``.
            loss_fn, grad, eps, generator: as in :class:`~idaa_transforms.IDAATransform`. The rows are chosen by
                kornia, from the global random numbers.
            kwargs: kornia's.

        Raises:
            ValueError: for params that hold changes already, together with a loss_fn or grad.
        """
        x = self.transform_tensor(input)
        params = self.forward_parameters(x.shape) if params is None else params
        if CHANGE in params and (loss_fn is not None or grad is not None):
            raise ValueError(
                "params hold the change of an earlier call, and loss_fn or grad asks for a new one; leave params out "
                "to attack, or loss_fn and grad to replay"
            )
        grad = None if grad is None else self.transform_tensor(grad)
        loss_fn = self._closure() if loss_fn is None and grad is None else loss_fn
        params[NOW] = self._change(x, params, loss_fn, grad, eps, generator)
        try:
            return super().forward(input, params=params, **kwargs)
        finally:
            params.pop(NOW)

    def apply_transform(
        self, input: Tensor, params: dict[str, Tensor], flags: dict[str, Any], transform: Tensor | None = None
    ) -> Tensor:
        """The images plus the change."""
        change = params[NOW] if NOW in params else self._change(input, params, self._closure())
        return clamped(input + change.to(input), self.attack._limits)

    def _change(
        self,
        x: Tensor,
        params: dict[str, Tensor],
        loss_fn: Loss | None,
        grad: Tensor | None = None,
        eps: float | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The change of ``x`` in ``params``; made and put there if x is new and there is something to raise."""
        checksum, held = _checksum(x), sum(key.startswith(IMAGES) for key in params)
        mine = [i for i in range(held) if torch.equal(params[_numbered(IMAGES, i)], checksum)] if held else []
        if mine or (held == 1 and loss_fn is None):
            change = params[_numbered(CHANGE, mine[0] if mine else 0)]
            if change.shape != x.shape:
                raise ValueError(
                    f"params are of a batch of shape {tuple(change.shape)} and cannot be replayed on one of shape "
                    f"{tuple(x.shape)}; leave params out for a new attack"
                )
            return change
        if held and loss_fn is None:
            raise ValueError(f"params hold the changes of {held} batches, and none of these images; replay on the same")
        chosen = params.get("batch_prob", torch.ones(len(x), device=x.device)) > 0.5
        rows = chosen.nonzero().flatten()
        if len(rows) or loss_fn is not None or grad is not None:
            some = None if len(rows) == len(x) else rows
            change = self.attack._views(x, loss_fn, grad, eps, generator, some) - x.detach()
        else:
            change = torch.zeros_like(x)
        params[_numbered(IMAGES, held)], params[_numbered(CHANGE, held)] = checksum, change
        return change

    def compile(self, **options: Any) -> None:
        """As :meth:`IDAATransform.compile <idaa_transforms.IDAATransform.compile>`."""
        self.attack.compile(**options)

    def explain(
        self,
        x: Tensor,
        loss_fn: Loss | None = None,
        grad: Tensor | None = None,
        eps: float | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Explanation:
        """As :meth:`IDAATransform.explain <idaa_transforms.IDAATransform.explain>`."""
        loss_fn = self._closure() if loss_fn is None and grad is None else loss_fn
        return self.attack.explain(x, loss_fn, grad, eps, generator)

    def stats(self) -> dict[str, int]:
        """As :meth:`IDAATransform.stats <idaa_transforms.IDAATransform.stats>`."""
        return self.attack.stats()

    def __repr__(self) -> str:
        inside = repr(self.attack).partition("(")[2]
        bound = f".bind({getattr(self._own[0], '__name__', type(self._own[0]).__name__)})" if self._own else ""
        return f"{type(self).__name__}({inside[:-1]}, p={self.p}, same_on_batch={self.same_on_batch}){bound}"


def _checksum(x: Tensor) -> Tensor:
    """(B, 2): by these numbers a replay knows the images that a change was made for."""
    rows = x.detach().flatten(1).float()
    return torch.stack([rows.sum(1), rows.square().sum(1)], dim=1)


def _numbered(key: str, i: int) -> str:
    return f"{key}_{i + 1}" if i else key


class RandomIDAA(_RandomAttack):
    """Identity-disentangled adversarial augmentation as a kornia augmentation.

    Args:
        autoencoder: as of :class:`~idaa_transforms.IDAATransform`; by name with :meth:`from_pretrained`.
        eps: how far delta may go, in units of the latent's scale.
        p: probability of a view, image by image.
        same_on_batch: all images or none.
        keepdim: (C, H, W) in, (C, H, W) out.
        norm, steps, step_size, random_start, eps_unit, target_gain, clip, mean, std, chunk_size, guard: as of
            :class:`~idaa_transforms.IDAATransform`. Each is an attribute of ``.attack``.

    Shape:
        (B, C, H, W) or (C, H, W) float to (B, C, H, W). Masks, boxes and keypoints pass.

    Example:
        >>> aug = AugmentationSequential(RandomHorizontalFlip(), RandomIDAA.from_pretrained("cifar10-vae-small", p=0.5))
        >>> with aug[1].bound(nce):
        ...     views = aug(x)
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        eps: float | None = None,
        p: float = 0.5,
        same_on_batch: bool = False,
        keepdim: bool = False,
        *,
        norm: Norm = "linf",
        steps: int = 1,
        step_size: float | None = None,
        random_start: bool = False,
        eps_unit: EpsUnit = "latent",
        target_gain: float | None = None,
        clip: tuple[float, float] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        chunk_size: int | None = None,
        guard: Guard | None = None,
    ) -> None:
        transform = IDAATransform(
            autoencoder,
            eps,
            norm=norm,
            steps=steps,
            step_size=step_size,
            random_start=random_start,
            eps_unit=eps_unit,
            target_gain=target_gain,
            clip=clip,
            mean=mean,
            std=std,
            chunk_size=chunk_size,
            guard=guard,
        )
        super().__init__(transform, p, same_on_batch, keepdim)

    @classmethod
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        eps: float | None = None,
        p: float = 0.5,
        same_on_batch: bool = False,
        keepdim: bool = False,
        *,
        norm: Norm | None = None,
        steps: int | None = None,
        step_size: float | None = None,
        random_start: bool | None = None,
        eps_unit: EpsUnit | None = None,
        target_gain: float | None = None,
        clip: tuple[float, float] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        chunk_size: int | None = None,
        guard: Guard | None = None,
        revision: str | None = None,
        subfolder: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
    ) -> Self:
        """As :meth:`IDAATransform.from_pretrained <idaa_transforms.IDAATransform.from_pretrained>`."""
        transform = IDAATransform.from_pretrained(
            name,
            eps,
            p=1.0,
            norm=norm,
            steps=steps,
            step_size=step_size,
            random_start=random_start,
            eps_unit=eps_unit,
            target_gain=target_gain,
            clip=clip,
            mean=mean,
            std=std,
            chunk_size=chunk_size,
            guard=guard,
            revision=revision,
            subfolder=subfolder,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
        )
        made = cls.__new__(cls)
        _RandomAttack.__init__(made, transform, p, same_on_batch, keepdim)
        return made


class RandomCLAE(_RandomAttack):
    """The baseline CLAE (Ho and Vasconcelos, NeurIPS 2020): the same step in pixels of [0, 1].

    Args:
        eps: as of :class:`~idaa_transforms.CLAETransform`, and so are norm, steps, step_size, random_start,
            target_gain, clip, mean, std and guard.
        p, same_on_batch, keepdim: as of :class:`RandomIDAA`.
    """

    def __init__(
        self,
        eps: float | None = None,
        p: float = 0.5,
        same_on_batch: bool = False,
        keepdim: bool = False,
        *,
        norm: Norm = "linf",
        steps: int = 1,
        step_size: float | None = None,
        random_start: bool = False,
        target_gain: float | None = None,
        clip: tuple[float, float] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        guard: Guard | None = None,
    ) -> None:
        transform = CLAETransform(
            eps,
            norm=norm,
            steps=steps,
            step_size=step_size,
            random_start=random_start,
            target_gain=target_gain,
            clip=clip,
            mean=mean,
            std=std,
            guard=guard,
        )
        super().__init__(transform, p, same_on_batch, keepdim)
