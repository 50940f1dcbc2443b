"""``idaa app``."""

from __future__ import annotations

import argparse

from .._util.extras import require


def app(args: argparse.Namespace) -> None:
    """Show views of pictures in a browser, for any eps. No data leaves this machine."""
    require("app", "numpy", "timm", "gradio")
    from ..app.models import Models
    from ..app.server import launch

    models = Models(args.weights, args.network)
    print(f"http://{args.host}:{args.port} (Ctrl-C stops it)", flush=True)
    launch(models, args.host, args.port)
