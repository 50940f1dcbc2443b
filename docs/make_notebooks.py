"""The notebooks of examples/notebooks, from the scripts beside them: python docs/make_notebooks.py"""

import json
from pathlib import Path

from gallery_style import INSTALL
from sphinx_gallery.gen_gallery import DEFAULT_GALLERY_CONF
from sphinx_gallery.notebook import jupyter_notebook
from sphinx_gallery.py_source_parser import split_code_and_text_blocks

FOLDER = Path(__file__).parents[1] / "examples" / "notebooks"


def notebook(script: Path) -> str:
    """The notebook of a script, without outputs: a cell that installs, then its cells."""
    _, blocks = split_code_and_text_blocks(script)
    made = jupyter_notebook(blocks, DEFAULT_GALLERY_CONF | {"first_notebook_cell": INSTALL}, FOLDER)
    made["metadata"]["language_info"] = {"name": "python"}  # of which Python does not matter
    made["nbformat_minor"] = 5
    for number, cell in enumerate(made["cells"]):
        cell["id"] = f"cell-{number}"
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for script in sorted(FOLDER.glob("*.py")):
        script.with_suffix(".ipynb").write_text(notebook(script))
        print(script.with_suffix(".ipynb").name)
