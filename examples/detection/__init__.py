"""Detection and instance segmentation on COCO folders, from backbones of examples/ssl."""
