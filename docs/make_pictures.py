"""The pictures that README and the pages show on a forge: python docs/make_pictures.py, after make docs.

Writes examples/gallery/README.md with the site's pictures of the gallery as WebP, and docs/cost.svg.
"""

import ast
import json
from pathlib import Path

import matplotlib as mpl
from gallery_style import GREY, style
from matplotlib.figure import Figure
from PIL import Image

ROOT = Path(__file__).parents[1]
GALLERY = ROOT / "examples" / "gallery"
WIDTH = 1100
COST = {  # case of benchmarks/results/speed/cpu-targets.json: what a user calls it
    "IDAA, grad=": "a hard view alone, by grad=",
    "IDAA, loss_fn=, the step's own anchor": "a hard view alone, by loss_fn=",
    "step: none": "training step with two random views",
    "step: IDAA in place of view 1, sharing a forward": "the same, a hard view in place of one",
    "step: IDAA, grad=": "the same, with a hard third view",
}


def gallery() -> None:
    """Each page's title, its first paragraph and its pictures."""
    parts = ["# Gallery of views", "`make pictures` writes this page. The code of each picture is behind its title."]
    for old in GALLERY.glob("*.webp"):
        old.unlink()
    for script in sorted(GALLERY.glob("plot_*.py")):
        heading, about, *_ = (ast.get_docstring(ast.parse(script.read_text())) or "").split("\n\n")
        title = heading.splitlines()[0]
        parts += [f"## [{title}]({script.name})", " ".join(about.split())]
        found = sorted((ROOT / "docs/gallery/images").glob(f"sphx_glr_{script.stem}_[0-9][0-9][0-9]_2_00x.png"))
        for number, file in enumerate(found, 1):
            image = Image.open(file)
            image.thumbnail((WIDTH, WIDTH))
            name = f"{script.stem.removeprefix('plot_')}_{number}.webp"
            image.save(GALLERY / name, quality=75, alpha_quality=50, method=6)
            parts.append(f"![{title}, picture {number}]({name})")
    (GALLERY / "README.md").write_text("\n\n".join(parts) + "\n")


def cost() -> None:
    """Bars: what a hard view and a training step with one cost, in training steps without."""
    rows = json.loads((ROOT / "benchmarks/results/speed/cpu-targets.json").read_text())["rows"]
    ms = {row["case"]: row["ms"]["median"] for row in rows if "ms" in row}
    style(None, "")
    mpl.rcParams.update({"svg.hashsalt": "cost", "svg.fonttype": "none"})  # the same file from the same numbers
    figure = Figure(figsize=(7.5, 2.4))
    axis = figure.subplots()
    shares = [ms[case] / ms["step: none"] for case in reversed(COST)]
    colours = ["#4878a8" if "IDAA" in case else GREY for case in reversed(COST)]
    bars = axis.barh(list(reversed(COST.values())), shares, color=colours, height=0.7)
    axis.bar_label(bars, [f"{share:.2f}" for share in shares], padding=4, color=GREY)
    axis.set(xlabel="time, in training steps with two random views", xlim=(0, 1.1 * max(shares)))
    figure.savefig(ROOT / "docs" / "cost.svg", metadata={"Date": None})


if __name__ == "__main__":
    gallery()
    cost()
