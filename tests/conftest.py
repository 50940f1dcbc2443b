"""Small real objects that the tests share."""

import getpass
import json
import os
import tempfile

for _threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # several workers share the cores: of processes they start
    os.environ.setdefault(_threads, "1")
# Kernels that torch.compile kept for other instructions, of a run with this variable, compute NaN here or crash.
_kept = f"torchinductor-{getpass.getuser()}-{os.environ.get('ATEN_CPU_CAPABILITY', 'all')}"
os.environ["TORCHINDUCTOR_CACHE_DIR"] = os.path.join(tempfile.gettempdir(), _kept)

import pytest
import torch
from hypothesis import HealthCheck, register_random, settings
from torch import nn

from idaa_transforms import IDAATransform
from idaa_transforms.autoencoders import ConvVAE
from idaa_transforms.hub.folder import CONFIG

# And of their own: a plugin of pytest may have loaded OpenMP before this file set its variable. Threads that wait for
# each other on busy cores take 30 times as long.
torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


class TorchRandom:
    """torch's own generator, as hypothesis expects one: it seeds it before every example, so that a failing one comes
    back. Tests that want to vary what is drawn seed it again, by an integer that hypothesis draws."""

    seed = staticmethod(torch.manual_seed)
    getstate = staticmethod(torch.get_rng_state)
    setstate = staticmethod(torch.set_rng_state)


TORCH = TorchRandom()  # hypothesis keeps a weak reference alone
register_random(TORCH)
settings.register_profile(
    "default", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("default")


def tiny_vae(image_size=16, latent_dim=8, channels=3, seed=0, **config) -> ConvVAE:
    """A VAE with random weights and batch-norm statistics, the output layer's included."""
    torch.manual_seed(seed)
    config = {"width": 8, "mean": [0.5] * channels, "std": [0.25] * channels} | config
    vae = ConvVAE(image_size, latent_dim, channels=channels, **config)
    return randomise(vae)


def randomise(model):
    """Batch norms as after some training; in eval mode."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def fitted(vae, images, steps=60):
    """``vae`` after a moment of learning to reconstruct ``images`` in [0, 1]: more than half of their variance."""
    x = (images - torch.tensor(vae.mean).view(-1, 1, 1)) / torch.tensor(vae.std).view(-1, 1, 1)
    optimiser = torch.optim.Adam(vae.train().parameters(), lr=5e-3)
    for _ in range(steps):
        loss = nn.functional.mse_loss(vae.decode(vae.encode(x).mean), x)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return vae.eval()


class Encoder(nn.Module):
    """A model with all that an attack could disturb: batch norm, dropout, a frozen part, a queue, a centre."""

    def __init__(self, channels=3) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(channels, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3))
        self.frozen = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()
        self.head = nn.Linear(8, 6)
        self.register_buffer("queue", torch.randn(4, 6))
        self.center = torch.zeros(6)  # a tensor that is no buffer

    def forward(self, x):
        z = self.head(self.frozen(self.body(x)).mean((2, 3)))
        if self.training:
            self.queue[:] = self.queue.roll(1, 0) + z.detach().mean(0)
            self.center = 0.9 * self.center + 0.1 * z.detach().mean(0)
        return z


def images(shape, seed=0, dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def rising(views):
    """A loss per sample, with a gradient everywhere, and no model."""
    return (views * torch.linspace(-1, 1, views[:1].numel()).view(views.shape[1:])).pow(2).flatten(1).sum(1)


def changed(views, x):
    """Which rows differ, (B,)."""
    return (views != x).flatten(1).any(1)


@pytest.fixture
def vae():
    return tiny_vae()


@pytest.fixture
def encoder():
    torch.manual_seed(1)
    return Encoder()


@pytest.fixture
def x():
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def loss_fn(encoder):
    """Per-sample, deterministic, independent across samples: cross-entropy of a model in eval mode."""
    encoder.eval()

    def loss(views):
        return nn.functional.cross_entropy(encoder(views), torch.arange(len(views)) % 6, reduction="none")

    return loss


@pytest.fixture
def aug(vae):
    return IDAATransform(vae)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return request.param


@pytest.fixture
def folder(tmp_path):
    aug = IDAATransform(tiny_vae(), 0.2, norm="l2", steps=2, clip=(0.0, 1.0))
    aug.save_pretrained(tmp_path / "vae")
    return tmp_path / "vae"


def edit_config(folder, **changes):
    config = json.loads((folder / CONFIG).read_text())
    for path, value in changes.items():
        *way, last = path.split("__")
        place = config
        for key in way:
            place = place[key]
        place[last] = value
    (folder / CONFIG).write_text(json.dumps(config))


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A working folder with an .npz of real images, and the options of a run of a moment."""
    from toy_runs import save_arrays

    monkeypatch.chdir(tmp_path)
    save_arrays("toy.npz")
    return ["--latent-dim", "4", "--width", "8", "--batch-size", "20", "--epochs", "1"]
