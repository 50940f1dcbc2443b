"""The shape of the package: imports run one way, and what is private stays out of what users read."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "idaa_transforms"
FILES = sorted(ROOT.rglob("*.py"))
FOUND = {file.relative_to(ROOT).with_suffix("").parts[0] for file in FILES}
LEVELS = (  # what stands in one line knows only the lines above it
    ("_version", "losses", "random"),
    ("_util", "preserve"),
    ("sample",),
    ("autoencoders", "_core"),
    ("functional", "hub"),
    ("guard", "objectives", "batchnorm"),
    ("transforms",),
    ("kornia", "lightning", "__init__"),
    ("training",),
    ("measure",),
    ("app", "demo"),
    ("_commands",),
    ("cli",),
    ("__init__",),  # its names lead everywhere, lazily
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}


def room(parts):
    """The sub-package or the module at the top that a dotted path below the package leads to."""
    return parts[0] if parts and parts[0] in FOUND else "__init__"


def imported(file, text):
    """The dotted paths below the package that a file imports, also inside functions and for types alone."""
    package = file.relative_to(ROOT).parent.parts if file.is_relative_to(ROOT) else ()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            modules = [name.name.split(".") for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module.split(".") if node.module else []
            if node.level:
                module = [ROOT.name, *package[: len(package) + 1 - node.level], *module]
            modules = [[*module, name.name] for name in node.names]
        else:
            continue
        yield from (parts[1:] for parts in modules if parts[0] == ROOT.name)


def wrong(file, text):
    """What a file imports from its own level or above, its own room aside."""
    own, rooms = room(file.relative_to(ROOT).with_suffix("").parts), map(room, imported(file, text))
    return sorted({other for other in rooms if other != own and LEVEL[other] >= LEVEL[own]})


def test_every_room_has_a_level():
    assert set(LEVEL) == FOUND


def test_imports_run_one_way():
    assert {str(file): wrong(file, file.read_text()) for file in FILES if wrong(file, file.read_text())} == {}


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("hub/x.py", "from ..training.run import y", ["training"]),
        ("hub/x.py", "def f():\n    from idaa_transforms import kornia", ["kornia"]),
        ("hub/x.py", "from .y import z\nfrom ..autoencoders import conv\nimport torch", []),
        ("losses.py", "from .kornia import y\nfrom .hub import z", ["hub", "kornia"]),
    ],
)
def test_an_import_that_runs_back_up_is_found(file, text, found):
    assert wrong(ROOT / file, text) == found


def test_examples_import_what_is_public():
    """The scripts of one page and the gallery."""
    scripts = [*ROOT.parent.glob("examples/*.py"), *ROOT.parent.glob("examples/gallery/*.py")]
    private = {
        ".".join(parts)
        for file in scripts
        for parts in imported(file, file.read_text())
        if any(part.startswith("_") for part in parts)
    }
    assert private == set()
