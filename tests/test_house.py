"""The shape of the package: imports run one way, and nothing is too long to read at once."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "idaa_transforms"
FILES = sorted(ROOT.rglob("*.py"))
FOUND = {file.relative_to(ROOT).with_suffix("").parts[0] for file in FILES}
LEVELS = (  # what stands in one line knows only the lines above it
    ("_version", "losses", "schedule", "replay"),
    ("util",),
    ("autoencoders",),
    ("core",),
    ("objectives", "pipelines", "batchnorm", "hub"),
    ("transform",),
    ("kornia", "lightning"),
    ("training",),
    ("measure",),
    ("app", "demo"),
    ("commands",),
    ("cli",),
    ("__init__",),  # its names lead everywhere, lazily
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}


def room(parts):
    """The sub-package or the module at the top that a dotted path below the package leads to."""
    return parts[0] if parts and parts[0] in FOUND else "__init__"


def imported(file, text):
    """The rooms that a file imports from, also inside functions and for types alone."""
    package = file.relative_to(ROOT).parent.parts
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
        yield from (room(parts[1:]) for parts in modules if parts[0] == ROOT.name)


def wrong(file, text):
    """What a file imports from its own level or above, its own room aside."""
    own = room(file.relative_to(ROOT).with_suffix("").parts)
    return sorted({other for other in imported(file, text) if other != own and LEVEL[other] >= LEVEL[own]})


def code_lines(function):
    """From the first statement below the docstring to the end."""
    body = function.body[1:] if ast.get_docstring(function) is not None and len(function.body) > 1 else function.body
    return function.end_lineno - body[0].lineno + 1


def test_every_room_has_a_level():
    assert set(LEVEL) == FOUND


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_run_one_way(file):
    assert wrong(file, file.read_text()) == []


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("core/x.py", "from ..training.run import y", ["training"]),
        ("core/x.py", "from .. import transform", ["transform"]),
        ("core/x.py", "def f():\n    from idaa_transforms import hub", ["hub"]),
        ("core/x.py", "import idaa_transforms.cli", ["cli"]),
        ("core/x.py", "from .. import IDAATransform", ["__init__"]),
        ("core/x.py", "from .y import z\nfrom ..autoencoders import conv\nimport torch", []),
        ("util/x.py", "from ..core.settings import y", ["core"]),
        ("hub/x.py", "from ..pipelines import y", ["pipelines"]),
        ("transform.py", "from .kornia import y\nfrom .hub import z", ["kornia"]),
    ],
)
def test_an_import_that_runs_back_up_is_found(file, text, found):
    assert wrong(ROOT / file, text) == found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_nothing_is_too_long_to_read(file):
    text = file.read_text()
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert {f.name: code_lines(f) for f in functions if code_lines(f) >= 60} == {}
    assert text.count("\n") <= 260  # about 250
