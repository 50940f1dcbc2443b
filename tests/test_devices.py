"""Where a transform lives: it moves with its parents and keeps its values, and asks no device for float64."""

import kornia.augmentation as K
import pytest
import torch
from conftest import changed, images, rising, tiny_vae
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from idaa_transforms import CLAETransform, Guard, IDAATransform
from idaa_transforms.kornia import RandomCLAE, RandomIDAA


class Model(nn.Module):
    """As a LightningModule holds a transform: beside a network, by itself, bound, and in kornia's form."""

    def __init__(self, folder):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 14 * 14, 5))
        self.aug = IDAATransform.from_pretrained(folder)
        self.bound = self.aug.bind(rising)
        self.hard = RandomIDAA.from_pretrained(folder, p=1.0)
        self.inside = K.AugmentationSequential(RandomIDAA.from_pretrained(folder, p=1.0), data_keys=["input"])
        self.clae = CLAETransform()

    def views(self, x):
        with self.inside[0].bound(rising):
            inside = self.inside(x)
        return [self.bound(x), inside, *(aug(x, loss_fn=rising) for aug in (self.aug, self.hard, self.clae))]


class TestToEmpty:
    """A model that is made on the meta device, given memory, then weights: the autoencoder is no part of it."""

    def test_a_model_that_is_loaded_afterwards(self, x, folder):
        torch.manual_seed(0)
        plain = Model(folder)
        with torch.device("meta"):
            model = Model(folder)
        assert all(p.is_meta for p in model.parameters())
        model.to_empty(device="cpu")
        model.load_state_dict(plain.state_dict(), strict=True)
        assert all(map(torch.equal, model.views(x), plain.views(x)))
        assert torch.equal(model.eval().net(x), plain.eval().net(x))

    @pytest.mark.parametrize("make", [IDAATransform, lambda vae: RandomIDAA(vae, p=1.0)])
    def test_each_transform_alone_and_its_counts(self, make, x, device):
        aug, x = make(tiny_vae()).to(device), x.to(device)
        expected = aug(x, grad=x - 0.5)
        for empty in (aug, aug.bind(rising), nn.Sequential(aug)):
            empty.to_empty(device=device)
            assert aug.stats() == {"calls": 1, "attacked": 4, "unchanged": 0}
        assert torch.equal(aug(x, grad=x - 0.5), expected)
        assert make(tiny_vae()).to_empty(device=device).stats() == {"calls": 0, "attacked": 0, "unchanged": 0}

    def test_the_meta_device_keeps_nothing_and_takes_nothing(self, x, vae):
        aug = IDAATransform(vae)
        expected = aug(x, grad=x - 0.5)
        assert torch.equal(nn.Sequential(aug).to("meta")[0](x, grad=x - 0.5), expected)
        with torch.device("meta"):
            made = [IDAATransform(vae), CLAETransform()]
        assert torch.equal(made[0](x, grad=x - 0.5), expected)
        assert changed(made[1](x, grad=x - 0.5), x).all()
        with torch.device("meta"):
            assert torch.equal(aug(x, grad=x - 0.5), expected)
            with pytest.raises(ValueError, match="the ConvVAE was made on the meta device and has no values"):
                IDAATransform(tiny_vae())


@pytest.mark.parametrize("make", [IDAATransform, lambda vae: RandomIDAA(vae, p=1.0)])
def test_what_the_parent_does_to_its_modules_passes_the_autoencoder_by(make, x):
    model, vae = nn.Module(), tiny_vae()
    model.net, model.aug = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), make(vae)
    assert len(model.state_dict()) == len(model.net.state_dict())
    assert len(list(model.parameters())) == len(list(model.net.parameters()))
    assert not any(p.requires_grad for p in vae.parameters())
    views = model.aug(x, loss_fn=rising)
    model.apply(lambda m: [nn.init.zeros_(p) for p in m.parameters(recurse=False)])
    model.train().requires_grad_(True)
    nn.SyncBatchNorm.convert_sync_batchnorm(model)
    vae.train()  # by another owner: it is used in eval mode all the same
    assert torch.equal(model.aug(x, loss_fn=rising), views)


def test_the_autoencoder_moves_and_is_cast_with_its_parents(x, vae):
    model = nn.Sequential(IDAATransform(vae)).to(torch.float64)
    assert vae.from_latent.weight.dtype == torch.float64
    views = model[0](x, loss_fn=rising)
    assert views.dtype == torch.float32
    torch.testing.assert_close(views, IDAATransform(tiny_vae())(x, loss_fn=rising), atol=1e-5, rtol=0)
    model.float()
    assert vae.from_latent.weight.dtype == torch.float32


class NoFloat64(TorchDispatchMode):
    """As Apple's GPUs: an operation that takes or gives a tensor in float64 fails."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        out = operation(*args, **(kwargs or {}))
        for value in tree_leaves((args, kwargs, out)):
            if value is torch.float64 or (isinstance(value, torch.Tensor) and value.dtype == torch.float64):
                raise TypeError(f"{operation} in float64, which the device does not have")
        return out


@pytest.mark.parametrize(
    "options",
    [{}, {"p": 0.5, "size": (24, 9)}, {"random_start": True, "norm": "l2", "eps": 0.3, "steps": 2},
     {"mean": [0.5] * 3, "std": [0.2] * 3, "clip": (0.0, 1.0), "chunk_size": 1},
     {"eps_unit": "posterior", "eps": 0.3, "target_gain": 0.1, "guard": Guard(lambda v: v.flatten(1), 0.9)}],
)  # fmt: skip
def test_no_float64_on_the_device(options):
    options = dict(options)
    x, autoencoder = images((2, 3, *options.pop("size", (16, 16)))), tiny_vae()
    IDAATransform(autoencoder)(x, grad=x - 0.5)  # matrices that resample are made on the host, once
    pixels = {name: value for name, value in options.items() if name not in ("eps_unit", "chunk_size")}
    made = [
        IDAATransform(autoencoder, **options), CLAETransform(**pixels),
        RandomIDAA(autoencoder, **{"p": 1.0} | options), RandomCLAE(**{"p": 1.0} | pixels),
    ]  # fmt: skip
    with NoFloat64():
        for aug in made:
            for eps in (None, torch.tensor([0.1, 0.2])):
                assert aug(x, loss_fn=rising).isfinite().all()
                assert aug(x, grad=x - 0.5, eps=eps).isfinite().all()
            assert aug.explain(x, loss_fn=rising).views.isfinite().all()
            assert aug.stats()["calls"] > 0
        views = made[2](x, loss_fn=rising)
        assert torch.equal(made[2](x, params=made[2]._params), views)
        with pytest.raises(TypeError, match="in float64"):
            x.double()


def test_on_a_device(device, encoder):
    """Small tests run where the images are; whatever a generator's device is."""
    aug = IDAATransform(tiny_vae(), random_start=True, p=0.5).to(device)
    encoder.eval().to(device)
    x = images((8, 3, 16, 16)).to(device)
    loss = lambda v: nn.functional.cross_entropy(encoder(v), torch.arange(8, device=device) % 6)  # noqa: E731
    for generator in (None, torch.Generator().manual_seed(0), torch.Generator(device).manual_seed(0)):
        views = aug(x, loss_fn=loss, generator=generator)
        assert views.device == x.device
        assert views.isfinite().all()
    assert changed(IDAATransform(tiny_vae()).to(device)(x, loss_fn=loss), x).all()
