"""``idaa app``: see hard views in a browser. Only :mod:`.server` needs gradio."""
