"""Where pictures come from: a folder of them, a folder of shards, or a dataset of torchvision."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torchvision import datasets

from .folder import Found, class_names, split_folder
from .pictures import shown
from .reading import Files, Named, Source
from .shards import has_shards, open_shards


def open_source(
    source: str, found: Found, root: Path, exclude: Iterable[Path] = (), download: bool = True
) -> tuple[Source, Source | None] | None:
    """The pictures of ``source``, to train on and, if it says so, to test on; None if they are arrays in a file."""
    path = Path(source).expanduser()
    if path.is_dir() and has_shards(path):
        train, test, classes = open_shards(path)
        for part in (train, test) if test else (train,):
            found.classes.update(classes[i] if 0 <= i < len(classes) else str(i) for i in part.labels)
        return train, test
    if path.is_dir():
        return _folder(path, found, exclude)
    if path.exists() or source.lower().endswith((".npz", ".npy")):
        return None
    if source[:1].isupper() and isinstance(getattr(datasets, source, None), type):
        return _torchvision(source, root, download)
    raise ValueError(f"{source!r} is no .npz or .npy, no folder and no torchvision dataset (such as CIFAR10)")


def _folder(path: Path, found: Found, exclude: Iterable[Path]) -> tuple[Files, Files | None]:
    parts = split_folder(path, found, exclude)
    names = [class_names(folder, files) for folder, files in parts]
    classes = sorted(set(names[0]) - {""})
    found.classes.update(name for part in names for name in part if name)
    places = {name: i for i, name in enumerate(classes)}
    sources = [Files(files, [places.get(n, -1) for n in part]) for (_, files), part in zip(parts, names, strict=True)]
    return sources[0], sources[1] if len(sources) > 1 else None


def _torchvision(name: str, root: Path, download: bool) -> tuple[Named, Named]:
    build = getattr(datasets, name)
    for train, test in (({"train": True}, {"train": False}), ({"split": "train"}, {"split": "test"})):
        try:
            parts = [build(root, download=download, **which) for which in (train, test)]
        except TypeError:  # other datasets have other arguments
            continue
        except (OSError, RuntimeError) as error:  # RuntimeError: not there, or damaged
            reason = " ".join(str(error).split()) if download else "which was forbidden"
            there = shown(root / getattr(build, "base_folder", name))
            raise ValueError(
                f"torchvision's {name} is not in {shown(root)} and could not be downloaded ({reason}): copy {there} "
                "from a machine that has it, or name an .npz (x_train, y_train, x_test, y_test) or a folder of pictures"
            ) from error
        return Named(parts[0], name), Named(parts[1], name)
    raise ValueError(f"torchvision's {name} has no train and test split; save it as an .npz or as a folder of pictures")
