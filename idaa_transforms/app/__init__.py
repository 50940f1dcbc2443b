"""``idaa app``: see in a browser what a view is. Without gradio but for :mod:`.server`."""
