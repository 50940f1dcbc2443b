"""A picture of what a detector finds: above the annotation, below its own masks or, of Faster R-CNN, boxes.

    python -m examples.detection.picture runs/detection/RUN OUT.png 0 7 12

The numbers are those of test images, in the order of the file of annotations; default: the first four.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from pycocotools import mask as rle
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from torchvision.utils import draw_bounding_boxes, draw_segmentation_masks, make_grid

from idaa_transforms._util.files import write_whole

from .evaluate import predict
from .train import load

SURE = 0.5  # of what is found, the scores that are shown
COLOURS = ("#e6194b", "#3cb44b", "#ffe119", "#4363d8", "#f58231", "#911eb4", "#42d4f4", "#f032e6", "#bfef45", "#fabed4")


def draw(image: Tensor, boxes: Tensor, masks: Tensor | None) -> Tensor:
    """An image (3, H, W), uint8, with masks (n, H, W) of objects or else their boxes (n, 4), each in its colour."""
    colours = [COLOURS[i % len(COLOURS)] for i in range(len(boxes))]
    if not colours:
        return image
    if masks is None:
        return draw_bounding_boxes(image, boxes, colors=colours, width=2)
    for mask, colour in zip(masks.bool(), colours, strict=True):  # at once, they would be black where they overlap
        image = draw_segmentation_masks(image, mask, alpha=0.6, colors=colour)
    return image


def main(folder: Path, out: Path, places: list[int]) -> None:
    """Draw some test images."""
    config, model, coco, images = load(folder)
    chosen = [images[place] for place in places]
    found = predict(model, coco, chosen, config.device)
    above, below = [], []
    for i in chosen:
        picture, truth = coco.picture(i), coco.target(i, config.masks)
        rows = [row for row in found if row["image_id"] == i and row["score"] >= SURE]
        boxes = torch.tensor([row["bbox"] for row in rows]).view(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        masks = None
        if config.masks and rows:
            masks = torch.from_numpy(rle.decode([row["segmentation"] for row in rows])).permute(2, 0, 1)
        above.append(draw(picture, truth["boxes"], truth.get("masks")))
        below.append(draw(picture, boxes, masks))
    size = [config.test_size] * 2
    tiles = [F.center_crop(picture, size) for picture in above + below]
    grid = make_grid(torch.stack(tiles), nrow=len(chosen), padding=6, pad_value=255)
    small = F.to_pil_image(grid).quantize(128)  # few colours: a small file
    write_whole(out, lambda stream: small.save(stream, format="PNG", optimize=True))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        main(Path(sys.argv[1]), Path(sys.argv[2]), [int(word) for word in sys.argv[3:]] or [0, 1, 2, 3])
    except (ValueError, OSError, IndexError) as error:
        sys.exit(f"picture: {error}")
