"""Latent size and beta against what the VAE keeps (the paper's Figure 6 varies the same two).

    python -m benchmarks.vae_sweep data/cifar10.npz --epochs 300 --device cuda        # everything
    python -m benchmarks.vae_sweep data/cifar10.npz --width 64 --epochs 4              # in hours on one core

Trains a VAE for each pair, resuming what was interrupted, measures it on the test images, and writes
results/vae-sweep.json, .md (a table) and .png (a plot).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from idaa_transforms.autoencoders import ConvVAE
from idaa_transforms.training.evaluation import evaluate_vae
from idaa_transforms.training.images import load_images
from idaa_transforms.training.vae import Recipe, train_vae

from . import harness

COLUMNS = {
    "mse": ("mean squared error", "{:.3f}"),
    "psnr": ("PSNR, dB", "{:.1f}"),
    "kl": ("KL, nats an image", "{:.0f}"),
    "energy_g": ("energy in G", "{:.3f}"),
    "energy_r": ("energy in R", "{:.3f}"),
    "active": ("latents in use", "{:.0f}"),
}


def plot(rows: list[dict[str, Any]], file: Path) -> None:
    """Error, rate and residual energy against beta, a line for each latent size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4), dpi=140, layout="constrained")
    for axis, key in zip(figure.subplots(1, 3), ("mse", "kl", "energy_r"), strict=True):
        for latent_dim in sorted({row["latent_dim"] for row in rows}):
            line = sorted((row["beta"], row[key]) for row in rows if row["latent_dim"] == latent_dim)
            axis.plot(*zip(*line, strict=True), marker="o", label=f"z = {latent_dim}")
        axis.set(xscale="log", xlabel="beta", title=COLUMNS[key][0])
        axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(file)


def main() -> None:
    """Train, measure, save, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--latent-dim", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--beta", type=float, nargs="+", default=[0.1, 0.4, 1.6, 6.4])
    parser.add_argument("--epochs", type=int, default=300)
    parser.add_argument("--width", type=int, default=128, help="of the networks; half trains about three times as fast")
    parser.add_argument("--images", type=int, help="train on the first so many only")
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, help="default: where the device has it")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=Path, default=Path("runs/vae-sweep"))
    args = parser.parse_args()
    images = load_images(args.data)
    images = images._replace(train=images.train[: args.images])
    recipe = Recipe(epochs=args.epochs, bf16=args.bf16).on(torch.device(args.device))
    rows = []
    for latent_dim in args.latent_dim:
        for beta in args.beta:
            torch.manual_seed(0)
            vae = ConvVAE(images.test.shape[2:], latent_dim, width=args.width, beta=beta).to(args.device)
            vae = vae.to(memory_format=torch.channels_last)
            folder = args.runs / f"z{latent_dim}-beta{beta:g}"
            train_vae(vae, images, recipe, folder)
            rows.append({"latent_dim": latent_dim, "beta": beta, **evaluate_vae(vae, images.test)})
    settings = {
        "data": images.name,
        "width": args.width,
        "epochs": args.epochs,
        "images": len(images.train),
        "bf16": recipe.bf16,
    }
    file = harness.save("vae-sweep", settings, rows)
    plot(rows, file.with_suffix(".png"))
    lines = [
        [str(r["latent_dim"]), f"{r['beta']:g}", *(form.format(r[key]) for key, (_, form) in COLUMNS.items())]
        for r in rows
    ]
    table = harness.table(["z", "beta", *(title for title, _ in COLUMNS.values())], lines)
    origin = ", ".join(json.loads(file.read_text())["run"].values())
    file.with_suffix(".md").write_text(f"# Sizes of latents, and beta\n\n{table}\n\n{settings}. {origin}\n")
    print(f"{table}\n\n{settings}. {file}")


if __name__ == "__main__":
    main()
