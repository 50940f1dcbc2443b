"""What a worker of examples/ssl costs, and what short runs of VAEs came to: both measured.

python -m benchmarks.loading SHARDS          # of JPEGs
python -m benchmarks.loading --vaes RUN RUN  # folders of idaa train-vae
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import re
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from examples.shared.stream import open_pictures, random_crop

from benchmarks import harness
from benchmarks.harness import table

SIZE = 224
# Of a picture of ImageNet, on average.
IMAGENET_PIXELS = 469 * 387
LOADING = harness.RESULTS / "speed" / "loading.json"
CARD = {
    "parameters": r"([\d.]+) M parameters",
    "pictures": r"([\d,]+) images\.",
    "squared error": r"mean squared error, normalised units \| ([\d.]+)",
    "command": r"\| command \| (.*) \|",
    "commit": r"\| commit \| (.*) \|",
    "machine": r"\| machine \| (.*) \|",
}
VAES = harness.RESULTS / "vae-scale.json"


def loading() -> dict[str, Any]:
    """What was measured of workers."""
    return json.loads(LOADING.read_text())


def worker_seconds(crops: int) -> float:
    """Of one core, for a picture of ImageNet's size and its crops."""
    measured = loading()["rows"][0]
    return measured["decode_ms_a_megapixel"] * IMAGENET_PIXELS / 1e9 + crops * measured["crop_ms"] / 1e3


def workers() -> str:
    """What a worker costs."""
    result = loading()
    row, run = result["rows"][0], result["run"]
    lines = [
        ["decode, a megapixel", f"{row['decode_ms_a_megapixel']:.1f}"],
        [f"one random crop to {SIZE}x{SIZE}", f"{row['crop_ms']:.2f}"],
        ["a picture of ImageNet's mean size, two crops", f"{1e3 * worker_seconds(2):.1f}"],
        ["the same, three crops", f"{1e3 * worker_seconds(3):.1f}"],
    ]
    origin = f"`{run['command']}`, commit {run['commit']}, {run['machine']}, {run['date']}."
    return f"{table(['work of one core', 'ms'], lines)}\n\n{row['pictures']} JPEGs of {row['pixels']} pixels. {origin}"


def vaes() -> str:
    """The paper's networks at 84 and 224, trained for a moment."""
    lines = []
    for row in json.loads(VAES.read_text())["rows"]:
        losses = [f"{float(row['log'][i]['loss']):,.0f}" for i in (0, -1)]
        facts = [row[name] for name in CARD]
        lines.append([row["size"], *facts[:2], str(len(row["log"])), *losses, *facts[2:]])
    header = ["size", "M parameters", "pictures", "epochs", "loss, first epoch", "last", "squared error"]
    return table([*header, "command", "commit", "machine"], lines)


def collect(folders: list[Path]) -> list[dict[str, Any]]:
    """Of runs of ``idaa train-vae`` their logs, and what their cards say."""
    rows = []
    for folder in folders:
        with (folder / "log.csv").open() as file:
            log = list(csv.DictReader(file))
        card = (folder / "README.md").read_text()
        facts = {name: re.search(pattern, card)[1] for name, pattern in CARD.items()}  # type: ignore[index]
        size = "x".join(map(str, json.loads((folder / "config.json").read_text())["autoencoder"]["image_size"]))
        rows.append({"case": folder.name, "size": size, **facts, "log": log})
    return rows


def measure(shards: str, many: int = 400) -> dict[str, Any]:
    """Milliseconds of the processor, medians over pictures: others may use the machine meanwhile."""
    part, _ = open_pictures(shards)
    decode, crop, pixels, dice = [], [], [], random.Random(0)
    for i in range(min(many, len(part))):
        started = time.process_time()
        picture, _ = part[i]
        read = time.process_time()
        for _ in range(4):
            random_crop(picture, SIZE, (0.2, 1.0), dice)
        crop.append(1e3 * (time.process_time() - read) / 4)
        pixels.append(picture[0].numel())
        decode.append(1e9 * (read - started) / pixels[-1])
    medians = {"decode_ms_a_megapixel": statistics.median(decode), "crop_ms": statistics.median(crop)}
    return {"case": "worker", "pictures": len(pixels), "pixels": round(statistics.mean(pixels)), **medians}


def main() -> None:
    """Measure workers, or collect VAEs, and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", nargs="?", help="a folder of shards of JPEGs")
    parser.add_argument("--vaes", nargs="+", type=Path, help="folders of runs of idaa train-vae")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.vaes:
        harness.save(VAES.stem, {"suite": "vae-scale"}, collect(args.vaes))
        print(vaes())
    if args.shards:
        harness.save("speed/loading", {"suite": "loading"}, [measure(args.shards)])
        print(workers())


if __name__ == "__main__":
    main()
