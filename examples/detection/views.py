"""Training images as the network sees them: scaled, cropped and mirrored at random, in an order that a seed decides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from .coco import Coco, Target
from .config import Config

Batch = list[tuple[Tensor, Target]]
TRIES = 20


class Views(Dataset[tuple[Tensor, Target]]):
    """Item (i, seed) is image i, float (3, h, w) in [0, 1], and what is to be found in it, at least one object."""

    def __init__(self, coco: Coco, config: Config) -> None:
        self.coco, self.masks = coco, config.masks
        scale = v2.RandomShortestSize(list(config.sizes), config.longest, antialias=False)  # as in a test
        last = [v2.RandomHorizontalFlip(), v2.ToDtype({tv_tensors.Image: torch.float32, "others": None}, scale=True)]
        crop = [v2.RandomCrop(config.crop, pad_if_needed=True)] if config.crop else []
        self.random = v2.Compose([scale, *crop, *last, v2.SanitizeBoundingBoxes(min_size=1)])
        self.whole = v2.Compose([scale, *last])

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, Target]:
        """Other random numbers than those of ``seed`` play no part."""
        i, seed = item
        image: Any = tv_tensors.Image(self.coco.picture(i))
        target: dict[str, Any] = self.coco.target(i, self.masks)
        target["boxes"] = tv_tensors.BoundingBoxes(
            target["boxes"], format=tv_tensors.BoundingBoxFormat.XYXY, canvas_size=image.shape[1:]
        )
        if self.masks:
            target["masks"] = tv_tensors.Mask(target["masks"])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for _ in range(TRIES):
                view, found = self.random(image, target)
                if len(found["labels"]):
                    break
            else:  # crop after crop without an object
                view, found = self.whole(image, target)
        return view.as_subclass(Tensor), {name: part.as_subclass(Tensor) for name, part in found.items()}


def passes(coco: Coco, images: list[int], config: Config, first: int, last: int, part: slice) -> Iterator[Batch]:
    """The forward passes of iterations ``first`` to ``last``, of each the ``part`` of this process.

    Image after image, epoch after epoch in an order of its own: what comes in an iteration depends on nothing before.
    """
    order = _order(images, config.seed)
    chunks = []
    for step in range(first, last):
        items = [order(place) for place in range(step * config.batch_size, (step + 1) * config.batch_size)]
        chunks += [items[at : at + config.pass_size] for at in range(0, len(items), config.pass_size)][part]
    loader = DataLoader(Views(coco, config), batch_sampler=chunks, collate_fn=list, num_workers=config.workers)
    yield from loader


def _order(images: list[int], seed: int) -> Any:
    """From a place in the endless row of images to (image, seed of its view)."""
    epochs: dict[int, list[int]] = {}

    def at(place: int) -> tuple[int, int]:
        epoch, i = divmod(place, len(images))
        if epoch not in epochs:
            generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
            epochs[epoch] = torch.randperm(len(images), generator=generator).tolist()
        return images[epochs[epoch][i]], seed * 1_000_000_007 + place

    return at
