"""Average precision (AP) of boxes and masks, by pycocotools.

    python -m examples.detection.evaluate runs/detection/RUN

AP is the mean over thresholds of the overlap (IoU) from .5 to .95, AP50 and AP75 are those at .5 and .75, each the mean
over categories, in [0, 1].
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, distributed
from torchvision.models.detection import FasterRCNN

from .coco import Coco

Detection = dict[str, Any]
KINDS = {"box": "bbox", "mask": "segm"}


@torch.inference_mode()
def predict(model: FasterRCNN, coco: Coco, images: list[int], device: torch.device | str) -> list[Detection]:
    """What the model finds in ``images``, as rows of a COCO result."""
    model.eval()
    categories, rows = list(coco.names), []
    for i in images:
        (found,) = model([coco.picture(i).to(device).float() / 255])
        boxes = torch.cat([found["boxes"][:, :2], found["boxes"][:, 2:] - found["boxes"][:, :2]], 1).tolist()
        masks = _encoded(found["masks"][:, 0] > 0.5) if "masks" in found else [None] * len(boxes)
        numbers = zip(boxes, found["labels"].tolist(), found["scores"].tolist(), masks, strict=True)
        for box, label, score, mask in numbers:
            row = {"image_id": i, "category_id": categories[label - 1], "bbox": box, "score": score}
            rows.append(row if mask is None else row | {"segmentation": mask})
    return rows


def _encoded(masks: Tensor) -> list[dict[str, Any]]:
    """Masks (n, H, W) as packed RLE."""
    return rle.encode(np.asfortranarray(masks.byte().permute(1, 2, 0).cpu().numpy())) if len(masks) else []


def average_precision(truth: dict[str, Any], found: list[Detection], kind: str, most: int = 100) -> dict[str, float]:
    """AP, AP50 and AP75.

    Args:
        truth: what is there, as :meth:`Coco.truth` gives it.
        found: rows of a COCO result.
        kind: "box" or "mask".
        most: detections of an image and category that count, those with the highest scores; COCO's is 100.
    """
    names = ("AP", "AP50", "AP75")
    if not found:
        return dict.fromkeys((f"{kind}_{name}" for name in names), 0.0)
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = COCO()
        theirs.dataset = copy.deepcopy(truth)
        theirs.createIndex()
        evaluator = COCOeval(theirs, theirs.loadRes(copy.deepcopy(found)), KINDS[kind])
        evaluator.params.maxDets = [most]
        evaluator.evaluate()
        evaluator.accumulate()
    precision = evaluator.eval["precision"][:, :, :, 0, -1]  # threshold, recall, category; -1: no such thing in truth
    chosen = (precision, precision[0], precision[5])
    return {f"{kind}_{name}": float(values[values > -1].mean()) for name, values in zip(names, chosen, strict=True)}


def evaluate(
    model: FasterRCNN, coco: Coco, images: list[int], device: torch.device | str, most: int, masks: bool
) -> dict[str, float]:
    """Metrics on ``images`` of a set, which the processes share; the same on each."""
    rank, world = (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
    shares = [predict(model, coco, images[rank::world], device)]
    if world > 1:
        mine, shares = shares[0], [[] for _ in range(world)]
        distributed.all_gather_object(shares, mine)
    found = sorted((row for share in shares for row in share), key=lambda row: row["image_id"])
    truth = coco.truth(images, masks)
    metrics: dict[str, float] = {}
    for kind in KINDS if masks else ("box",):
        metrics |= average_precision(truth, found, kind, most)
    return metrics


def main(folder: Path) -> dict[str, float]:
    """Evaluate the checkpoint in the folder of a run; print the metrics."""
    from .train import load

    config, model, coco, images = load(folder)
    metrics = evaluate(model, coco, images, config.device, config.detections, config.masks)
    print(json.dumps(metrics, indent=1))
    return metrics


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        main(Path(sys.argv[1]))
    except (ValueError, OSError) as error:
        sys.exit(f"evaluate: {error}")
