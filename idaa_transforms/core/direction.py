"""What a closure has to give: a loss with a slope. Errors quote what it gave and name the cure."""

from __future__ import annotations

from torch import Tensor


class ClosureError(ValueError):
    """A loss closure (or gradient) that cannot give a direction."""


class ZeroGradientWarning(UserWarning):
    """The loss has no slope at the views, so the views are no harder than the images."""


NO_PATH = (
    "the loss does not depend on the views through differentiable operations; use the tensor that loss_fn is given, "
    "and look for no_grad, detach(), .data, argmax or a rounding augmentation between it and the loss"
)
INFERENCE = (
    "the closure uses tensors made in inference mode, which autograd cannot save; copy what it captures with .clone() "
    "outside of inference mode, or validate without it: lightning's Trainer(inference_mode=False)"
)
ZERO_CURE = (
    "such views are no harder than the images. A loss that compares a view with the same image is at its extreme "
    "there: anchor it on another view of the image, include negatives, or use start='uniform'"
)


def check_loss(loss: object, views: Tensor) -> Tensor:
    """The structure of what a closure returned for ``views``, always checked: () or (B,); (1,) is taken for ()."""
    if not isinstance(loss, Tensor):
        raise ClosureError(
            f"loss_fn returned {'None' if loss is None else f'a {type(loss).__name__}'}, not a tensor; "
            "it must return the loss of the views: a scalar, or one value for each image"
        )
    if loss.shape not in ((), (1,), (len(views),)):
        raise ClosureError(
            f"loss_fn returned shape {tuple(loss.shape)} for a batch of {len(views)}; return () or ({len(views)},), "
            f"e.g. {'loss.flatten(1).sum(1)' if len(loss) == len(views) else 'loss.sum()'}"
        )
    if not loss.is_floating_point():
        raise ClosureError(f"loss_fn returned dtype {loss.dtype}, which has no gradient; return a float loss")
    if not loss.requires_grad:
        raise ClosureError(NO_PATH)
    return loss


def check_gradient(gradient: Tensor, loss: Tensor | None) -> str | None:
    """Read the values of the first gradient: raise where it is not finite, tell where it is zero. Synchronises.

    A loss at its maximum over the views, such as the cosine of a view with the embedding of the very same image, has
    not quite a gradient of zero but one of rounding errors, whose sign is noise: that is told too.
    """
    if loss is not None and not bool(loss.isfinite().all()):
        raise ClosureError(f"loss_fn returned {_brief(loss)}; look for log(0), 0/0 or an overflow in half precision")
    bad = int((~gradient.isfinite().flatten(1).all(1)).sum())
    if bad:
        raise ClosureError(
            f"the gradient is NaN or infinite in {bad} of {len(gradient)} images; look for sqrt(0), a norm of zero, or "
            "an overflow in half precision"
        )
    zero = int((gradient == 0).flatten(1).all(1).sum())
    noise = 1e-4 * float(loss.double().sum().abs()) if loss is not None else 0.0
    if zero == len(gradient) or float(gradient.double().norm()) * gradient.numel() ** 0.5 < noise:
        return "the gradient of the loss at the views is zero (or nothing but rounding errors)"
    return f"the gradient of the loss is zero in {zero} of {len(gradient)} images" if zero else None


def _brief(loss: Tensor) -> str:
    return (
        f"{loss.item()}" if loss.numel() == 1 else f"NaN or infinite values for {int((~loss.isfinite()).sum())} images"
    )
