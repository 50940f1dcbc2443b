"""The random augmentation that the VAEs are trained on."""

from __future__ import annotations

from torch import Tensor, nn


def ssl_augmentation(size: tuple[int, int], crop: bool = True) -> nn.Module:
    """SimCLR's random augmentation without blur, on batches in [0, 1]: what the paper trains its VAEs on.

    Images of other than three channels are cropped and flipped only: there is no colour to change.
    """
    import kornia.augmentation as K

    return nn.Sequential(
        K.RandomResizedCrop(size, scale=(0.08, 1.0)) if crop else nn.Identity(),
        K.RandomHorizontalFlip(),
        _InColour(K.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8), K.RandomGrayscale(p=0.2)),
    )


class _InColour(nn.Sequential):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.shape[1] == 3 else x
