"""``idaa app``: see in a browser what a view is. Only :mod:`.server` needs gradio."""
