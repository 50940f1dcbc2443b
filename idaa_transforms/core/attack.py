"""One attack: check what came in, move images with the user's model kept as it was, look at what came out."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple, Self, Unpack

import torch
from torch import Tensor, nn

from ..autoencoders.codec import Codec, device_of
from ..autoencoders.protocol import Autoencoder
from ..util.precision import has_bfloat16
from . import checks
from .binding import Bindable
from .call import Call
from .counters import Counters
from .functional import Clip, Loss, Views, idaa, input_gradient, outside_inference
from .settings import DEFAULTS, Options, Setting, Settings
from .shield import untouched


class Explanation(NamedTuple):
    """What :meth:`.Attack.explain` tells: detached, images in the space of x."""

    views: Tensor
    reconstruction: Tensor  # G(x) = D(E(x)), at the size of x
    residual: Tensor  # R(x) = x - G(x)
    latent: Tensor  # z = E(x)
    delta: Tensor  # in the latent's own numbers, where eps * latent_scale bounds it; or, by scale, in posterior sds
    loss_before: Tensor  # of x, and
    loss_after: Tensor  # of the views, as loss_fn returns it


class Attack(Bindable, nn.Module):
    """Views that raise a loss, by a step of at most eps in the latent of an autoencoder.

    Nothing of the model in the closure changes: no gradient, buffer, or mode. Values (range, NaN, a gradient of zero)
    are checked on the first call, since reading them makes the host wait for the device; structure always.

    Args:
        autoencoder: an :class:`~idaa_transforms.autoencoders.Autoencoder`. It is taken over: frozen, and in eval mode
            also when the training loop calls ``.train()``.
        eps: how far delta may go, in units of the latent's scale.
        options: the other :class:`~idaa_transforms.core.settings.Settings`.

    Attributes:
        settings: all of them. Each is an attribute too: ``aug.eps = 0.2`` is checked, and counts from the next call on.
    """

    def __init__(self, autoencoder: Autoencoder, eps: float, **options: Unpack[Options]) -> None:
        super().__init__()
        if unknown := sorted(set(options) - set(DEFAULTS)):
            raise TypeError(f"{type(self).__name__} has no setting {unknown[0]!r}; it has {', '.join(DEFAULTS)}")
        self.settings = Settings(eps, **options)  # type: ignore[arg-type]
        # In a tuple, which nn.Module does not look into: the autoencoder is no part of the user's model. It is not in
        # state_dict, parameters() or modules(), so that a checkpoint does not grow, nothing trains it, and the user's
        # apply, train and conversions pass it by.
        self._hidden = (Codec(autoencoder, self.settings.mean, self.settings.std),)
        self.counters = Counters(device_of(autoencoder))

    @property
    def codec(self) -> Codec:
        """The frozen autoencoder in the space of x."""
        return self._hidden[0]

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """What ``.to()``, ``.cuda()`` and ``.bfloat16()`` go through: they reach the autoencoder all the same."""
        before = self._precision
        self.codec._apply(fn)
        super()._apply(fn, recurse)
        dtype, device = self._precision
        if dtype == torch.bfloat16 and device.type == "cpu" and before != (dtype, device) and not has_bfloat16(device):
            # Measured with AVX2 alone: B = 32, one thread, cifar10-vae.
            message = f"{device} emulates bfloat16: views took 46 times as long as in float32. Leave the dtype as it is"
            warnings.warn(message, stacklevel=3)
        return self

    @property
    def _precision(self) -> tuple[torch.dtype | None, torch.device]:
        return self.codec.dtype, self.counters.unchanged.device

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        unexpected = arguments[3]  # checkpoints of before have the autoencoder; it comes with the weights' name now
        unexpected[:] = [key for key in unexpected if not key.startswith(f"{prefix}codec.")]

    @property
    def autoencoder(self) -> Any:
        """The frozen autoencoder."""
        return self.codec.autoencoder

    @property
    def limits(self) -> Clip:
        """``clip``, which is in image units, in the space of x."""
        return None if self.settings.clip is None else self.codec.from_unit(self.settings.clip)

    def compile(self, **options: Any) -> None:
        """Compile the autoencoder, in place: encode and decode, each as one graph for batches of any size. The closure
        is the caller's, and so is the compilation of its model. ``options`` of ``torch.compile`` go before our own, say
        ``mode="reduce-overhead"`` for CUDA graphs."""
        self.codec.compile(**options)

    @torch.inference_mode(False)
    def resolve(
        self,
        x: Tensor,
        loss_fn: Loss | None,
        grad: Tensor | None,
        eps: float | Tensor | None,
        generator: torch.Generator | None,
        rows: Tensor | None = None,
        p: float = 1.0,
    ) -> Call:
        """What was said in a call, checked: images (B, C, H, W), clips (B, T, C, H, W) or signals (B, C, L), and which
        of them to attack: those at ``rows`` or, where none are given, each with probability ``p``."""
        axes, mean = self.codec.axes, self.settings.mean
        checks.check_images(x, axes, self.counters.unchanged.device)
        checks.check_channels(x, axes, getattr(self.autoencoder, "channels", None), mean)
        if not self.settings.resize:
            checks.check_size(x, getattr(self.autoencoder, "image_size", None))
        radius = checks.check_eps(self.settings.eps if eps is None else eps, len(x), self._reads_values)
        if rows is None and p < 1:  # drawn on the host, where their number is known without waiting for the device
            device = None if generator is None else generator.device
            rows = (torch.rand(len(x), generator=generator, device=device) < p).nonzero().flatten()
        checks.check_source(loss_fn, grad, x)
        if self._reads_values and x.numel():
            checks.check_range(x, mean, self.settings.std, axes)
        rows = None if rows is None else outside_inference(rows).to(x.device, non_blocking=True)
        return Call(outside_inference(x), loss_fn, grad, radius, generator, rows)

    @torch.inference_mode(False)
    def views(self, call: Call) -> Tensor:
        """Views of the images of ``call``, in the memory format of x."""
        x, rows = call.x, call.rows
        if len(x if rows is None else rows) and x.numel():
            views = call.whole(self.run(call).views)
        else:
            if (
                call.loss_fn and x.numel()
            ):  # no image was drawn here, but other ranks may wait for this one in the closure
                with untouched(call.loss_fn, strict=self.settings.strict):
                    for _ in range(self.settings.steps):
                        input_gradient(call.loss, x)
            views = x.clone()
        return views if views.stride() == x.stride() else torch.empty_like(x).copy_(views)

    def explain(
        self,
        x: Tensor,
        loss_fn: Loss | None = None,
        grad: Tensor | None = None,
        eps: float | Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Explanation:
        """Views of all of ``x`` (B, C, H, W), whatever ``p``, with what led to them and the loss before and after.
        Reconstruction and residual have the size of x, also where the autoencoder has another."""
        call = self.resolve(x, self.closure(loss_fn, grad), grad, eps, generator)
        found = self.run(call)
        with torch.no_grad(), untouched(call.loss_fn, strict=self.settings.strict):
            before, after = call.measure(call.x), call.measure(found.views)
        split = found.split
        return Explanation(found.views, split.reconstruction, split.residual, split.latent, found.delta, before, after)

    def stats(self) -> dict[str, int]:
        """Counts since this object was made: calls, images attacked, and ``unchanged``, those of them that came back
        as they were, because their gradient was zero or not finite; with a guard, its own. Synchronises."""
        guard = self.settings.guard
        return self.counters.compute() | (guard.stats() if guard else {})

    def run(self, call: Call) -> Views:
        """The attack itself. The closure sees all of x, the autoencoder those rows that are attacked."""
        settings, losses = self.settings, list[Tensor]()

        def loss(part: Tensor) -> Tensor:
            whole = call.whole(part)
            value = call.loss(whole)
            if shield:
                shield.saw(value, whole)
            if not losses:
                losses.append(value.detach())
            return value.sum()

        part, posterior = call.pick(call.x), settings.scale == "posterior"
        unit = 1.0 if posterior else self.autoencoder.latent_scale
        lift = partial(self.codec.lift, shape=call.x.shape)
        with untouched(call.loss_fn, strict=settings.strict) if call.loss_fn else nullcontext() as shield:
            found = idaa(
                part,
                self.codec.posterior if posterior else self.codec.encode,
                partial(self.codec.decode_small, shape=call.x.shape),
                loss if call.loss_fn else None,
                call.pick(call.grad),
                eps=call.pick(call.eps) * unit,
                norm=settings.norm,
                steps=settings.steps,
                step_size=None if settings.step_size is None else settings.step_size * unit,
                start=settings.start,
                clip=self.limits,
                target_gain=settings.target_gain,
                generator=call.generator,
                chunk_size=settings.chunk_size,
                lift=(lift, partial(lift, adjoint=True)),
            )
        if self._reads_values and len(part):
            checks.check_latent(found.split.latent, type(self.autoencoder).__name__)
            self.counters.read(found, losses[0] if losses else None)
        self.counters.add(found)
        return settings.guard.keep(part, found) if settings.guard and len(part) else found

    @property
    def _reads_values(self) -> bool:
        return self.settings.strict or not self.counters.values_were_read

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={value!r}" for name, value in self.settings.changed().items())
        return f"{type(self).__name__}({said})"


for _name in DEFAULTS:
    setattr(Attack, _name, Setting(_name))
