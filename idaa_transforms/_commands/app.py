"""The command that shows views in a browser."""

from __future__ import annotations

import argparse

from .._util.extras import require


def app(args: argparse.Namespace) -> None:
    """Show in a browser what a view of a picture is: change eps and see. Nothing leaves this machine."""
    require("app", "numpy", "timm", "gradio")
    from ..app.models import Models
    from ..app.server import launch

    models = Models(args.weights, args.network)
    print(f"http://{args.host}:{args.port} (Ctrl-C ends it)", flush=True)
    launch(models, args.host, args.port)
