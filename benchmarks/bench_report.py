"""One page, with plots, of all that bench.py has measured.

    python -m benchmarks.bench_report benchmarks/results/speed

bench.py does this after its last suite.
"""

from __future__ import annotations

import importlib
import json
import sys
import textwrap
from pathlib import Path
from typing import Any

from . import harness
from .suites import targets

Rows = list[dict[str, Any]]
BELOW: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.12), "fontsize": 8}
SUITES = ("targets", "model", "steps", "shield", "views", "peers", "autoencoders", "large", "processes", "startup")


def of_rows(rows: Rows, settings: dict[str, Any]) -> str:
    """Any rows: what varies, then milliseconds, and those over the first row of its kind."""
    keys = list(dict.fromkeys(key for row in rows for key in row if key != "ms"))
    varied = [k for k in keys if k == "case" or len({json.dumps(row.get(k)) for row in rows}) > 1]
    firsts: dict[Any, float] = {}  # of rows that are alike
    lines = []
    for row in rows:
        first = firsts.setdefault(tuple(row.get(k) for k in ("group", "batch", "size")), row["ms"]["median"])
        cells = [harness.number(row.get(key)) for key in varied]
        ms = row["ms"]
        cells.append("{} ({} to {})".format(*(harness.number(ms[k]) for k in ("median", "q1", "q3"))))
        cells.append(f"{ms['median'] / first:.2f}")
        lines.append(cells)
    return harness.table(
        [*(k.replace("_", " ") for k in varied), "ms, median (quartiles)", "over the first of its kind"], lines
    )


def module(suite: str) -> Any:
    """What measures ``suite``, and knows its title and perhaps its table."""
    return importlib.import_module(".model" if suite == "model" else f".suites.{suite}", __package__)


def page(file: Path) -> str:
    """A suite's table under its title, with where it comes from."""
    result = json.loads(file.read_text())
    settings, run = result["settings"], result["run"]
    device, suite = settings["device"], settings["suite"]
    about = module(suite)
    table = getattr(about, "table", of_rows)(result["rows"], settings)
    origin = f"`{run['command']}`, commit {run['commit']}, {run['machine']}, {run['versions']}, {run['date']}."
    text = (about.__doc__ or "").strip().replace("``", "`")
    said = ", ".join(
        f"{key} {value}" for key, value in settings.items() if key in ("batch", "dtype", "repeats", "threads")
    )
    parts = [f"## {about.TITLE}, {device}", text, table, f"{said}. {origin}"]
    return "\n\n".join(parts)


def plot(folder: Path, device: str, out: Path) -> bool:
    """Targets, training steps, and views by batch, for one kind of device; False where none of them was measured."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    files = {name: folder / f"{device}-{name}.json" for name in ("targets", "steps", "views")}
    have = {name: json.loads(file.read_text())["rows"] for name, file in files.items() if file.exists()}
    if not have:
        return False
    figure = Figure(figsize=(13, 5), dpi=130, layout="constrained")
    axes = dict(zip(have, figure.subplots(1, len(have), squeeze=False)[0], strict=True))
    if "targets" in have:
        _plot_targets(axes["targets"], have["targets"], device != "cpu")
    if "steps" in have:
        rows, axis = [row for row in have["steps"] if row["case"][0] != "("], axes["steps"]
        names = [_short(row["case"], 26) for row in rows]
        values = [row["ms"]["median"] / rows[0]["ms"]["median"] for row in rows]
        bars = axis.barh(names, values, color=["tab:gray"] * 2 + ["tab:orange"] + ["tab:blue"] * (len(rows) - 3))
        axis.bar_label(bars, fmt="%.2f", padding=2)
        axis.set(title="a SimCLR training step, none = 1", xlim=(0, 1.15 * max(values)))
        axis.invert_yaxis()
    if "views" in have:
        axis = axes["views"]
        rows = [row for row in have["views"] if row["axis"] == "batch"]
        for case in dict.fromkeys(row["case"] for row in rows):
            line = [(row["batch"], row["ms"]["median"] / row["batch"]) for row in rows if row["case"] == case]
            axis.plot(*zip(*line, strict=True), marker="o", label=case)
        axis.set(xscale="log", yscale="log", xlabel="images a batch", title="milliseconds a view")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        for side in (axis.xaxis, axis.yaxis):
            side.set_major_formatter("{x:g}")
            side.set_minor_formatter("")
        axis.grid(alpha=0.3, which="both")
        axis.legend(**BELOW)
    figure.savefig(out)
    return True


def _plot_targets(axis: Any, rows: Rows, on_gpu: bool) -> None:
    """Each ratio over its target: a bar that ends left of the line has met it."""
    found = targets.ratios(rows)
    shown = [(i, t, t.gpu if on_gpu else t.cpu) for i, t in enumerate(targets.TARGETS)]
    shown = [(i, t, aim) for i, t, aim in shown if aim]
    height = 0.8 / len(found)
    for k, (dtype, column) in enumerate(found.items()):
        places = [j + k * height for j in range(len(shown))]
        axis.barh(places, [column[i] / aim for i, _, aim in shown], height, label=f"VAE in {dtype}")
    axis.set_yticks(
        [j + 0.4 - height / 2 for j in range(len(shown))], [_short(t.what) for _, t, _ in shown], fontsize=8
    )
    axis.axvline(1, color="black", linewidth=1)
    axis.set(title="ratio over its target: met left of the line")
    axis.invert_yaxis()
    axis.legend(**BELOW)


def _short(text: str, width: int = 34) -> str:
    return "\n".join(textwrap.wrap(text.replace("`", ""), width))


def write(folder: Path) -> Path:
    """``speed.md`` in ``folder``, and a plot for each kind of device that was measured."""
    parts = [
        "# How fast",
        "Ratios and medians: machines differ, and noise is in every number. Made by `python -m benchmarks.bench`.",
    ]
    for device in sorted({file.stem.split("-")[0] for file in folder.glob("*.json")}):
        if plot(folder, device, folder / f"{device}.png"):
            parts.append(f"![targets, training steps and views on {device}]({device}.png)")
        files = [folder / f"{device}-{suite}.json" for suite in SUITES]
        parts += [page(file) for file in files if file.exists()]
    out = folder / "speed.md"
    out.write_text("\n\n".join(parts) + "\n")
    return out


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
