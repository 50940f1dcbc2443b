"""What is timed: a batch of real images, a ResNet in training mode with NT-Xent, and the transforms beside it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import timm
import torch
from torch import Tensor, nn

from idaa_transforms import CLAETransform, IDAATransform
from idaa_transforms.losses import nt_xent
from idaa_transforms.sample import cifar10_sample

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Cases = dict[str, Callable[[], Any]]


def resnet(name: str, size: int) -> nn.Module:
    """timm's ResNet with a 64-d head; up to 64 pixels with a CIFAR stem (3x3, stride 1, no max-pool)."""
    model = timm.create_model(name, num_classes=64)
    if size <= 64:
        model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        model.maxpool = nn.Identity()
    return model.train()


def batch_of(count: int, size: int) -> Tensor:
    """``count`` images (B, 3, size, size) in [0, 1]: the bundled CIFAR-10 ones, repeated and enlarged."""
    images = cifar10_sample((size, size))[0]
    return images.repeat(-(-count // len(images)), 1, 1, 1)[:count]


class Workload:
    """All that suites time, on one device.

    Args:
        batch, size: of the images.
        dtype: ``"float32"``, or ``"bfloat16"``: the VAE in it, the model under autocast.
        vae_dtype: of the VAE alone; default: ``dtype``.
        network: the model's name in timm.
    """

    def __init__(
        self,
        batch: int,
        device: str = "cpu",
        dtype: str = "float32",
        size: int = 32,
        vae_dtype: str | None = None,
        network: str = "resnet18",
    ) -> None:
        torch.manual_seed(0)
        self.device, self.dtype = device.split(":")[0], DTYPES[dtype]
        self.model = resnet(network, size).to(device)
        self.optimiser = torch.optim.SGD(self.model.parameters(), 0.0)  # a rate of 0: every repeat does the same
        self.clae = CLAETransform(0.006).to(device)
        images = batch_of(batch, size).to(device)
        self.x, self.x2, self.x3 = images, images.flip(-1), images.flip(-2)
        with torch.no_grad():
            self.anchor = self.forward(self.x2)
        self.gradient = torch.randn_like(images)
        self._use(IDAATransform.from_pretrained("cifar10-vae").to(device, DTYPES[vae_dtype or dtype]))

    def _use(self, idaa: IDAATransform) -> None:
        self.idaa = idaa
        self.encode, self.decode = idaa.codec.encode, partial(idaa.codec.decode, shape=self.x.shape)
        with torch.no_grad():
            self.z = self.encode(self.x)

    def using(self, weights: str) -> Workload:
        """The same with a transform on ``weights``, a name or a folder."""
        work = copy.copy(self)
        work._use(IDAATransform.from_pretrained(weights).to(self.x.device, self.dtype))
        return work

    def autocast(self) -> Any:
        """Of the model, where the run is not in float32."""
        return torch.autocast(self.device, self.dtype, enabled=self.dtype != torch.float32)

    def forward(self, views: Tensor, model: nn.Module | None = None) -> Tensor:
        """Embeddings (B, 64)."""
        with self.autocast():
            return (model or self.model)(views).float()

    def nce(self, views: Tensor) -> Tensor:
        """The closure with the step's own anchor."""
        return nt_xent(self.forward(views), self.anchor)

    def nce_anew(self, views: Tensor) -> Tensor:
        """The closure that encodes its anchor itself."""
        with torch.no_grad():
            anchor = self.forward(self.x2)
        return nt_xent(self.forward(views), anchor)

    def parts(self) -> Cases:
        """The bare parts that a view consists of."""
        return self.parts_of_vae() | self.parts_of_model()

    def parts_of_vae(self) -> Cases:
        """E, and D both ways."""
        with torch.enable_grad():
            latent = self.z.clone().requires_grad_()
            image = self.decode(latent)
        no_grad = torch.no_grad()
        return {
            "E forward": no_grad(lambda: self.encode(self.x)),
            "D forward": no_grad(lambda: self.decode(self.z)),
            "D forward, recorded": lambda: self.decode(latent),
            "D backward to z": lambda: torch.autograd.grad(image, latent, self.gradient, retain_graph=True),
        }

    def parts_of_model(self) -> Cases:
        """Of a view by ``loss_fn=`` alone."""
        model = copy.deepcopy(self.model)  # whose graph no step of the optimiser spoils
        with torch.enable_grad():
            leaf = self.x.clone().requires_grad_()
            loss = nt_xent(self.forward(leaf, model), self.anchor).sum()
        return {
            "model forward": lambda: self.forward(leaf, model),
            "model backward to its input": lambda: torch.autograd.grad(loss, leaf, retain_graph=True),
        }

    def views(self) -> Cases:
        """Views, from each source of the direction."""
        return {
            "IDAA, loss_fn=, the step's own anchor": lambda: self.idaa(self.x, loss_fn=self.nce),
            "IDAA, grad=": lambda: self.idaa(self.x, grad=self.gradient),
            "CLAE, loss_fn=": lambda: self.clae(self.x, loss_fn=self.nce),
        }

    def authors_views(self) -> Tensor:
        """The same views in the order in which the authors' code computes them, in our words: gradients of all
        parameters, the anchor encoded again, D(z) three times."""
        with torch.no_grad():
            z = self.encode(self.x)
            residual = self.x - self.decode(z)
        z = nn.Parameter(z)
        self.idaa.autoencoder.requires_grad_(True)
        nt_xent(self.forward(self.x2), self.forward(residual + self.decode(z))).mean().backward()
        with torch.no_grad():
            z += self.idaa.eps * z.grad.sign()
            views = residual + self.decode(z)
        self.idaa.autoencoder.requires_grad_(False)
        self.idaa.autoencoder.zero_grad()
        self.model.zero_grad()
        return views

    def step(self, view: str) -> Callable[[], Tensor]:
        """A whole SimCLR training step, by the ``view`` in it: see :data:`STEPS`."""
        losses = STEPS[view]

        def run() -> Tensor:
            self.optimiser.zero_grad()
            loss = losses(self)
            self.optimiser.step()
            return loss

        return run


def _plain(w: Workload) -> Tensor:
    loss = nt_xent(w.forward(w.x), w.forward(w.x2)).mean()
    loss.backward()
    return loss


def _third(w: Workload, make: Callable[[Tensor], Tensor]) -> Tensor:
    z1, z2 = w.forward(w.x), w.forward(w.x2)
    hard = make(z2.detach())
    loss = nt_xent(z1, z2).mean() + nt_xent(z1, w.forward(hard)).mean()
    loss.backward()
    return loss


def _third_by_grad(w: Workload) -> Tensor:
    x = w.x.detach().requires_grad_()
    z1 = w.forward(x)
    clean = nt_xent(z1, w.forward(w.x2)).mean()
    (slope,) = torch.autograd.grad(clean, x, retain_graph=True)
    loss = clean + nt_xent(z1, w.forward(w.idaa(w.x, grad=slope))).mean()
    loss.backward()
    return loss


def _replace(w: Workload) -> Tensor:
    hard = w.idaa(w.x, loss_fn=w.nce_anew)
    loss = nt_xent(w.forward(hard), w.forward(w.x2)).mean()
    loss.backward()
    return loss


def _replace_sharing(w: Workload) -> Tensor:
    z2 = w.forward(w.x2)  # view 2 of the training step, and the anchor of the attack
    hard = w.idaa(w.x, loss_fn=lambda v: nt_xent(w.forward(v), z2.detach()))
    loss = nt_xent(w.forward(hard), z2).mean()
    loss.backward()
    return loss


STEPS: dict[str, Callable[[Workload], Tensor]] = {
    "none": _plain,
    "third random view": lambda w: _third(w, lambda z: w.x3),
    "CLAE": lambda w: _third(w, lambda z: w.clae(w.x, loss_fn=lambda v: nt_xent(w.forward(v), z))),
    "IDAA, loss_fn=": lambda w: _third(w, lambda z: w.idaa(w.x, loss_fn=lambda v: nt_xent(w.forward(v), z))),
    "IDAA, grad=": _third_by_grad,
    "IDAA in place of view 1": _replace,
    "IDAA in place of view 1, sharing a forward": _replace_sharing,
}
