"""Pictures on a disk, for tests of what reads them."""

from PIL import Image

from idaa_transforms.sample import cifar10_sample

PICTURES = [p.permute(1, 2, 0).numpy() for p in (cifar10_sample()[0] * 255).round().byte()]


def write(folder, pictures, size=None):
    """Numbered PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, picture in enumerate(pictures):
        image = Image.fromarray(picture)
        (image.resize(size) if size else image).save(folder / f"{i:03}.png")
