"""IDAA in the authors' order of operations (paper.md's facts, in our words), gradients of everything included."""

import torch
from torch import nn


def authors_views(x, vae, loss_fn, eps):
    """``x`` in the VAE's own normalised space; one step, L-infinity, no random start, no clamp."""
    vae.requires_grad_(True)
    with torch.no_grad():
        z = vae.encode(x).mean
        residual = x - vae.decode(z)
    z = nn.Parameter(z.clone())
    view = residual + vae.decode(z)
    loss_fn(view).sum().backward()
    with torch.no_grad():
        z += eps * z.grad.sign()
        view = residual + vae.decode(z)
    vae.requires_grad_(False)
    vae.zero_grad()
    return view
