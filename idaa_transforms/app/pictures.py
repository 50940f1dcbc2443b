"""What a view is made of: a picture that comes with the package, or one that somebody uploaded."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

from torch import Tensor
from torchvision.transforms.v2.functional import resize

from ..sample import CLASSES, LABELS, cifar10_sample
from ..training.pictures import read_header, read_picture
from ..training.reading import middle_square

SIZES = (32, 64, 128, 224)
"""Height and width that a picture is shown and changed at."""
SAMPLES = (1, 3, 6, 25, 0, 22, 12, 4, 13, 11, 8, 16)
"""Of the 64 that the package has; each class is there."""
MOST_BYTES, MOST_PIXELS = 10_000_000, 16_000_000
"""Of an upload."""


class Sample(NamedTuple):
    """A test image of CIFAR-10, by its row in :func:`~idaa_transforms.sample.cifar10_sample`."""

    row: int

    @property
    def name(self) -> str:
        """Its class."""
        return CLASSES[LABELS[self.row]]

    def at(self, size: int) -> Tensor:
        """Float (1, 3, size, size) in [0, 1]."""
        x = cifar10_sample()[0][self.row : self.row + 1]
        return x if size == x.shape[-1] else resize(x, [size, size], antialias=True).clamp(0, 1)

    def code(self, size: int) -> tuple[list[str], str]:
        """Imports, and the line that makes x."""
        imports = ["from idaa_transforms.sample import cifar10_sample"]
        x = f"cifar10_sample()[0][{self.row}:{self.row + 1}]"
        if size == 32:
            return imports, f"x = {x}"
        imports.append("from torchvision.transforms.v2.functional import resize")
        return imports, f"x = resize({x}, [{size}, {size}], antialias=True).clamp(0, 1)"


class Upload(NamedTuple):
    """A picture of the user's: the square in its middle at each of :data:`SIZES`, and nothing else of it."""

    name: str
    squares: dict[int, Tensor]

    def at(self, size: int) -> Tensor:
        """Float (1, 3, size, size) in [0, 1]."""
        return self.squares[size][None] / 255

    def code(self, size: int) -> tuple[list[str], str]:
        """Imports, and the line that makes x of the file in the working folder."""
        imports = [
            "from pathlib import Path",
            "from idaa_transforms.training.pictures import read_picture",
            "from idaa_transforms.training.reading import middle_square",
        ]
        return imports, f"x = middle_square(read_picture(Path({self.name!r}), channels=3), {size})[None] / 255"


def read_upload(file: Path) -> Upload:
    """The picture in ``file``, by the package's own loader.

    Raises:
        ValueError: it is no picture, damaged, or too large; one line that names the file, without its folder.
    """
    try:
        if (size := file.stat().st_size) > MOST_BYTES:
            most = f"up to {MOST_BYTES // 10**6} are taken"
            raise ValueError(f"{file}: has {size / 1e6:.0f} MB, and {most}; scale it down")
        height, width = read_header(file).size
        if height * width > MOST_PIXELS:
            most = f"up to {MOST_PIXELS:,} pixels are taken"
            raise ValueError(f"{file}: is {width:,} x {height:,} pixels, and {most}; scale it down")
        pixels = read_picture(file, channels=3)
    except (ValueError, OSError) as error:
        raise ValueError(str(error).replace(f"{file.parent}/", "")) from None
    return Upload(file.name, {size: middle_square(pixels, size) for size in SIZES})


class Uploads:
    """The latest picture of each visitor, in memory, until the visitor leaves; and of no more than ``most``."""

    def __init__(self, most: int = 200) -> None:
        self._most, self._kept = most, OrderedDict[str, Upload]()

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, visitor: str, upload: Upload) -> None:
        """Remember it; where there are too many, the oldest is forgotten."""
        self._kept.pop(visitor, None)
        self._kept[visitor] = upload
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)

    def of(self, visitor: str) -> Upload:
        """The picture of ``visitor``.

        Raises:
            ValueError: there is none any more.
        """
        upload = self._kept.get(visitor)
        if upload is None:
            raise ValueError("your picture is no longer here; upload it again, or pick one")
        return upload

    def forget(self, visitor: str) -> None:
        """Nothing of ``visitor`` is kept."""
        self._kept.pop(visitor, None)
