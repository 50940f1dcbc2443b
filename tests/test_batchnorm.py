"""Dual batch norm: two sets of statistics, one set of everything else."""

import copy
import functools

import pytest
import timm
import torch
from timm.layers import convert_splitbn_model
from torch import nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from idaa_transforms import IDAATransform
from idaa_transforms.batchnorm import DualBatchNorm, branch, convert_dual_batchnorm, strip_dual_batchnorm


def small(dim=2):
    torch.manual_seed(0)
    conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dim](3, 4, 3)
    norm = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dim]
    return nn.Sequential(conv, norm(4), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5), nn.BatchNorm1d(5))


def fitted():
    """The small one, converted, once its lazy layer has its shape."""
    model = small()
    model(torch.rand(2, 3, 6, 6))
    return convert_dual_batchnorm(model)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_branches_have_their_own_statistics_and_share_the_rest(dim):
    x = torch.randn(8, 3, *[6] * dim)
    model = small(dim)
    model(x)
    plain = copy.deepcopy(model)
    dual = convert_dual_batchnorm(model)
    clean_before = copy.deepcopy([m.clean.state_dict() for m in dual.modules() if isinstance(m, DualBatchNorm)])
    with branch(dual, "adversarial"):
        adversarial = dual(3 * x + 1)
    for module, before in zip([m for m in dual.modules() if isinstance(m, DualBatchNorm)], clean_before, strict=True):
        assert all(torch.equal(module.clean.state_dict()[k], v) for k, v in before.items())
        assert not torch.equal(module.adversarial.running_mean, before["running_mean"])
    assert torch.equal(dual(x), plain(x))
    for norm in (plain[1], plain[5]):
        norm.momentum = 0.01
    assert dual[1].adversarial.momentum == 0.01
    assert adversarial.shape == (8, 5)
    assert len(list(dual.parameters())) == len(list(plain.parameters())) + 4


def test_equal_to_timms_split_batch_norm_on_a_joined_batch():
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=0)
    split, dual = (
        convert_splitbn_model(copy.deepcopy(model), 2),
        convert_dual_batchnorm(copy.deepcopy(model), momentum=0.1),
    )
    x, views = torch.rand(6, 3, 32, 32), 2 * torch.rand(6, 3, 32, 32) - 1
    for _ in range(3):
        joined = split(torch.cat([x, views]))
        with branch(dual, "adversarial"):
            hard = dual(views)
        torch.testing.assert_close(torch.cat([dual(x), hard]), joined, atol=1e-5, rtol=1e-4)
    pairs = zip(
        [m for m in split.modules() if hasattr(m, "aux_bn")],
        [m for m in dual.modules() if isinstance(m, DualBatchNorm)],
        strict=True,
    )
    for theirs, ours in pairs:
        torch.testing.assert_close(ours.clean.running_var, theirs.running_var, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(ours.adversarial.running_mean, theirs.aux_bn[0].running_mean, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["resnet10t", "efficientnet_lite0"])
def test_timm_families_convert_and_strip_to_the_same_model(name):
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=3).eval()
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected, keys = model(x), list(model.state_dict())
        dual = convert_dual_batchnorm(model)
        assert torch.equal(dual(x), expected)
        with branch(dual, "adversarial"):
            assert torch.equal(dual(x), expected)
        assert set(dual.state_dict()) != set(keys)
        plain = strip_dual_batchnorm(dual)
        assert list(plain.state_dict()) == keys
        assert torch.equal(plain(x), expected)


def test_sync_batch_norm_before_or_after():
    """Its training needs a GPU; conversion, stripping and evaluation do not."""
    sync = nn.SyncBatchNorm.convert_sync_batchnorm
    x, plain = torch.rand(2, 3, 6, 6), small()
    plain(x)  # the lazy layer takes its shape
    expected = plain.eval()(x)
    for dual in (
        convert_dual_batchnorm(sync(copy.deepcopy(plain))),
        sync(convert_dual_batchnorm(copy.deepcopy(plain))),
    ):
        assert {type(n) for m in dual if isinstance(m, DualBatchNorm) for n in m.children()} == {nn.SyncBatchNorm}
        assert dual[1].adversarial.momentum == 0.01
        assert torch.equal(dual.eval()(x), expected)
        assert list(strip_dual_batchnorm(dual).state_dict()) == list(plain.state_dict())
        assert isinstance(dual[1], nn.SyncBatchNorm)


def test_branch_is_closed_by_an_exception_and_nests():
    model = convert_dual_batchnorm(small())
    with pytest.raises(ZeroDivisionError), branch(model, "adversarial"):
        raise ZeroDivisionError
    assert model[1].active == "clean"
    with branch(model, "adversarial"):
        with branch(model, "clean"):
            assert model[1].active == "clean"
        assert model[1].active == "adversarial"


def test_an_attack_on_the_adversarial_branch_moves_no_statistics(x, vae):
    model = convert_dual_batchnorm(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(3)))
    model(x)
    before = copy.deepcopy(model.state_dict())

    def loss_fn(views):
        with branch(model, "adversarial"):
            return model(views).square().sum(1)

    IDAATransform(vae)(x, loss_fn=loss_fn)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert model[1].active == "clean"


def test_a_norm_shared_by_two_places_stays_one():
    norm = nn.BatchNorm1d(4)
    dual = convert_dual_batchnorm(nn.Sequential(norm, nn.Linear(4, 4), norm))
    assert isinstance(dual[0], DualBatchNorm)
    assert dual[0] is dual[2]


def test_what_cannot_be_converted():
    with pytest.raises(ValueError, match=r"ConvNeXt has no batch norm but \['LayerNorm2d'\]|LayerNorm"):
        convert_dual_batchnorm(timm.create_model("convnext_atto", num_classes=0))
    model = convert_dual_batchnorm(small())
    with pytest.raises(ValueError, match="has dual batch norm already; convert it once"):
        convert_dual_batchnorm(model)
    with (
        pytest.raises(ValueError, match=r"Linear has no dual batch norm; make it so"),
        branch(nn.Linear(2, 2), "clean"),
    ):
        pass
    with pytest.raises(ValueError, match="'hard' is neither"), branch(model, "hard"):
        pass


def checkpointed(model, x, reentrant):
    return checkpoint_sequential([*model], 2, x.requires_grad_(), use_reentrant=reentrant)


def gradients(model, how, joint=False):
    """Of a step on clean and hard images, each pass and its backward in a block."""
    x, hard = torch.randn(2, 6, 3, 6, 6, generator=torch.Generator().manual_seed(3))
    with branch(model, "clean"):
        clean = how(model, x).square()[:, 0].tanh().sum()
        if not joint:
            clean.backward()
    with branch(model, "adversarial"):
        adversarial = how(model, 3 * hard + 1).tanh()[:, 1].sum()
        (clean + adversarial if joint else adversarial).backward()
    return [p.grad for p in model.parameters()]


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_with_backward_in_the_block_gives_the_same_gradients(reentrant):
    how = functools.partial(checkpointed, reentrant=reentrant)
    torch.testing.assert_close(gradients(fitted(), how), gradients(fitted(), lambda model, x: model(x)))


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing_with_backward_elsewhere_is_refused(reentrant):
    """After the block, in a block of the other branch, and jointly for two: never a gradient of the wrong one."""
    how = functools.partial(checkpointed, reentrant=reentrant)
    x = torch.randn(6, 3, 6, 6)
    model = fitted()
    with branch(model, "adversarial"):
        loss = how(model, x).square().sum()
    with pytest.raises(RuntimeError, match="call backward inside the block"):
        loss.backward()
    loss = how(model, x).square().sum()
    with branch(model, "adversarial"), pytest.raises(RuntimeError, match="call backward inside the block"):
        loss.backward()
    with pytest.raises(RuntimeError, match="call backward inside the block"):
        gradients(fitted(), how, joint=True)


def test_blocks_within_a_checkpointed_part():
    def both(model, x, hard):
        with branch(model, "clean"):
            clean = model(x)
        with branch(model, "adversarial"):
            return clean.square()[:, 0] + model(hard).tanh()[:, 1]

    found = []
    for again in (True, False):
        model = fitted()
        x, hard = torch.randn(2, 6, 3, 6, 6, generator=torch.Generator().manual_seed(3))
        loss = checkpoint(both, model, x, hard, use_reentrant=False) if again else both(model, x, hard)
        loss.tanh().sum().backward()
        found.append([p.grad for p in model.parameters()])
    torch.testing.assert_close(*found)


@pytest.mark.slow
def test_a_compiled_model():
    model = fitted()
    found = gradients(model, lambda m, v: torch.compile(m, backend="aot_eager", fullgraph=True)(v))
    torch.testing.assert_close(found, gradients(fitted(), lambda m, v: m(v)))
