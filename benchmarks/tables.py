"""The tables of README and docs, each taken from where its numbers stand. A number is written by hand nowhere.

    make tables          # writes them
    python -m benchmarks.tables --check

A page says where a table goes by two comments, ``table: NAME`` and ``end``; what stands between them is replaced.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import paper
from benchmarks.harness import table
from benchmarks.paper import section

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGES = ("README.md", "benchmarks/README.md", *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")))
BLOCK = re.compile(r"(<!-- table: ([\w-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def read(file: Path, heading: str = "") -> list[dict[str, str]]:
    """The first table below ``heading`` in a Markdown page, a dict of cells for each row."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section(file, heading).splitlines()]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def run_of(file: Path) -> str:
    """Where the numbers of a result come from, as a sentence."""
    run = json.loads(file.read_text())["run"]
    return f"`{run['command']}`, commit {run['commit']}, {run['machine']}, {run['date']}."


# Accuracy ------------------------------------------------------------------------------------------------------------

BOARD = RESULTS / "board" / "board.md"


def board() -> str:
    """Every method for the same time."""
    return BOARD.read_text().strip()


def evidence() -> str:
    """The board in short."""
    return section(BOARD, "### In short")


# Cost ----------------------------------------------------------------------------------------------------------------

SPEED, TARGETS = RESULTS / "speed" / "speed.md", RESULTS / "speed" / "cpu-targets.json"


def targets() -> str:
    """All ratios, with their targets."""
    return f"{section(SPEED, '## Targets, cpu')}\n\n{run_of(TARGETS)}"


def _ratios(heading: str, shown: dict[str, str], file: Path) -> str:
    """The rows that start as in ``shown``, in the words of a user and without targets."""
    rows = read(SPEED, heading)
    columns = [name for name in rows[0] if name not in ("ratio of medians", "target")]
    lines = []
    for start, text in shown.items():
        (row,) = (row for row in rows if row["ratio of medians"].startswith(start))
        lines.append([text, *(row[column].removesuffix(" (missed)") for column in columns)])
    return f"{table(['', *columns], lines)}\n\n{run_of(file)}"


def cost() -> str:
    """The ratios that a user pays."""
    shown = {
        "views by `grad=` over a two-view": "a hard view by `grad=`, over a SimCLR step of two views",
        "views by `loss_fn=` over the authors'": "a hard view by `loss_fn=`, over the authors' order of operations",
        "SimCLR step with a third view by": "a whole step with a hard view as third view, over a step of two views",
        "SimCLR step with the view in place": "a whole step with the hard view in place of one of two, over the same",
    }
    return _ratios("## Targets, cpu", shown, TARGETS)


def large() -> str:
    """The same at 224 pixels."""
    shown = {
        "views by `grad=` over a two-view": "a hard view by `grad=`, over a SimCLR step of two views",
        "views by `grad=` over kornia's": "the same, over kornia's random views",
        "views by `grad=` over the same on TAEF2": "the same, over a view by TAEF2",
        "views by `grad=` over the same on Stable": "the same, over a view by Stable Diffusion's autoencoder",
    }
    return _ratios("## Images of 224 pixels, cpu", shown, SPEED.with_name("cpu-large.json"))


# Weights -------------------------------------------------------------------------------------------------------------


def _weights() -> list[dict[str, Any]]:
    from idaa_transforms import hub
    from idaa_transforms.hub.folder import CONFIG

    found = []
    for name, about in hub.PRETRAINED.items():
        folder = ROOT / "weights" / name
        config = json.loads((folder / CONFIG).read_text())
        measured = {row["what"]: row["value"] for row in read(folder / "README.md", "## Measured")}
        wheel = f'"weights/{name}"' in (ROOT / "pyproject.toml").read_text()
        found.append(
            {"name": name, "data": about.data, "terms": about.terms, "wheel": wheel} | config["autoencoder"] | measured
        )
    return found


def _size(row: dict[str, Any]) -> str:
    return "x".join(map(str, row["image_size"]))


def weights_in_full() -> str:
    """The same with what was measured, from the model cards."""
    columns = {
        "mean squared error, normalised units": "squared error",
        "PSNR of G(x), mean over images": "PSNR",
        "KL(q(z given x), N(0, I)), an upper bound of I(z; x)": "KL",
        "share of the energy of x in R(x)": "energy in R",
    }
    lines = []
    for r in _weights():
        what = [f"`{r['name']}`", f"{r['data']}, {_size(r)}", str(r["latent_dim"]), f"{r['beta']:g}"]
        measured = [r[key].removesuffix(" nats an image") for key in columns]
        lines.append([*what, *measured, "the package" if r["wheel"] else "a clone", r["terms"]])
    header = ["name", "trained on", "z", "beta", *columns.values(), "comes with", "terms of the training images"]
    return table(header, lines)


def trained() -> str:
    """What training with each of the weights brought, on the seed of the board on which choices were made."""
    methods = {
        "two random views": "none",
        "`cifar10-vae-small`, eps .2": "third-view-.2",
        "`cifar10-vae-small`, eps .1": "third-view-.1",
        "`cifar10-vae`, eps .1": "third-view-.1-cifar10-vae",
        "`natural-vae`, eps .1": "third-view-.1-natural-vae",
        "the network of `cifar10-vae-small` on natural images, eps .2": "third-view-.2-natural-flat",
    }
    settings = {"CIFAR-10, 32 pixels": "cifar10-weak", "Tiny ImageNet, 64 pixels": "tiny-imagenet-weak"}
    names = ("knn_embedding", "knn_backbone", "linear_backbone")
    lines = []
    for place, setting in settings.items():
        for text, method in methods.items():
            file = BOARD.parent / f"{setting}--{method}--s30.json"
            if file.exists():  # not all were trained with in both
                result = json.loads(file.read_text())
                measured = [f"{100 * result['metrics'][name]:.1f}" for name in names]
                lines.append([place, text, f"{result['epochs']:.1f}", *measured])
    return table(["images", "view", "epochs in the same time", "kNN, embedding", "kNN", "linear"], lines)


GAINS = ("0.1", "0.2")  # of the attacked loss


def natural(result: str = "natural") -> str:
    """What views of photographs of 224 pixels keep at equal hardness, by autoencoder."""
    file = RESULTS / f"{result}.json"
    lines = []
    for r in json.loads(file.read_text())["rows"]:
        name = Path(r["autoencoder"]).name  # of a run its folder's
        cost = [f"{r['parameters'] / 1e6:.2f} M", f"{r['ms']['median']:.0f} ms"] if "ms" in r else ["-", "-"]
        by_model = [r[model]["at_gain"] for model in ("efficientnet", "mobilenet")]
        kept = [f"{found[gain]:.2f}" for found in by_model for gain in ("0.1", "0.2")]
        lines.append([f"`{name}`" if "-vae" in name else name, *cost, *kept])
    models = [f"{model}, loss + {gain}" for model in ("EfficientNet-Lite0", "MobileNetV2") for gain in GAINS]
    return f"{table(['autoencoder', 'parameters', 'a view of 32', *models], lines)}\n\n{run_of(file)}"


# Identity and settings -----------------------------------------------------------------------------------------------


def identity() -> str:
    """What views keep where the attacked loss rises by 0.1, on CIFAR-10."""
    shown = {
        "CLAE, 1 step": "CLAE",
        "IDAA cifar10-vae, 1 step": "IDAA, `cifar10-vae`",
        "IDAA cifar10-vae, 5 steps": "the same, five steps",
        "IDAA cifar10-vae, 1 step, l2, posterior units": 'the same, `eps_unit="posterior", norm="l2"`',
        "IDAA taef2, 1 step": "IDAA, TAEF2",
    }
    columns = {
        "supervised: agreement": "prediction agreement, supervised",
        "supervised: retrieval": "retrieval at 1, supervised",
        "simclr: retrieval": "retrieval at 1, SimCLR",
        "their loss": "rise of the reference models' own loss",
        "L2": "L2",
        "L2 / CLAE": "L2 over CLAE's",
    }
    file = RESULTS / "identity.md"
    key = next(iter(read(file)[0]))
    rows = {row[key]: row for row in read(file)}
    lines = [[text, *(rows[name][c] for c in columns)] for name, text in shown.items()]
    return f"{table([key, *columns.values()], lines)}\n\n{run_of(file.with_suffix('.json'))}"


TABLES: dict[str, Callable[[], str]] = {
    "board": board,
    "evidence": evidence,
    "cost": cost,
    "targets": targets,
    "large": large,
    "weights-in-full": weights_in_full,
    "trained": trained,
    "natural": natural,
    "identity": identity,
    **paper.TABLES,
}


def render(text: str) -> str:
    """A page with all its tables as they should be."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{TABLES[found[2]]()}\n\n{found[4]}", text)


def main() -> None:
    """Write the pages or, with --check, name those that are not as they should be."""
    stale = [page for page in PAGES if render((ROOT / page).read_text()) != (ROOT / page).read_text()]
    if "--check" in sys.argv:
        sys.exit(f"run `make tables`: {', '.join(stale)}" if stale else 0)
    for page in stale:
        (ROOT / page).write_text(render((ROOT / page).read_text()))
        print(page)


if __name__ == "__main__":
    main()
