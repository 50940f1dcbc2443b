"""What a hard view costs, beside the authors' order of operations, CLAE, a training step, and its own parts.

    python benchmarks/throughput.py                                       # CPU
    python benchmarks/throughput.py --device cuda --batch 256 512 1024 --bf16

The model is a timm ResNet-18 with a CIFAR stem (3x3, stride 1, no max-pool) and a 64-d head, in training mode; the loss
is NT-Xent; the VAE is cifar10-vae. Writes results/throughput-*.json and prints the tables.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import harness
import timm
import torch
from torch import Tensor, nn

from idaa_transforms import CLAETransform, IDAATransform
from idaa_transforms.losses import nt_xent
from idaa_transforms.sample import cifar10_sample


def resnet18() -> nn.Module:
    """timm's ResNet-18 for 32x32 images."""
    model = timm.create_model("resnet18", num_classes=64)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()
    return model.train()


def authors_views(x: Tensor, model: nn.Module, vae: nn.Module, encode: Any, decode: Any, eps: float) -> Tensor:
    """Their order of operations, in our words: gradients of all parameters, the anchor encoded again, D(z) thrice."""
    with torch.no_grad():
        z = encode(x)
        residual = x - decode(z)
    z = nn.Parameter(z)
    vae.requires_grad_(True)
    nt_xent(model(x), model(residual + decode(z))).mean().backward()
    with torch.no_grad():
        z += eps * z.grad.sign()
        views = residual + decode(z)
    vae.requires_grad_(False)
    vae.zero_grad()
    model.zero_grad()
    return views


def cases(batch: int, device: str, dtype: torch.dtype, channels_last: bool) -> dict[str, Callable[[], Any]]:
    """All that is timed, on one batch of real images."""
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    images = cifar10_sample()[0].to(device)
    x, x2 = (
        t.repeat(-(-batch // 64), 1, 1, 1)[:batch].contiguous(memory_format=layout) for t in (images, images.flip(-1))
    )
    model = resnet18().to(device).to(memory_format=layout)
    idaa = IDAATransform.from_pretrained("cifar10-vae").to(device).to(memory_format=layout)
    if dtype != torch.float32:
        idaa = idaa.to(dtype)
    clae = CLAETransform(0.006).to(device)
    encode, decode = idaa.codec.encode, partial(idaa.codec.decode, shape=x.shape)
    autocast = lambda: torch.autocast(device.split(":")[0], dtype, enabled=dtype != torch.float32)  # noqa: E731

    def forward(v: Tensor) -> Tensor:
        with autocast():
            return model(v).float()

    def simclr_step() -> None:
        nt_xent(forward(x), forward(x2)).mean().backward()
        model.zero_grad()

    def anchor_anew(v: Tensor) -> Tensor:
        with torch.no_grad():
            anchor = forward(x)
        return nt_xent(forward(v), anchor)

    def authors() -> None:
        with autocast():
            authors_views(x, model, idaa.autoencoder, encode, decode, idaa.eps)

    with torch.no_grad():
        anchor, z = forward(x), encode(x)
    gradient = torch.randn_like(x)
    with torch.enable_grad():
        leaf, latent = x.clone().requires_grad_(), z.clone().requires_grad_()
        loss, image = nt_xent(forward(leaf), anchor).sum(), decode(latent)
    no_grad = torch.no_grad()
    return {
        "(a) authors' order of operations": authors,
        "(b) loss_fn=, anchor encoded anew": lambda: idaa(x, loss_fn=anchor_anew),
        "(b') loss_fn=, the step's own anchor": lambda: idaa(x, loss_fn=lambda v: nt_xent(forward(v), anchor)),
        "(c) grad=": lambda: idaa(x, grad=gradient),
        "(d) CLAE, loss_fn=": lambda: clae(x, loss_fn=lambda v: nt_xent(forward(v), anchor)),
        "(e) two-view SimCLR step": simclr_step,
        "(f) E forward": no_grad(lambda: encode(x)),
        "(f) D forward": no_grad(lambda: decode(z)),
        "(f) D backward to z": lambda: torch.autograd.grad(image, latent, gradient, retain_graph=True),
        "(f) model forward": lambda: forward(leaf),
        "(f) model backward to its input": lambda: torch.autograd.grad(loss, leaf, retain_graph=True),
    }


RATIOS = [  # what, over what, the target on a CPU
    ("(b) loss_fn=, anchor encoded anew", "(a) authors' order of operations", "0.50"),
    ("(b') loss_fn=, the step's own anchor", "(a) authors' order of operations", "-"),
    ("(c) grad=", "(e) two-view SimCLR step", "0.08"),
    ("(d) CLAE, loss_fn=", "(e) two-view SimCLR step", "-"),
    ("(b') loss_fn=, the step's own anchor", "sum of its parts", "-"),
    ("(c) grad=", "sum of its parts", "-"),
]


def parts_of(name: str, median: Callable[[str], float]) -> float:
    """E forward, D forward twice, D backward to z, and for a closure the model forward and back to its input."""
    total = median("(f) E forward") + 2 * median("(f) D forward") + median("(f) D backward to z")
    if "loss_fn" in name:
        total += median("(f) model forward") + median("(f) model backward to its input")
    return total


def main() -> None:
    """Measure every batch size, save, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 32, 128])
    parser.add_argument("--bf16", action="store_true", help="VAE in bfloat16, model under autocast")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--name", help="of the result file")
    args = parser.parse_args()
    dtype = torch.bfloat16 if args.bf16 else torch.float32
    rows = []
    for batch in args.batch:
        measured = harness.measure(cases(batch, args.device, dtype, args.channels_last), args.repeats, args.device)
        rows.append({"batch": batch, "ms": measured})
    name = args.name or f"throughput-{args.device.replace(':', '')}-{'bf16' if args.bf16 else 'fp32'}"
    file = harness.save(name, {k: v for k, v in vars(args).items() if k != "name"}, rows)

    header = ["", *(f"B = {row['batch']}" for row in rows)]
    print("\nMilliseconds, median (quartiles)\n")
    lines = [[c, *("{median:.0f} ({q1:.0f}-{q3:.0f})".format(**row["ms"][c]) for row in rows)] for c in rows[0]["ms"]]
    print(harness.table(header, lines))
    print("\nRatios of medians\n")
    lines = []
    for what, over, target in RATIOS:
        cells = []
        for row in rows:
            median = lambda case, row=row: row["ms"][case]["median"]  # noqa: E731
            cells.append(f"{median(what) / (parts_of(what, median) if over.startswith('sum') else median(over)):.2f}")
        lines.append([f"{what} over {over}", *cells, target])
    print(harness.table([*header, "target"], lines))
    print(f"\n{file}")


if __name__ == "__main__":
    main()
