"""InfoMin: Tian et al., NeurIPS 2020: MoCo on views that share less, by stronger augmentation (section 4 there).

The augmentation is the paper's InfoMin Aug as far as 32 pixels go: crops, strong colour jitter and RandAugment, without
blur. Its second branch, which matches an image with its own shuffled tiles (a jigsaw), is left out.
"""

from __future__ import annotations

from .moco import MoCo


class InfoMin(MoCo):
    """MoCo at the temperature of InfoMin, with its augmentation."""

    recipe = MoCo.recipe | {"crop": 0.2, "randaugment": 2}
    temperature = 0.15
