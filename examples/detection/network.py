"""Faster and Mask R-CNN of torchvision around a backbone of ours, with a feature pyramid (FPN) or on one level (C4).

FPN: Lin et al., CVPR 2017. C4: He et al., ICCV 2017, section 3: proposals from the third stage, and the fourth stage is
the head of boxes and of masks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign

from examples.shared.backbones import Backbone, load_backbone
from examples.shared.parallel import synchronise

from .config import Config

STAGES = ("layer1", "layer2", "layer3", "layer4")
LEVELS = ("0", "1", "2", "3")
RATIOS = (0.5, 1.0, 2.0)


class FrozenNorm(nn.BatchNorm2d):
    """Batch norm that keeps its statistics, also in training."""

    def train(self, mode: bool = True) -> FrozenNorm:
        """Always in eval mode."""
        return super().train(False)


def start(config: Config, weights: bool = True) -> Backbone:
    """The backbone that a run starts from; without ``weights`` only its shape counts.

    Raises:
        ValueError: it is no ResNet of timm, or cannot be loaded.
    """
    found = load_backbone(config.backbone, pretrained=weights and not config.scratch)
    network = found.network
    if missing := [
        name for name in ("conv1", "bn1", *STAGES) if not isinstance(getattr(network, name, None), nn.Module)
    ]:
        raise ValueError(
            f"{config.backbone!r} is a {type(network).__name__} and has no {missing[0]}; a ResNet of timm is needed"
        )
    if config.scratch:
        for module in network.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        network.init_weights()
    return found


def build(config: Config, backbone: Backbone, classes: int) -> FasterRCNN:
    """The detector.

    Args:
        config: of the run.
        backbone: changed in place: it becomes part of the detector.
        classes: with the background.
    """
    network = backbone.network
    still = ("conv1", "bn1", *STAGES)[: config.freeze + 1 if config.freeze else 0]
    for part in [network] if config.norm == "frozen" else [getattr(network, name) for name in still]:
        for module in part.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.__class__ = FrozenNorm
                module.requires_grad_(False)
    for name in still:
        getattr(network, name).requires_grad_(False)
    parts = (_pyramid if config.neck == "fpn" else _one_level)(config, network, classes)
    if not config.masks:
        parts = {name: part for name, part in parts.items() if not name.startswith("mask")}
    limits = {"rpn_pre_nms_top_n_train": config.proposals, "rpn_post_nms_top_n_train": min(2000, config.proposals)}
    limits |= {"rpn_pre_nms_top_n_test": config.proposals // 2, "rpn_post_nms_top_n_test": min(1000, config.proposals)}
    limits |= {"box_batch_size_per_image": config.rois, "box_detections_per_img": config.detections}
    scaling = {
        "min_size": config.test_size,
        "max_size": config.longest,
        "_skip_resize": True,
    }  # done already in training
    statistics = {"image_mean": list(backbone.mean), "image_std": list(backbone.std)}
    model = (MaskRCNN if config.masks else FasterRCNN)(**parts, **limits, **scaling, **statistics)
    if distributed.is_initialized():
        for module in model.modules():
            if type(module) is nn.BatchNorm2d:
                synchronise(module)
    if config.bf16:
        _in_bfloat16(model, torch.device(config.device).type)
    return model


def _pyramid(config: Config, network: nn.Module, classes: int) -> dict[str, Any]:
    """An FPN over the four stages and a pooled fifth level, and light heads."""
    norm, width = nn.BatchNorm2d if config.norm == "batch" else None, config.width
    sizes, strides = _look(network)
    body = BackboneWithFPN(network, dict(zip(STAGES, LEVELS, strict=True)), sizes, width, norm_layer=norm)
    anchors = tuple((config.anchor * stride,) for stride in [*strides, 2 * strides[-1]])
    return {
        "backbone": body,
        "rpn_anchor_generator": AnchorGenerator(anchors, (RATIOS,) * len(anchors)),
        "box_roi_pool": MultiScaleRoIAlign(LEVELS, 7, 2),
        "box_head": TwoMLPHead(width * 7 * 7, config.head),
        "box_predictor": FastRCNNPredictor(config.head, classes),
        "mask_roi_pool": MultiScaleRoIAlign(LEVELS, 14, 2),
        "mask_head": MaskRCNNHeads(width, (width,) * 4, 1, norm_layer=norm),
        "mask_predictor": MaskRCNNPredictor(width, width, classes),
    }


def _one_level(config: Config, network: nn.Module, classes: int) -> dict[str, Any]:
    """Proposals from the third stage; the fourth is the head of boxes and masks, which share it. Batch norm follows it
    where it is trained, since these heads have no other new layer that could set the scale (He et al., CVPR 2020)."""
    sizes, strides = _look(network)
    body = IntermediateLayerGetter(network, {"layer3": "0"})
    body.out_channels = sizes[2]
    after = [nn.BatchNorm2d(sizes[3])] if config.norm == "batch" else []
    last = nn.Sequential(network.layer4, *after)
    anchors = tuple(config.anchor * strides[2] * factor for factor in (0.25, 0.5, 1, 2, 4))
    return {
        "backbone": body,
        "rpn_anchor_generator": AnchorGenerator((anchors,), (RATIOS,)),
        "box_roi_pool": MultiScaleRoIAlign(["0"], 14, 2),
        "box_head": nn.Sequential(last, nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        "box_predictor": FastRCNNPredictor(sizes[3], classes),
        "mask_roi_pool": MultiScaleRoIAlign(["0"], 14, 2),
        "mask_head": last,
        "mask_predictor": MaskRCNNPredictor(sizes[3], config.width, classes),
    }


@torch.no_grad()
def _look(network: nn.Module) -> tuple[list[int], list[int]]:
    """Channels and strides of the four stages, which depend on the stem."""
    mode, side = network.training, 64
    stages = IntermediateLayerGetter(network.eval(), dict(zip(STAGES, LEVELS, strict=True)))
    found = stages(torch.zeros(1, 3, side, side)).values()
    network.train(mode)
    return [x.shape[1] for x in found], [side // x.shape[2] for x in found]


def _in_bfloat16(model: FasterRCNN, kind: str) -> None:
    """Autocast the convolutions. What they make is float32 again: coordinates need its precision."""

    def cast(forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(x: Any) -> Any:
            with torch.autocast(kind, torch.bfloat16):
                return _float(forward(x))

        return run

    parts = [model.backbone, model.rpn.head, model.roi_heads.box_head]
    for part in [*parts, model.roi_heads.mask_head, model.roi_heads.mask_predictor]:
        if part is not None:
            part.forward = cast(part.forward)


def _float(x: Any) -> Any:
    if isinstance(x, Tensor):
        return x.float()
    return {k: _float(v) for k, v in x.items()} if isinstance(x, dict) else type(x)(map(_float, x))
