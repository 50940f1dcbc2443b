"""Images to train on: an .npz of arrays, a folder of pictures, or a torchvision dataset by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import datasets
from torchvision.transforms import v2

from ..util.extras import require

IN_MEMORY = 2 << 30
"""Bytes of uint8 images up to which a set is kept on the device; larger ones stream through a DataLoader."""


class Images(NamedTuple):
    """``test`` and, where they fit, ``train`` are uint8 (N, C, H, W); otherwise ``train`` yields such (C, H, W),
    already randomly cropped. Labels are int64 (N,), -1 for a picture that has none; None where an ``.npz`` has none,
    and for a ``train`` that does not fit."""

    train: Tensor | Dataset[Tensor]
    test: Tensor
    name: str
    train_labels: Tensor | None = None
    test_labels: Tensor | None = None


class _Files(Dataset[Any]):
    """The pictures of a folder and all folders in it, as (picture, label): which of the folders directly in it, or of
    ``classes``, it is from. -1 where it is from none."""

    def __init__(self, folder: Path, classes: list[str] | None = None) -> None:
        endings = datasets.folder.IMG_EXTENSIONS
        self.files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in endings)
        if not self.files:
            raise ValueError(f"no pictures in {folder}; looked for {', '.join(endings)}")
        within = [file.relative_to(folder).parts[:-1][:1] for file in self.files]
        self.classes = sorted({name for (name,) in filter(None, within)}) if classes is None else classes
        self.labels = [self.classes.index(n[0]) if n and n[0] in self.classes else -1 for n in within]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        return datasets.folder.default_loader(str(self.files[i])), self.labels[i]


class _Pictures(Dataset[Any]):
    """A (picture, label) dataset with its pictures as uint8 tensors, transformed; or those tensors alone."""

    def __init__(self, inner: Any, transform: Any, labelled: bool = True) -> None:
        self.inner, self.transform, self.labelled = inner, transform, labelled

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, i: int) -> Any:
        picture, label = self.inner[i]
        image = self.transform(v2.functional.pil_to_tensor(picture.convert("RGB")))
        if not self.labelled:
            return image
        return image, label if isinstance(label, int) else -1  # masks, boxes and the like are no labels


def load_images(source: str, size: int | None = None, root: Path = Path("data"), workers: int = 0) -> Images:
    """Training and test images of ``source``, and their labels.

    Args:
        source: an ``.npz`` with x_train and x_test, uint8 (N, H, W, C); a folder of pictures, however nested, with
            ``train`` and ``test`` (or ``val``) apart if it has these; or the name of a torchvision dataset, which is
            downloaded to ``root``. Where there is no test set, every twentieth image becomes one. Labels are y_train
            and y_test of an ``.npz``, and the subfolders of a folder in alphabetical order.
        size: height and width. Pictures are resized by their shorter side and cropped to the middle. Needed unless
            all images have one size.
        workers: processes that decode.
    """
    path = Path(source).expanduser()
    if source.endswith(".npz"):
        return _from_arrays(path, size)
    if path.is_dir():
        train, test = _folders(path)
    elif hasattr(datasets, source) and source[:1].isupper():
        train, test = _torchvision(source, root)
    else:
        raise ValueError(f"{source!r} is no .npz, no folder and no torchvision dataset (such as CIFAR10)")
    if test is None:
        everything = range(len(train))
        test = Subset(train, [i for i in everything if i % 20 == 0])
        train = Subset(train, [i for i in everything if i % 20])
    if size is None:
        first = v2.functional.pil_to_tensor(train[0][0].convert("RGB")).shape
        if first[1] != first[2]:
            raise ValueError(f"images of {source!r} are {first[1]}x{first[2]} and such; say --image-size")
        size = first[1]
    fixed = v2.Compose([v2.Resize(size, antialias=True), v2.CenterCrop(size)])
    test, test_labels = _load_all(_Pictures(test, fixed), workers)
    if 3 * size * size * len(train) <= IN_MEMORY:
        train, train_labels = _load_all(_Pictures(train, fixed), workers)
        return Images(train, test, path.name, train_labels, test_labels)
    crop = v2.RandomResizedCrop(size, scale=(0.08, 1.0), antialias=True)
    return Images(_Pictures(train, crop, labelled=False), test, path.name, None, test_labels)


def batches(
    train: Tensor | Dataset[Tensor], size: int, generator: torch.Generator, rank: int, world: int, workers: int
) -> Iterator[Tensor]:
    """One epoch: float batches in [0, 1], the share of ``rank`` of each batch of ``size``, in an order that
    ``generator`` (same on every rank) draws. What does not fill a batch is left out."""
    order = torch.randperm(len(train), generator=generator)  # type: ignore[arg-type]
    order = order[: len(order) // size * size].view(-1, size)[:, rank::world]
    if isinstance(train, Tensor):
        for rows in order.to(train.device):
            yield train[rows].float() / 255
        return
    for batch in DataLoader(train, batch_sampler=order.tolist(), num_workers=workers, generator=generator):
        yield batch.float() / 255


def _from_arrays(file: Path, size: int | None) -> Images:
    require("train", "numpy")
    import numpy as np

    if not file.exists():
        raise FileNotFoundError(f"there is no {file}")
    with np.load(file) as data:
        if missing := {"x_train", "x_test"} - set(data.files):
            raise ValueError(f"{file} has no {sorted(missing)}; it needs x_train and x_test, uint8 (N, H, W, C)")
        parts = [torch.from_numpy(data[name]) for name in ("x_train", "x_test")]
        labels = [torch.from_numpy(data[n]).long() if n in data.files else None for n in ("y_train", "y_test")]
    for part in parts:
        if part.dtype != torch.uint8 or part.ndim != 4 or part.shape[3] not in (1, 3):
            raise ValueError(f"{file} holds {part.dtype} of shape {tuple(part.shape)}, not uint8 (N, H, W, C)")
    train, test = (part.permute(0, 3, 1, 2).contiguous() for part in parts)
    if size is not None and train.shape[2:] != (size, size):
        train, test = (v2.functional.resize(part, [size, size], antialias=True) for part in (train, test))
    return Images(train, test, file.name, *labels)


def _folders(path: Path) -> tuple[Any, Any]:
    parts = [path / name for name in ("train", "test", "val") if (path / name).is_dir()]
    if len(parts) > 1 and parts[0].name == "train":
        train = _Files(parts[0])
        return train, _Files(parts[1], train.classes)
    return _Files(path), None


def _torchvision(name: str, root: Path) -> tuple[Any, Any]:
    build = getattr(datasets, name)
    for train, test in (({"train": True}, {"train": False}), ({"split": "train"}, {"split": "test"})):
        try:
            return build(root, download=True, **train), build(root, download=True, **test)
        except TypeError:  # other datasets have other arguments
            continue
    raise ValueError(f"torchvision's {name} has no train and test split; save it as an .npz or as a folder of pictures")


def _load_all(pictures: Dataset[Any], workers: int) -> tuple[Tensor, Tensor]:
    require("train", "tqdm")
    from tqdm import tqdm

    loader = DataLoader(pictures, batch_size=256, num_workers=workers)
    read = list(tqdm(loader, desc="reading images", unit="batch", leave=False))
    images, labels = (torch.cat(part) for part in zip(*read, strict=True))
    return images, labels
