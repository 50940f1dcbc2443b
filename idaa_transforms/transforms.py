"""IDAA, and CLAE (the same in pixel space), as torchvision v2 transforms of whole batches."""

from __future__ import annotations

import inspect
import os
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, overload

import torch
from PIL.Image import Image as PILImage
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten
from torchvision import tv_tensors
from torchvision.transforms import v2

from ._core import checks
from ._core.ascent import Norm
from ._core.binding import Bindable
from ._core.settings import CHECKS as _CHECKS
from ._core.settings import EpsUnit, check_statistics
from ._util.precision import has_bfloat16
from .autoencoders._codec import Codec
from .autoencoders.protocol import Autoencoder, PixelSpace
from .functional import Clip, Loss, Views, idaa, input_gradient, outside_inference
from .guard import Guard, check_guard
from .preserve import preserve_state

CHECKS = _CHECKS | {"guard": check_guard}


@dataclass(frozen=True)
class Explanation(Views):
    """The views, how they were made, and the losses of x and of the views as the closure returned them."""

    loss_before: Tensor
    loss_after: Tensor


class AdversarialTransform(Bindable, v2.Transform):
    """Views that raise a loss, by a step of at most eps in the latent of an autoencoder.

    Call it as ``aug(x, loss_fn=nce)`` or, with a gradient at hand, ``aug(x, grad=x.grad)``. In a container, which
    passes nothing but images, use :meth:`bound` or :meth:`bind`. Each setting is an attribute too: ``aug.eps = 0.2`` is
    checked, and counts from the next call on. The model in the closure stays as it was: see :mod:`.preserve`.
    """

    eps: float
    norm: Norm = "linf"
    steps: int = 1
    step_size: float | None = None
    random_start: bool = False
    eps_unit: EpsUnit = "latent"
    target_gain: float | None = None
    p: float = 1.0
    clip: tuple[float, float] | None = None
    chunk_size: int | None = None
    guard: Guard | None = None

    def __init__(self, autoencoder: Autoencoder, mean: Any, std: Any, **settings: Any) -> None:
        super().__init__()
        for name, value in settings.items():
            setattr(self, name, value)
        self._codec = Codec(autoencoder, *check_statistics(mean, std))
        # unchanged is a tensor on the device later on, so that no call waits for it
        self._counts: dict[str, Any] = {"calls": 0, "attacked": 0, "unchanged": 0}

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, CHECKS[name](name, value) if name in CHECKS else value)

    @property
    def autoencoder(self) -> Any:
        """The frozen autoencoder. It is no part of ``state_dict()``, ``parameters()`` and ``modules()``."""
        return self._codec.autoencoder

    @property
    def codec(self) -> Codec:
        """The autoencoder in the space and at the size of x: ``codec.encode(x)`` and ``codec.decode(z, x.shape)``."""
        return self._codec

    @property
    def mean(self) -> tuple[float, ...] | None:
        """What images are normalised by, a number for each channel; None for images in [0, 1]."""
        return self._codec.mean

    @property
    def std(self) -> tuple[float, ...] | None:
        """See :attr:`mean`."""
        return self._codec.std

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
                tensor; all else passes.
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
            ClosureError: for a closure that gives no direction. A gradient of zero is a ``ZeroGradientWarning``.
        """
        if loss_fn is None and grad is None:
            loss_fn = self._bound_loss()
        several = isinstance(loss_fn, list | tuple) or isinstance(grad, list | tuple)
        if len(inputs) == 1 and type(inputs[0]) is Tensor and not several:  # the usual call, the short way
            return self._views(inputs[0], loss_fn, grad, eps, generator)  # type: ignore[arg-type]
        flat, spec = tree_flatten(inputs if len(inputs) > 1 else inputs[0])
        images = [i for i, leaf in enumerate(flat) if isinstance(leaf, tv_tensors.Image | tv_tensors.Video | PILImage)]
        images = images or [i for i, leaf in enumerate(flat) if isinstance(leaf, Tensor)][:1]
        if not images and (loss_fn is not None or grad is not None):
            raise TypeError(
                f"there are no images in {', '.join(type(leaf).__name__ for leaf in flat) or 'the inputs'}; pass a "
                "float tensor (B, C, H, W): torch.from_numpy(array), or torch.stack(list of tensors)"
            )
        losses, grads = _one_each("loss_fn", loss_fn, len(images)), _one_each("grad", grad, len(images))
        for i, own_loss, own_grad in zip(images, losses, grads, strict=True):
            like = flat[i]
            x = like.as_subclass(Tensor) if isinstance(like, Tensor) else like
            views = self._views(x, own_loss, own_grad, eps, generator)
            flat[i] = tv_tensors.wrap(views, like=like) if isinstance(like, tv_tensors.TVTensor) else views
        return tree_unflatten(flat, spec)

    if TYPE_CHECKING:  # torchvision has no types, of which these would be inherited

        def to(self, *args: Any, **kwargs: Any) -> Self:
            """As of any module."""

        @overload
        def __call__(
            self,
            x: Tensor,
            /,
            *,
            loss_fn: Loss | None = None,
            grad: Tensor | None = None,
            eps: float | Tensor | None = None,
            generator: torch.Generator | None = None,
        ) -> Tensor: ...
        @overload
        def __call__(
            self,
            x: Any,
            y: Any,
            /,
            *more: Any,
            loss_fn: Loss | Sequence[Loss] | None = None,
            grad: Tensor | Sequence[Tensor] | None = None,
            eps: float | Tensor | None = None,
            generator: torch.Generator | None = None,
        ) -> Any: ...
        @overload
        def __call__(
            self,
            sample: dict[Any, Any] | list[Any] | tuple[Any, ...],
            /,
            *,
            loss_fn: Loss | Sequence[Loss] | None = None,
            grad: Tensor | Sequence[Tensor] | None = None,
            eps: float | Tensor | None = None,
            generator: torch.Generator | None = None,
        ) -> Any: ...
        def __call__(self, *inputs: Any, **kwargs: Any) -> Any:
            """As :meth:`forward`."""

    def explain(
        self,
        x: Tensor,
        loss_fn: Loss | None = None,
        grad: Tensor | None = None,
        eps: float | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Explanation:
        """Views of all of ``x`` (B, C, H, W), whatever ``p``, with what led to them and the loss before and after.

        With ``grad``, the loss is the product with it, (B,).
        """
        if loss_fn is None and grad is None:
            loss_fn = self._bound_loss()
        read = self._check(x, loss_fn, grad)
        found = self._attack(x, loss_fn, grad, self._radius(eps, len(x), read), generator, None, read)

        def measure(views: Tensor) -> Tensor:
            return loss_fn(views.clone()) if grad is None else (grad * views).flatten(1).sum(1)  # type: ignore[misc]

        with torch.no_grad(), preserve_state(loss_fn) if loss_fn else nullcontext():
            return Explanation(**vars(found), loss_before=measure(x), loss_after=measure(found.views))

    def stats(self) -> dict[str, int]:
        """Counts since this object was made: calls, images attacked, and ``unchanged``, those of them that came back
        as they were, because their gradient was zero or not finite; with a guard, its own. Synchronises."""
        return {name: int(count) for name, count in self._counts.items()} | (self.guard.stats() if self.guard else {})

    def compile(self, **options: Any) -> None:
        """Compile the autoencoder, in place: encode and decode, each as one graph for batches of any size. The closure
        is the caller's, and so is the compilation of its model. ``options`` of ``torch.compile`` go before our own, say
        ``mode="reduce-overhead"`` for CUDA graphs."""
        self._codec.compile(**options)

    def _check(self, x: Any, loss_fn: Any, grad: Any) -> bool:
        """Check what came in. Returns whether values are read."""
        codec = self._codec
        checks.check_images(x, codec.axes, codec.device, getattr(codec.autoencoder, "channels", None), codec.mean)
        checks.check_source(loss_fn, grad, x)
        read = checks.reads_values(x.device, self._counts["calls"]) and x.numel() > 0
        if read:
            checks.check_range(x, codec.mean, codec.std, codec.axes)
        return read

    def _radius(self, eps: float | Tensor | None, batch: int, read: bool) -> float | Tensor:
        return self.eps if eps is None else checks.check_eps(eps, batch, read)

    @torch.inference_mode(False)
    def _views(
        self,
        x: Tensor,
        loss_fn: Loss | None,
        grad: Tensor | None,
        eps: float | Tensor | None,
        generator: torch.Generator | None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Views of the images of ``x`` at ``rows`` or, where none are given, of each with probability p."""
        read = self._check(x, loss_fn, grad)
        radius, x = self._radius(eps, len(x), read), outside_inference(x)
        if rows is None and self.p < 1:  # drawn on the host, where their number is known without waiting for the device
            device = None if generator is None else generator.device
            rows = (torch.rand(len(x), generator=generator, device=device) < self.p).nonzero().flatten()
        if rows is not None:
            rows = outside_inference(rows).to(x.device, non_blocking=True)
        if len(x if rows is None else rows) and x.numel():
            views = self._attack(x, loss_fn, grad, radius, generator, rows, read).views
            views = views if rows is None else x.index_copy(0, rows, views)
        else:
            if loss_fn is not None and x.numel():  # other ranks may wait for this one in the closure
                with preserve_state(loss_fn):
                    for _ in range(self.steps):
                        input_gradient(loss_fn, x)
            views = x.clone()
        return views if views.stride() == x.stride() else torch.empty_like(x).copy_(views)

    @torch.inference_mode(False)
    def _attack(
        self,
        x: Tensor,
        loss_fn: Loss | None,
        grad: Tensor | None,
        eps: float | Tensor,
        generator: torch.Generator | None,
        rows: Tensor | None,
        read: bool,
    ) -> Views:
        """The attack itself. The closure sees all of x, the autoencoder those rows that are attacked."""
        codec = self._codec
        part = x if rows is None else x[rows]
        if rows is not None:
            grad = None if grad is None else grad[rows]
            eps = eps[rows] if isinstance(eps, Tensor) else eps
        posterior = self.eps_unit == "posterior"
        unit = 1.0 if posterior else codec.autoencoder.latent_scale
        lift = partial(codec.lift, shape=x.shape)
        with nullcontext() if loss_fn is None else preserve_state(loss_fn) as check:
            found = idaa(
                part,
                codec.posterior if posterior else codec.encode,
                partial(codec.decode_small, shape=x.shape),
                None if loss_fn is None else lambda views: check(loss_fn(views)),  # type: ignore[misc]
                grad,
                eps=eps * unit,
                norm=self.norm,
                steps=self.steps,
                step_size=None if self.step_size is None else self.step_size * unit,
                random_start=self.random_start,
                clip=self._limits,
                target_gain=self.target_gain,
                generator=generator,
                chunk_size=self.chunk_size,
                lift=(lift, partial(lift, adjoint=True)),
                place=None if rows is None else lambda views: x.index_copy(0, rows, views),
            )
        if read:
            checks.check_latent(found.latent, type(codec.autoencoder).__name__)
            checks.check_gradient(found.gradient, found.loss)
        counts, moved = self._counts, found.finite & found.delta.flatten(1).any(1)
        before = counts["unchanged"].to(x.device) if counts["calls"] else 0  # the transform may have been moved
        counts |= {"calls": counts["calls"] + 1, "attacked": counts["attacked"] + len(part)}
        counts["unchanged"] = before + len(part) - moved.sum()
        return self.guard.keep(part, found) if self.guard and len(part) else found

    @property
    def _limits(self) -> Clip:
        """``clip``, which is in image units, in the space of x."""
        return None if self.clip is None else self._codec.from_unit(self.clip)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """What ``.to()``, ``.cuda()`` and ``.bfloat16()`` go through. The autoencoder goes where an empty tensor would
        go, with its values, also by ``to_empty``."""
        super()._apply(fn, recurse)
        codec = self._codec
        dtype, device = codec.dtype, codec.device
        probe = fn(torch.empty(0, dtype=dtype or torch.float32, device=device))
        codec.to(device if probe.device.type == "meta" else probe.device, dtype and probe.dtype)
        bfloat16 = codec.dtype == torch.bfloat16 and codec.device.type == "cpu"
        if bfloat16 and (dtype, device) != (codec.dtype, codec.device) and not has_bfloat16(codec.device):
            # Measured with AVX2 alone: B = 32, one thread, cifar10-vae.
            message = "the CPU emulates bfloat16: views took 46 times as long as in float32. Leave the dtype as it is"
            warnings.warn(message, stacklevel=3)
        return self

    def _saved(self) -> dict[str, Any]:
        """What is saved with weights: the settings that differ from their defaults, but not the guard."""
        return {name: value for name, value in self._changed().items() if name != "guard"}

    def _changed(self) -> dict[str, Any]:
        """eps, and the settings that differ from their defaults, by name."""
        defaults = {name: parameter.default for name, parameter in inspect.signature(type(self)).parameters.items()}
        values = {name: getattr(self, name) for name in defaults if name in (*CHECKS, "mean", "std")}
        return {name: value for name, value in values.items() if name == "eps" or value != defaults[name]}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._changed().items())})"


class IDAATransform(AdversarialTransform):
    """Identity-disentangled adversarial augmentation (Yang et al., ICML 2022): x' = x - D(E(x)) + D(E(x) + delta).

    Args:
        autoencoder: an :class:`~idaa_transforms.autoencoders.Autoencoder`. It is taken over: frozen, and in eval mode
            also when the training loop calls ``.train()``. By name with :meth:`from_pretrained`.
        eps: how far delta may go, in units of the latent's scale. Default: 0.1 in the linf norm, the paper's (SimCLR on
            CIFAR-10, z = 512); another norm or unit needs an eps of its own.
        norm: ``"linf"`` or ``"l2"``: the norm of delta that eps bounds.
        steps: gradient steps within the ball; the paper takes one.
        step_size: length of a step, in the unit of eps; by default ``min(1, 2.5 / steps) * eps`` (Madry et al., 2018).
        random_start: start anywhere in the ball instead of at zero, as in the paper.
        eps_unit: ``"latent"``, the spread of the latent over images, or ``"posterior"``, for each number of each latent
            its own standard deviation (try ``eps=7, norm="l2"`` with it).
        target_gain: target loss increase per image, capped by eps; to first order, from the first gradient. A loss (B,)
            counts summed; of a mean, one image's share is 1 / B. With ``grad=``, of a scaled loss, it is scaled too.
        p: probability of a view, image by image; the others come back bit for bit, and are not encoded.
        clip: (lo, hi) to clamp views to, in image units; by default, as in the paper, views may leave [0, 1] a little.
        mean, std: what x is normalised by, a number for each channel; by default x is in [0, 1].
        chunk_size: images that pass the autoencoder at once, which bounds its memory; by default all.
        guard: ``Guard(reference, 0.95)``: a reference model that has to accept each view.

    Shape:
        (B, C, H, W) float in [0, 1], or normalised as ``mean`` and ``std`` say, of any size, to the same. Where the
        autoencoder takes signals, (B, C, L) of any length, in the units it was trained on.

    Example:
        >>> aug = IDAATransform.from_pretrained("cifar10-vae-small", p=0.5)
        >>> views = aug(x, loss_fn=lambda v: nt_xent(model(v), anchor))
    """

    name: str | None = None

    def __init__(
        self,
        autoencoder: Autoencoder,
        eps: float | None = None,
        *,
        norm: Norm = "linf",
        steps: int = 1,
        step_size: float | None = None,
        random_start: bool = False,
        eps_unit: EpsUnit = "latent",
        target_gain: float | None = None,
        p: float = 1.0,
        clip: tuple[float, float] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        chunk_size: int | None = None,
        guard: Guard | None = None,
    ) -> None:
        super().__init__(
            autoencoder,
            mean,
            std,
            eps=_default_eps(eps, 0.1, norm, eps_unit),
            norm=norm,
            steps=steps,
            step_size=step_size,
            random_start=random_start,
            eps_unit=eps_unit,
            target_gain=target_gain,
            p=p,
            clip=clip,
            chunk_size=chunk_size,
            guard=guard,
        )

    @classmethod
    @torch.inference_mode(False)
    def from_pretrained(
        cls,
        name: str | os.PathLike[str],
        eps: float | None = None,
        *,
        norm: Norm | None = None,
        steps: int | None = None,
        step_size: float | None = None,
        random_start: bool | None = None,
        eps_unit: EpsUnit | None = None,
        target_gain: float | None = None,
        p: float | None = None,
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
        """A transform on pretrained weights.

        Args:
            name: a name this package ships (see ``idaa_transforms.hub.PRETRAINED``; no network needed), a local
                folder, or ``org/repository`` on the Hugging Face Hub.
            eps, norm, steps, step_size, random_start, eps_unit, target_gain, p, clip, mean, std, chunk_size, guard: as
                above. None: what was saved with the weights, else the default above. The eps of the weights belongs to
                their norm and unit; another norm or unit needs an eps of its own.
            revision: branch, tag or commit on the Hub.
            subfolder: of the folder or repository.
            cache_dir, token, local_files_only: as in ``huggingface_hub``.

        Raises:
            WeightsError: for a name that does not resolve, and weights that are missing, damaged or foreign.
            ValueError: for another norm or unit without an eps.
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
        given = {
            "norm": norm,
            "steps": steps,
            "step_size": step_size,
            "random_start": random_start,
            "eps_unit": eps_unit,
            "target_gain": target_gain,
            "p": p,
            "clip": clip,
            "mean": mean,
            "std": std,
            "chunk_size": chunk_size,
            "guard": guard,
        }
        settings: dict[str, Any] = saved | {key: value for key, value in given.items() if value is not None}
        if eps is None and "eps" in saved:
            own = saved.get("norm", "linf"), saved.get("eps_unit", "latent")
            eps = _default_eps(None, saved["eps"], settings.get("norm", own[0]), settings.get("eps_unit", own[1]), own)
        settings["eps"] = eps
        transform = cls(autoencoder, **settings)
        transform.name = os.fspath(name)
        return transform

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write weights and settings as a folder that :meth:`from_pretrained` reads, here or from the Hub."""
        from . import hub

        hub.save(self.autoencoder, folder, self._saved())

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

    Args:
        eps: how far a pixel may go, in units of [0, 1], also where x is normalised by ``mean`` and ``std``. Default:
            0.006 in the linf norm, the IDAA paper's 0.03 on normalised pixels; another norm needs an eps of its own.
        signals: take signals (B, C, L) instead of images. ``eps`` is in their own units then, or in those before
            ``mean`` and ``std``.
        norm, steps, step_size, random_start, target_gain, p, clip, mean, std, guard: as of :class:`IDAATransform`.

    Shape:
        (B, C, H, W) or, of signals, (B, C, L) float to the same.
    """

    def __init__(
        self,
        eps: float | None = None,
        *,
        signals: bool = False,
        norm: Norm = "linf",
        steps: int = 1,
        step_size: float | None = None,
        random_start: bool = False,
        target_gain: float | None = None,
        p: float = 1.0,
        clip: tuple[float, float] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        guard: Guard | None = None,
    ) -> None:
        super().__init__(
            PixelSpace(1 if signals else 2),
            mean,
            std,
            eps=_default_eps(eps, 0.006, norm),
            norm=norm,
            steps=steps,
            step_size=step_size,
            random_start=random_start,
            target_gain=target_gain,
            p=p,
            clip=clip,
            guard=guard,
        )


def _default_eps(
    eps: float | None,
    default: float,
    norm: str,
    unit: str = "latent",
    belongs_to: tuple[str, str] = ("linf", "latent"),
) -> float:
    """``eps``, or the default where norm and unit are those it belongs to."""
    CHECKS["norm"]("norm", norm), CHECKS["eps_unit"]("eps_unit", unit)
    if eps is not None:
        return eps
    if (norm, unit) != belongs_to:
        raise ValueError(
            f"the recommended eps={default} belongs to norm={belongs_to[0]!r} and eps_unit={belongs_to[1]!r}; with "
            f"norm={norm!r} and eps_unit={unit!r} pass an eps of your own: eps=..."
        )
    return default


def _one_each(name: str, value: Any, count: int) -> Sequence[Any]:
    """``value`` for each of ``count`` batches of images: the items of a list, or the same closure again."""
    if not isinstance(value, list | tuple):
        if isinstance(value, Tensor) and count > 1:
            raise ValueError(f"one {name} was given for {count} batches of images; pass a list with one for each")
        return [value] * count
    if len(value) != count:
        raise ValueError(f"{len(value)} {name}s were given for {count} batches of images; pass one for each")
    return value
