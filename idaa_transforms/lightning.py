"""A Lightning callback for frameworks that own the training step and leave only hooks, such as solo-learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ._util.extras import require
from .functional import Loss
from .transforms import AdversarialTransform

require("lightning", "pytorch_lightning")

import pytorch_lightning as pl  # noqa: E402


class IDAACallback(pl.Callback):
    """Replaces a view in each training batch by a hard one, or adds one, before the training step sees the batch.

    The batch has to hold its views in a list, which is changed in place. Its images are on the device already, and the
    attack runs under the autocast of the trainer's precision. A transform that is no part of the module is moved to the
    module's device when training starts.

    Args:
        transform: an ``IDAATransform`` or ``CLAETransform``.
        make_loss: (module, batch) to the closure that is raised, images (B, C, H, W) to a loss.
        images: batch to the list of views. The default is solo-learn's, whose batch is (index, views, labels).
        source: which view the hard one is made of.
        add: append the hard view to the list instead of putting it in the place of its source. The training step has
            to take one view more, as steps for multi-crop do.

    Raises:
        TypeError: if ``images`` gives no list, since nothing else can be changed in place.

    Example:
        ::

            def make_loss(module, batch):
                _, views, _ = batch
                other = module(views[1])["z"]
                return objectives.simclr(lambda v: module(v)["z"], other)

            trainer = Trainer(callbacks=[IDAACallback(IDAATransform.from_pretrained("cifar10-vae-small"), make_loss)])
    """

    def __init__(
        self,
        transform: AdversarialTransform,
        make_loss: Callable[[pl.LightningModule, Any], Loss],
        images: Callable[[Any], list[Tensor]] = lambda batch: batch[1],
        source: int = 0,
        add: bool = False,
    ) -> None:
        self.transform, self.make_loss, self.images, self.source, self.add = transform, make_loss, images, source, add

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Move the transform to where the images will be."""
        self.transform.to(pl_module.device)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Make the hard view."""
        views = self.images(batch)
        if not isinstance(views, list):
            raise TypeError(f"images(batch) gave a {type(views).__name__}; it must be the list of views in the batch")
        with trainer.precision_plugin.forward_context():  # Lightning opens it around the training step only
            hard = self.transform(views[self.source], loss_fn=self.make_loss(pl_module, batch))
        if self.add:
            views.append(hard)
        else:
            views[self.source] = hard
