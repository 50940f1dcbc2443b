"""``idaa app`` as a Space of the Hugging Face Hub: push this folder to one. ``python app.py`` runs it here."""

import os

from idaa_transforms.app.models import Models
from idaa_transforms.app.server import launch

launch(
    Models(),
    os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0"),  # a Space is there for others
    int(os.environ.get("GRADIO_SERVER_PORT", 7860)),
)
