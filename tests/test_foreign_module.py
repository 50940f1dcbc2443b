"""The autoencoder inside a transform is not part of the user's model."""

import copy

import pytest
import torch
from conftest import Encoder, tiny_vae
from torch import nn

from idaa_transforms import IDAATransform
from idaa_transforms.kornia import RandomIDAA


class Model(nn.Module):
    def __init__(self, aug):
        super().__init__()
        self.encoder, self.aug = Encoder(), aug


@pytest.fixture(params=[IDAATransform, lambda vae: RandomIDAA(vae, p=1.0)], ids=["torchvision", "kornia"])
def make(request):
    return request.param


def test_it_is_in_no_list_of_the_parent(make):
    model = Model(make(tiny_vae()))
    alone = Encoder()
    assert model.state_dict().keys() == {f"encoder.{key}" for key in alone.state_dict()}
    assert len(list(model.parameters())) == len(list(alone.parameters()))
    assert not any("Conv" in type(m).__name__ for m in model.aug.modules())


def test_the_parents_apply_train_and_conversions_pass_it_by(make, x, loss_fn):
    model = Model(make(tiny_vae()))
    views = model.aug(x, loss_fn=loss_fn)
    model.apply(lambda m: [nn.init.zeros_(p) for p in m.parameters(recurse=False)])
    model.train().requires_grad_(True)
    nn.SyncBatchNorm.convert_sync_batchnorm(model)
    assert torch.equal(model.aug(x, loss_fn=loss_fn), views)


def test_a_shared_autoencoder_that_went_into_train_mode_is_used_in_eval_mode(x, loss_fn):
    vae = tiny_vae()
    aug = IDAATransform(vae)
    views = aug(x, loss_fn=loss_fn)
    vae.train()
    assert torch.equal(aug(x, loss_fn=loss_fn), views)


def test_it_moves_with_the_parent(make, x, loss_fn):
    model = Model(make(tiny_vae())).double()
    attack = getattr(model.aug, "attack", model.aug)
    assert attack.codec.dtype == torch.float64
    model.to(torch.bfloat16)
    assert attack.codec.dtype == torch.bfloat16
    model.to("meta")
    assert next(attack.autoencoder.parameters()).device.type == "meta"


def test_checkpoints_that_have_it_still_load(make):
    model = Model(make(tiny_vae()))
    prefix = "aug.attack.codec" if hasattr(model.aug, "attack") else "aug.codec"
    inside = getattr(model.aug, "attack", model.aug).codec
    old = model.state_dict() | {f"{prefix}.{key}": value for key, value in inside.state_dict().items()}
    assert len(old) > len(model.state_dict())
    model.load_state_dict(old)
    with pytest.raises(RuntimeError, match="unknown"):
        model.load_state_dict(old | {"aug.unknown": torch.zeros(1)})


def test_copies_have_one_of_their_own(make, x, loss_fn):
    aug = make(tiny_vae())
    twin = copy.deepcopy(aug)
    views = aug(x, loss_fn=loss_fn)
    for p in getattr(twin, "attack", twin).autoencoder.parameters():
        p.data.zero_()
    assert torch.equal(aug(x, loss_fn=loss_fn), views)
