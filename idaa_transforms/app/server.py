"""The page: gradio around :func:`.view.make_view`. What it says is in :mod:`.page`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from .code import code_of
from .models import Models
from .page import CSS, error_html, note_html, result_html, said
from .pictures import MOST_BYTES, SAMPLES, SIZES, Sample, Upload, Uploads, read_upload
from .view import MOST_STEPS, Setup, make_view

EPS = {"linf": (1.0, 0.1), "l2": (20.0, 2.0)}
"""For each norm: the end of the slider, and where it starts."""
KEPT = (10, 30)
"""Uploads are read at once. How often, in seconds, their files are looked for, and at what age they are deleted."""
_HEAD = (
    "# A hard view of a picture\n"
    "x' = R(x) + D(E(x) + delta): the step delta, at most *eps* long, raises the loss of the network. "
    "R(x) stays as it is. A larger *eps* makes the view harder, and costs identity: look at the judge."
)


def launch(desk: Desk, host: str = "127.0.0.1", port: int = 7860, block: bool = True) -> gr.Blocks:
    """Serve the app until Ctrl-C, or with ``block=False`` until ``close()`` of what is returned.

    Nothing leaves the machine: no analytics, no fonts or scripts from elsewhere.

    Raises:
        OSError: the port is taken.
    """
    page = build(desk)
    page.queue(max_size=64)
    page.launch(
        server_name=host,
        server_port=port,
        share=False,
        prevent_thread_lock=not block,
        max_file_size=MOST_BYTES,
        quiet=True,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        footer_links=[],
        theme=_theme(),
        css=CSS,
    )
    return page


def build(desk: Desk) -> gr.Blocks:
    """The page, not yet served; its first view is made now."""
    with gr.Blocks(title="IDAA: a hard view of a picture", analytics_enabled=False, delete_cache=KEPT) as page:
        gr.Markdown(_HEAD)
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                sample = gr.State(SAMPLES[0])
                gallery, file, told = _pictures()
                choices = _choices(desk.models)
            with gr.Column(scale=2, min_width=300, elem_id="result-column"):
                first = desk.show(SAMPLES[0], *(each.value for each in choices))
                shown = gr.HTML(first[0], elem_id="result", min_height=320)
                code = gr.Code(
                    first[1],
                    label="The same in Python",
                    language="python",
                    interactive=False,
                    wrap_lines=True,
                    elem_id="code",
                )
        _connect(desk, page, sample, gallery, file, told, choices, [shown, code])
    return page


def _connect(
    desk: Desk, page: Any, sample: Any, gallery: Any, file: Any, told: Any, choices: list[Any], results: list[Any]
) -> None:
    show: dict[str, Any] = {"fn": desk.show, "inputs": [sample, *choices], "outputs": results, "concurrency_limit": 1}
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    private = show | {"api_visibility": "private"}
    gallery.select(desk.pick, None, [sample, told], **quiet).then(**private)
    file.upload(desk.read, [file], [sample, file, told], show_progress="hidden", api_name="upload").then(**private)
    eps, norm = choices[4], choices[5]
    norm.input(_eps_for, norm, eps, **quiet).then(**private)
    changes = [each.change for each in choices if each is not norm]
    gr.on(changes, **show, trigger_mode="always_last", api_name="view", show_progress="minimal")
    page.unload(desk.leave)


def _theme() -> Any:
    """Fonts that are on the machine, and small print that has the contrast of print (WCAG 2, AA)."""
    soft = {"body_text_color_subdued": "*neutral_600", "body_text_color_subdued_dark": "*neutral_300"}
    soft |= {"block_label_text_color": "*neutral_700", "block_info_text_color": "*neutral_600"}
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    return gr.themes.Default(**fonts).set(**soft)


def _pictures() -> tuple[Any, Any, Any]:
    values = [(Sample(i).at(64)[0].permute(1, 2, 0).numpy(), Sample(i).name) for i in SAMPLES]
    gallery = gr.Gallery(
        values,
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
    file = gr.File(label=f"or drop your own, up to {MOST_BYTES // 10**6} MB", height=150, elem_id="upload")
    told = gr.HTML(elem_id="told")
    return gallery, file, told


def _choices(models: Models) -> list[Any]:
    """The controls, in the order of :meth:`Desk.show`."""
    start, default = EPS["linf"][1], Setup()
    weights = gr.Dropdown(list(models.names), value=models.names[0], label="Weights", filterable=False)
    network = gr.Dropdown(
        list(models.networks), value=models.networks[0], label="Network that is attacked", filterable=False
    )
    judge = gr.Dropdown(list(models.networks), value=default.judge, label="Judge", filterable=False)
    size = gr.Radio(list(SIZES), value=default.size, label="Pixels: height and width of the picture")
    eps = gr.Slider(0, EPS["linf"][0], value=start, step=0.01, label="eps: how far delta may go")
    norm = gr.Radio(["linf", "l2"], value=default.norm, label="Norm of delta that eps bounds")
    steps = gr.Slider(1, MOST_STEPS, value=default.steps, step=1, label="Steps")
    scale = gr.Radio(
        [("latent: its spread over images", "latent"), ("posterior: its own uncertainty", "posterior")],
        value=default.scale,
        label="Scale: the unit of eps",
    )
    gain = gr.Slider(0, 5, value=0, step=0.1, label="Target gain of the loss (0: all that eps allows)")
    guard = gr.Slider(0, 1, value=0, step=0.01, label="Guard: likeness that the judge has to see (0: none)")
    return [weights, network, judge, size, eps, norm, steps, scale, gain, guard]


def _eps_for(norm: str) -> Any:
    """The slider of eps for a norm: a vector of 512 numbers is long before one of them is large."""
    most, start = EPS[norm]
    return gr.update(maximum=most, value=start, step=most / 100)


class Desk:
    """Answers the page's events. Of visitors it remembers their latest picture alone, until they leave."""

    def __init__(self, models: Models) -> None:
        self.models, self.uploads = models, Uploads()

    def show(
        self,
        sample: int | None,
        weights: str,
        network: str,
        judge: str,
        size: int,
        eps: float,
        norm: str,
        steps: int,
        scale: str,
        gain: float,
        guard: float,
        request: gr.Request | None = None,
    ) -> tuple[str, str]:
        """The view as HTML, and the Python that makes it; of an error, what it is."""
        try:
            picture = self._picture(sample, request)
            setup = Setup(
                weights, network, judge, int(size), float(eps), norm, steps, scale, gain or None, guard or None
            )
            result = make_view(picture.at(setup.size), setup, self.models)
            return result_html(result, picture.name), code_of(picture, setup, self.models)
        except Exception as error:  # whatever it is, the page says it
            return error_html(said(error)), ""

    def _picture(self, sample: int | None, request: gr.Request | None) -> Sample | Upload:
        if sample is None:
            return self.uploads.of(_visitor(request))
        return Sample(SAMPLES[SAMPLES.index(sample)])

    def pick(self, event: gr.SelectData) -> tuple[int, str]:
        """One of the bundled pictures was chosen."""
        return SAMPLES[event.index], ""

    def read(self, file: str, request: gr.Request) -> tuple[Any, None, str]:
        """A picture was uploaded: read it, and have the field empty for the next one."""
        try:
            upload = read_upload(Path(file))
        except Exception as error:  # the picture before stays
            return gr.skip(), None, error_html(said(error))
        self.uploads.keep(_visitor(request), upload)
        return None, None, note_html(f"Your picture: {upload.name}")

    def leave(self, request: gr.Request) -> None:
        """A visitor closed the page."""
        self.uploads.forget(_visitor(request))


def _visitor(request: gr.Request | None) -> str:
    """A visitor is a page that is open in a browser."""
    return str(request.session_hash) if request is not None else ""
