"""The gradio page around :func:`.view.make_view`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from .models import Models
from .page import CSS, describe, message_html, pictures_html, predictions_html
from .view import SAMPLES, SIZES, Picture, code_of, make_view, read, sample

MAX_BYTES, MAX_STEPS = 10_000_000, 20
DELETE_UPLOADS = (10, 30)
"""Uploads are read at once. Their files are looked for every so many seconds, and deleted at this age."""
HEAD = """# Harder for a network, still the same picture
Move *eps* and watch: the picture changes so that a neural network finds it harder, while you still see the same thing.
The reconstruction moves, the detail stays. How far can you go before a second network, the reference model, sees
something else?"""


def launch(models: Models, host: str = "127.0.0.1", port: int = 7860, block: bool = True) -> gr.Blocks:
    """Serve the app until Ctrl-C, or with ``block=False`` until ``close()`` of what is returned.

    Nothing leaves the machine: no analytics, no fonts or scripts from elsewhere.

    Raises:
        OSError: the port is taken.
    """
    page = build(models)
    page.queue(max_size=64)
    page.launch(
        server_name=host,
        server_port=port,
        share=False,
        prevent_thread_lock=not block,
        max_file_size=MAX_BYTES,
        quiet=True,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        footer_links=[],
        theme=_theme(),
        css=CSS,
    )
    return page


def build(models: Models) -> gr.Blocks:
    """The page, not yet served, with its first view."""

    def show(
        picture: Picture, size: int, weights: str, network: str, reference: str, eps: float, steps: int
    ) -> tuple[str, str, str]:
        """The view as HTML in two parts, and the Python that makes it; or what went wrong."""
        chosen = models, weights, network, reference, eps, steps
        try:
            view = make_view(picture.at(size), *chosen)
            html = pictures_html(view, picture.name), predictions_html(view, picture.is_sample)
            return *html, code_of(picture, size, *chosen)
        except Exception as error:  # whatever it is, the page says it
            return message_html(describe(error)), "", ""

    with gr.Blocks(
        title="IDAA: a hard view of a picture", analytics_enabled=False, delete_cache=DELETE_UPLOADS
    ) as page:
        gr.Markdown(HEAD)
        first = sample(SAMPLES[0])
        picture = gr.State(first)
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                pictures = gr.HTML(elem_id="pictures", min_height=180)
                eps = gr.Slider(**_eps_range(models, next(iter(models.weights))), label="eps: how far the view can go")
                predictions = gr.HTML(elem_id="predictions")
            with gr.Column(scale=2, min_width=320):
                gallery, file, told = _pictures()
                choices = _choices(models, eps)
        code = gr.Code(
            label="The same in Python", language="python", interactive=False, wrap_lines=True, elem_id="code"
        )
        results = [pictures, predictions, code]
        for result, value in zip(results, show(first, *(each.value for each in choices)), strict=True):
            result.value = value
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        gallery.select(_pick, None, [picture, told], **quiet)
        file.upload(_read, file, [picture, file, told, choices[0]], show_progress="hidden", api_name="upload")
        choices[1].input(lambda weights: gr.update(**_eps_range(models, weights)), choices[1], eps, **quiet)
        gr.on(
            [each.change for each in (picture, *choices)],
            show,
            [picture, *choices],
            results,
            trigger_mode="always_last",
            api_name="view",
            show_progress="hidden",
            concurrency_limit=1,  # the models are shared
        )
    return page


def _theme() -> Any:
    """Fonts that are on the machine, and small print that has the contrast of print (WCAG 2, AA)."""
    soft = {"body_text_color_subdued": "*neutral_600", "body_text_color_subdued_dark": "*neutral_300"}
    soft |= {"block_label_text_color": "*neutral_700", "block_info_text_color": "*neutral_600"}
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    return gr.themes.Default(**fonts).set(**soft)


def _eps_range(models: Models, weights: str) -> dict[str, float]:
    """The slider of eps begins at what these weights recommend."""
    eps = models.weights[weights][1].get("eps", 0.1)
    return {"minimum": 0, "maximum": 10 * eps, "value": eps, "step": eps / 10}


def _pictures() -> tuple[Any, Any, Any]:
    samples = [sample(row) for row in SAMPLES]
    gallery = gr.Gallery(
        [(each.squares[64], each.name) for each in samples],
        label="Pick a picture",
        columns=6,
        height="auto",
        allow_preview=False,
        object_fit="cover",
        buttons=[],
        format="png",
        interactive=False,
        elem_id="samples",
    )
    file = gr.File(label=f"or drop your own, up to {MAX_BYTES // 10**6} MB", height=150, elem_id="upload")
    return gallery, file, gr.HTML(elem_id="told")


def _choices(models: Models, eps: Any) -> list[Any]:
    """The controls, in the order of ``show``."""
    networks, first = list(models.networks), next(iter(models.networks))
    size = gr.Radio(list(SIZES), value=SIZES[0], label="Height and width of the picture in pixels")
    with gr.Accordion("More settings", open=False):
        weights = gr.Dropdown(list(models.weights), label="Weights of the autoencoder", filterable=False)
        network = gr.Dropdown(networks, value=first, label="Network that is attacked", filterable=False)
        reference = gr.Dropdown(networks, value="cifar10-reference", label="Reference model", filterable=False)
        steps = gr.Slider(1, MAX_STEPS, value=1, step=1, label="Steps")
    return [size, weights, network, reference, eps, steps]


def _pick(event: gr.SelectData) -> tuple[Picture, str]:
    return sample(SAMPLES[event.index]), ""


def _read(file: str) -> tuple[Any, None, str, Any]:
    """Read an uploaded picture, show it large, and empty the field for the next one."""
    try:
        picture = read(Path(file))
    except Exception as error:  # the picture before stays
        return gr.skip(), None, message_html(describe(error)), gr.skip()
    return picture, None, message_html(f"Your picture: {picture.name}", "status"), SIZES[-1]
