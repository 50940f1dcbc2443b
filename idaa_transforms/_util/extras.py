"""Lazy imports of optional dependencies, with an error that names the extra."""

from __future__ import annotations

import importlib


def require(extra: str, *modules: str) -> None:
    """Raise an ImportError that names ``extra`` unless all ``modules`` can be imported."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ImportError(f"{module} is needed for this: pip install 'idaa_transforms[{extra}]'") from error
