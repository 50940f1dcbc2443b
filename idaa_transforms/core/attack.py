"""One call of a transform: check what came in, attack with the user's model untouched, look at what came out."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from ..autoencoders.codec import Codec
from ..autoencoders.protocol import Autoencoder
from . import checks
from .ascent import Norm, Scale, Start
from .binding import Bindable
from .functional import Loss, Views, idaa, in_chunks, input_gradient, outside_inference
from .guard import Guard, Judge
from .shield import untouched


class Explanation(NamedTuple):
    """What :meth:`Attack.explain` tells: detached, images in the space of x."""

    views: Tensor
    reconstruction: Tensor  # G(x) = D(E(x))
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
        norm: ``"linf"`` or ``"l2"``: the norm of delta that eps bounds.
        steps: gradient steps; the paper takes one.
        step_size: length of each, in the unit of eps. Default: ``min(1, 2.5 / steps) * eps``.
        start: of delta: ``"zero"``, as in the paper, or ``"uniform"``, a random point within eps.
        scale: the unit of eps: ``"latent"``, the spread of the latent over images, or ``"posterior"``, for each number
            of each image's latent its own standard deviation, so that what the autoencoder is sure of moves less.
        target_gain: how much each image shall raise what loss_fn returns, a (B,) summed, instead of by all that eps
            allows. To first order, from the gradient at hand: bisection would cost passes of the model. (A mean is
            raised by one image B times less than a sum.)
        p: probability that an image (or clip) gets a view; the others come back bit for bit, and are not encoded.
        clip: (lo, hi) to clamp views to. None, as in the paper, lets them leave the range of images a little.
        mean, std: per channel, if x is normalised by them. Without them x is in [0, 1].
        chunk_size: images (or clips) that pass the autoencoder at once, for decoders that need much memory.
        strict: check values on every call, and warn of what a closure changed (it is put back all the same).
        guard, min_similarity, halvings: a judge of identity that views have to pass, see
            :class:`~idaa_transforms.guard.Guard`. Off by default.
    """

    _unchanged: Tensor

    def __init__(
        self,
        autoencoder: Autoencoder,
        eps: float = 0.1,
        *,
        norm: Norm = "linf",
        steps: int = 1,
        step_size: float | None = None,
        start: Start = "zero",
        scale: Scale = "latent",
        target_gain: float | None = None,
        p: float = 1.0,
        clip: tuple[float, float] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        chunk_size: int | None = None,
        strict: bool = False,
        guard: Judge | None = None,
        min_similarity: float | None = None,
        halvings: int = 3,
    ) -> None:
        super().__init__()
        self.eps, self.norm, self.steps, self.step_size, self.start = eps, norm, steps, step_size, start
        self.scale, self.target_gain = scale, target_gain
        self.p, self.clip, self.chunk_size, self.strict = p, clip, chunk_size, strict
        self.mean, self.std = (None if v is None else tuple(map(float, v)) for v in (mean, std))
        checks.check_parameters(self)
        self.clip = None if clip is None else (clip[0], clip[1])
        checks.check_guard(guard, min_similarity, halvings)
        self.guard = None if guard is None else Guard(guard, float(min_similarity or 0), halvings)
        self.codec = Codec(autoencoder, self.mean, self.std)
        self.register_buffer("_unchanged", torch.zeros((), dtype=torch.int64), persistent=False)
        self._calls = self._attacked = 0
        self._values_read = self._zero_told = False

    @property
    def autoencoder(self) -> Any:
        """The frozen autoencoder."""
        return self.codec.autoencoder

    def compile(self, **options: Any) -> None:
        """Compile the autoencoder, in place: encode and decode, each as one graph for batches of any size. The closure
        is the caller's, and so is the compilation of its model. ``options`` of ``torch.compile`` go before our own, say
        ``mode="reduce-overhead"`` for CUDA graphs."""
        self.codec.compile(**options)

    @torch.inference_mode(False)
    def views(
        self,
        x: Tensor,
        loss_fn: Loss | None = None,
        grad: Tensor | None = None,
        eps: float | Tensor | None = None,
        generator: torch.Generator | None = None,
        rows: Tensor | None = None,
    ) -> Tensor:
        """Views of ``x``, images (B, C, H, W) or clips (B, T, C, H, W): of those at ``rows``, or of each with
        probability ``p``."""
        loss_fn = self._check(x, loss_fn, grad, eps)
        if rows is None and self.p < 1:  # drawn on the host, where their number is known without waiting for the device
            device = None if generator is None else generator.device
            rows = (torch.rand(len(x), generator=generator, device=device) < self.p).nonzero().flatten()
        x = outside_inference(x)
        if rows is not None:
            rows = outside_inference(rows).to(x.device, non_blocking=True)
        if len(x if rows is None else rows):
            views = self._run(x, loss_fn, grad, eps, generator, rows).views
            views = views if rows is None else x.index_copy(0, rows, views)
        else:
            if loss_fn and len(x):  # no image was drawn here, but other ranks may wait for this one in the closure
                with untouched(loss_fn, strict=self.strict):
                    for _ in range(self.steps):
                        input_gradient(loss_fn, x)
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
        """Views of all of ``x`` (B, C, H, W), whatever ``p``, with what led to them and the loss before and after."""
        loss_fn = self._check(x, loss_fn, grad, eps)
        found = self._run(x, loss_fn, grad, eps, generator, None)
        loss = (lambda view: (grad * view).flatten(1).sum(1)) if loss_fn is None else loss_fn
        with torch.no_grad(), untouched(loss, strict=self.strict):
            before, after = loss(x.detach()), loss(found.views)
        return Explanation(*found[:5], before, after)

    def stats(self) -> dict[str, int]:
        """Counts since this object was made: calls, images attacked, and ``unchanged``, those of them that came back
        as they were, because their gradient was zero or not finite; with a guard, its own. Synchronises."""
        counts = {"calls": self._calls, "attacked": self._attacked, "unchanged": int(self._unchanged)}
        return counts | (self.guard.stats() if self.guard else {})

    def _run(
        self,
        x: Tensor,
        loss_fn: Loss | None,
        grad: Tensor | None,
        eps: float | Tensor | None,
        generator: torch.Generator | None,
        rows: Tensor | None,
    ) -> Views:
        """Attack ``rows`` of x (None: all of them); the closure sees all of x."""
        losses: list[Tensor] = []

        def loss(part: Tensor) -> Tensor:
            whole = part if rows is None else x.index_copy(0, rows, part)
            value = cast(Loss, loss_fn)(whole)
            checks.check_loss(value, whole)
            if not losses:
                losses.append(value.detach())
            return value.sum()

        def pick(value: Any) -> Any:
            return value[rows] if rows is not None and isinstance(value, Tensor) else value

        part, posterior = pick(x), self.scale == "posterior"
        unit = 1.0 if posterior else self.autoencoder.latent_scale
        decode = partial(self.codec.decode, shape=x.shape)
        with untouched(loss_fn, strict=self.strict) if loss_fn else nullcontext():
            found = idaa(
                part,
                self.codec.posterior if posterior else self.codec.encode,
                decode,
                loss if loss_fn else None,
                pick(grad),
                eps=pick(self.eps if eps is None else eps) * unit,
                norm=self.norm,
                steps=self.steps,
                step_size=None if self.step_size is None else self.step_size * unit,
                start=self.start,
                clip=self.clip,
                target_gain=self.target_gain,
                generator=generator,
                chunk_size=self.chunk_size,
            )
        if self._reads_values and len(part):
            self._tell(checks.check_gradient(found.gradient, losses[0] if losses else None))
            self._values_read = True
        self._calls, self._attacked = self._calls + 1, self._attacked + len(part)
        self._unchanged += (~(found.finite & found.delta.flatten(1).any(1))).sum()
        if self.guard and len(part):
            found = self.guard.keep(part, found, in_chunks(decode, self.chunk_size), self.clip)
        return found

    def _check(self, x: Any, loss_fn: Loss | None, grad: Any, eps: Any) -> Loss | None:
        """Everything that came in. Returns the closure to use: the one given, or the one bound."""
        ae = self.autoencoder
        checks.check_images(x, getattr(ae, "channels", None), getattr(ae, "image_size", None), self._unchanged.device)
        checks.check_eps("eps", self.eps if eps is None else eps, len(x), self._reads_values)
        loss_fn = cast(Loss | None, self._given_or_bound(loss_fn, grad))
        checks.check_source(loss_fn, grad, x)
        if self._reads_values and len(x):
            checks.check_range(x, self.mean, self.std)
        return loss_fn

    @property
    def _reads_values(self) -> bool:
        return self.strict or not self._values_read

    def _tell(self, problem: str | None) -> None:
        if problem and not self._zero_told:
            self._zero_told = True
            warnings.warn(f"{problem}; {checks.ZERO_CURE}", checks.ZeroGradientWarning, stacklevel=2)

    def settings(self) -> dict[str, Any]:
        """The arguments that differ from their defaults, by name, and eps. Not the guard, which is the caller's."""
        arguments = inspect.signature(Attack).parameters
        mine = [n for n in arguments if n != "autoencoder" and hasattr(self, n) and n != "guard"]
        return {"eps": self.eps} | {n: getattr(self, n) for n in mine if getattr(self, n) != arguments[n].default}

    def __repr__(self) -> str:
        shown = self.settings() | ({"guard": self.guard} if self.guard else {})
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"
