"""The site: `make docs` builds it into build/docs, with every picture of the gallery, offline.

The source is the whole repository, so that links between its Markdown pages are the same here and on a forge.
"""

import re
import sys
import warnings
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from gallery_style import INSTALL, style  # noqa: E402

from idaa_transforms import __version__  # noqa: E402

project, author, copyright = "idaa_transforms", "The idaa_transforms developers", "The idaa_transforms developers"
version = release = __version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
]
root_doc = "docs/index"
include_patterns = [
    "docs/*.md",
    "docs/*/*.rst",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "examples/README.md",
    "examples/*/README.md",
    "benchmarks/README.md",
    "benchmarks/results/*.md",
    "benchmarks/results/*/table.md",
    "benchmarks/results/speed/speed.md",
    "weights/*/README.md",
]
exclude_patterns = [".*", "build", "data", "dist", "runs", "tests", "docs/_*", "docs/**/GALLERY_HEADER.*"]
exclude_patterns += ["examples/gallery/README.md"]  # the gallery for a forge; the site has the gallery itself
suppress_warnings = ["config.cache"]  # functions among the settings of the gallery

# Roles resolve, and what does not is an error. Offline, other projects' names have nowhere to lead to.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(collections|contextlib|kornia|numpy|os|pathlib|pytorch_lightning|torch|torchvision)\..*"),
    ("py:class", r"Dataset|Path|Tensor|Network|Linear|Clip|Loss"),  # in the fields of named tuples, and type aliases
    # What is inside, where a signature or a base names it.
    ("py:class", r"(.*\.)?(Bindable|Codec|HoldsAttack|Objective|Split|_RandomAttack|_RandomTransform)"),
    ("py:class", r".*\.AdversarialTransform"),
]

html_theme = "furo"
html_title = "idaa_transforms"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_additional_pages = {"index": "redirect.html"}  # the pages are in docs/
templates_path = [str(ROOT / "docs" / "_templates")]  # absolute, since autosummary looks from the source on
html_show_sphinx = False
highlight_language = "text"  # of indented blocks, which are commands; what is Python says so
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "a11y-high-contrast-dark"

myst_heading_anchors = 3
autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_use_rtype = False

sphinx_gallery_conf = {
    "examples_dirs": [str(ROOT / "examples" / "gallery"), str(ROOT / "examples" / "notebooks")],
    "gallery_dirs": ["docs/gallery", "docs/notebooks"],
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "reset_modules": ("matplotlib", style),
    "first_notebook_cell": INSTALL,
    "image_srcset": ["2x"],
    "show_signature": False,
    "write_computation_times": False,
    "download_all_examples": False,
    "remove_config_comments": True,
    "only_warn_on_example_error": False,
    "plot_gallery": "True",
}
# What the gallery has of its own accord and cannot do without.
warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")


def links(app: Any, docname: str, source: list[str]) -> None:
    """Links that a forge and the site understand differently: a script of the gallery leads to its page, a folder to
    its README, and a folder without one nowhere."""
    here = (ROOT / app.env.doc2path(docname)).parent

    def page(link: re.Match[str]) -> str:
        text, target = link.groups()
        path = (here / target).resolve()
        for folder in sphinx_gallery_conf["examples_dirs"]:
            if path.is_relative_to(folder) and path.suffix in ("", ".py"):
                name = "index" if path == Path(folder) else path.stem
                return f"[{text}](/docs/{Path(folder).name}/{name}.rst)"
        if not path.is_dir():
            return link[0]
        return f"[{text}]({target}/README.md)" if (path / "README.md").exists() else text

    source[0] = re.sub(r"(?<!!)\[([^\]]*)\]\(([^)#:]+)\)", page, source[0])


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", links)
