"""How the pictures of the gallery look, and how its notebooks begin."""

from typing import Any

INSTALL = "# This needs idaa_transforms with its extras: run pip install '.[docs]' in a clone.\n"

GREY = "#7d7d7d"  # text that can be read on white and on black: the background is that of the page


def style(gallery: Any, file: str) -> None:
    """Before each script: one look for the light and the dark scheme."""
    import matplotlib as mpl

    colours = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "axes.titlecolor")
    mpl.rcParams.update(dict.fromkeys(colours, GREY))
    mpl.rcParams.update({"figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none"})
    mpl.rcParams.update({"legend.frameon": False, "figure.constrained_layout.use": True, "font.size": 10})
    mpl.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "image.interpolation": "nearest"})
