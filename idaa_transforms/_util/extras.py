"""What is not needed by the core is imported where it is used, and asked for by the name of its extra."""

from __future__ import annotations

import importlib


def require(extra: str, *modules: str) -> None:
    """Raise an ImportError that names ``extra`` unless all ``modules`` can be imported."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ImportError(f"{module} is needed for this: pip install 'idaa_transforms[{extra}]'") from error
