"""Every fast path gives what the plain one gives, and holds no more memory than it says."""

import copy
import io

import pytest
import torch
from conftest import tiny_vae
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.testing import CompileCounterWithBackend

from benchmarks.harness import memory
from idaa_transforms import IDAATransform
from idaa_transforms.autoencoders import ConvVAE
from idaa_transforms.kornia import RandomIDAA
from idaa_transforms.sample import cifar10_sample

pytestmark = pytest.mark.slow


def images(batch, size=16, seed=0):
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def rising(views):
    """A loss with a slope everywhere, row by row."""
    return (views * torch.linspace(-1, 1, views[0].numel()).view(views.shape[1:])).pow(2).flatten(1).sum(1)


@pytest.fixture(params=[{}, {"steps": 3, "norm": "l2"}, {"scale": "posterior"}, {"chunk_size": 2}])
def pair(request):
    """A transform, and the same one compiled; with a backend that counts the graphs."""
    torch._dynamo.reset()
    graphs = CompileCounterWithBackend("aot_eager")
    plain, fast = IDAATransform(tiny_vae(), **request.param), IDAATransform(tiny_vae(), **request.param)
    fast.compile(backend=graphs)
    return plain, fast, graphs


def test_compiled_views_at_changing_batch_sizes(pair):
    plain, fast, graphs = pair
    for batch in (3, 7, 5, 2, 1, 6):
        x = images(batch)
        torch.testing.assert_close(fast(x, loss_fn=rising), plain(x, loss_fn=rising), atol=1e-5, rtol=0)
    after = graphs.frame_count
    assert 3 <= after <= 12  # encode, decode with and without gradients; torch treats 1, and small batches, apart
    fast(images(4), loss_fn=rising)
    assert graphs.frame_count == after


@pytest.mark.parametrize("options", [{}, {"mode": "reduce-overhead"}])
def test_compiled_for_real(options):
    torch._dynamo.reset()
    plain, fast = IDAATransform(tiny_vae()), RandomIDAA(tiny_vae(), p=1.0)
    fast.compile(**options)
    for batch in (3, 5):
        x = images(batch)
        torch.testing.assert_close(fast(x, loss_fn=rising), plain(x, loss_fn=rising), atol=1e-5, rtol=0)


def test_what_cuda_graphs_would_overwrite_is_copied():
    """Stands in for a CUDA graph: a backend whose graphs write every output into the same memory."""
    torch._dynamo.reset()

    def overwriting(graph, inputs):
        places = {}

        def call(*args):
            return [
                places.setdefault((i, out.shape), torch.empty_like(out)).copy_(out)
                if isinstance(out, torch.Tensor)
                else out
                for i, out in enumerate(graph(*args))
            ]

        return call

    plain, fast = IDAATransform(tiny_vae(), steps=2), IDAATransform(tiny_vae(), steps=2)
    fast.compile(backend=aot_autograd(fw_compiler=overwriting), options={})
    first, second = images(3), images(3, seed=1)
    found, again = fast.explain(first, loss_fn=rising), fast.explain(second, loss_fn=rising)
    torch.testing.assert_close(found, plain.explain(first, loss_fn=rising), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(again, plain.explain(second, loss_fn=rising), atol=1e-4, rtol=1e-4)


def test_two_compiled_transforms_in_one_process_do_not_share_a_limit():
    torch._dynamo.reset()
    for seed in range(3):
        fast = IDAATransform(tiny_vae(seed=seed))
        fast.compile(backend="eager")
        for batch in (1, 2):
            fast(images(batch), loss_fn=rising)


def test_what_cannot_be_one_graph_says_so():
    class Breaks(ConvVAE):
        def decode(self, z):
            torch._dynamo.graph_break()
            return super().decode(z)

    fast = IDAATransform(Breaks(16, 8, width=8))
    fast.compile(backend="eager")
    with pytest.raises(torch._dynamo.exc.Unsupported, match="graph_break"):
        fast(images(2), loss_fn=rising)


def test_a_copy_of_a_compiled_transform_has_its_own_weights():
    fast = IDAATransform(tiny_vae())
    fast.compile(backend="eager")
    x = images(3)
    before = fast(x, loss_fn=rising)
    file = io.BytesIO()
    torch.save(fast, file)
    file.seek(0)
    for other in (copy.deepcopy(fast), torch.load(file, weights_only=False)):
        torch.testing.assert_close(other(x, loss_fn=rising), before, atol=1e-5, rtol=0)
        nn.init.zeros_(other.autoencoder.from_latent.weight)
        assert not torch.equal(other(x, loss_fn=rising), before)
    assert torch.equal(fast(x, loss_fn=rising), before)


@given(size=st.integers(8, 40), latent_dim=st.integers(1, 9), batch=st.integers(0, 3), seed=st.integers(0, 99))
def test_the_mean_alone(size, latent_dim, batch, seed):
    vae = tiny_vae(size, latent_dim, seed=seed)
    x = images(batch, size, seed)
    assert torch.equal(vae.encode_mean(x), vae.encode(x).mean)


def test_an_autoencoder_without_encode_mean_works_as_well():
    class Plain(nn.Module):
        def __init__(self, vae):
            super().__init__()
            self.vae, self.mean, self.std, self.latent_scale = vae, vae.mean, vae.std, vae.latent_scale
            self.encode, self.decode = vae.encode, vae.decode

    x = images(3)
    assert torch.equal(
        IDAATransform(Plain(tiny_vae()))(x, loss_fn=rising), IDAATransform(tiny_vae())(x, loss_fn=rising)
    )


def test_channels_last():
    plain, fast = (IDAATransform.from_pretrained("cifar10-vae-z128") for _ in range(2))
    fast = fast.to(memory_format=torch.channels_last)
    x, gradient = cifar10_sample()[0][:16], torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    plain, fast = plain.explain(x, grad=gradient), fast.explain(x, grad=gradient)
    torch.testing.assert_close(fast.latent, plain.latent, atol=1e-5, rtol=0)
    same = (fast.delta == plain.delta).all(1)  # a gradient of nearly zero may change its sign
    assert same.float().mean() >= 0.8
    torch.testing.assert_close(fast.views[same], plain.views[same], atol=1e-5, rtol=0)


def test_bfloat16_weights_err_within_what_is_said():
    plain, fast = (IDAATransform.from_pretrained("cifar10-vae") for _ in range(2))
    fast = fast.bfloat16()
    x, gradient = cifar10_sample()[0], torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    exact, short = plain.explain(x, grad=gradient), fast.explain(x, grad=gradient)
    error = (short.views - exact.views).abs()
    assert error.mean() < 0.005
    assert error.max() < 0.05
    assert (short.delta.sign() != exact.delta.sign()).float().mean() < 0.04

    def moved(aug):  # by the same delta, so that no sign decides
        z = aug.codec.encode(x)
        return aug.codec.decode(z + exact.delta, x.shape) - aug.codec.decode(z, x.shape)

    with torch.no_grad():
        assert (moved(fast) - moved(plain)).abs().max() < 0.02


def test_no_memory_stays_after_200_calls():
    aug, x = IDAATransform(tiny_vae()), images(4)

    def calls(count):
        for _ in range(count // 2):
            aug(x, loss_fn=rising)
            aug(x, grad=x - 0.5)

    calls(2)
    once, _ = memory(lambda: calls(2), "cpu")
    peak, left = memory(lambda: calls(200), "cpu")
    assert once > x.nbytes  # it was seen at all
    assert left == 0
    assert peak < 1.5 * once


def test_memory_does_not_grow_with_steps_and_is_bounded_by_chunks():
    x = images(32)

    def peak(**parameters):
        aug = IDAATransform(tiny_vae(), **parameters)
        aug(x, loss_fn=rising)
        return memory(lambda: aug(x, loss_fn=rising), "cpu")[0]

    assert peak(steps=9) == peak(steps=3)
    assert peak(chunk_size=4) < 0.5 * peak()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("parameters", [{}, {"p": 0.5}, {"steps": 2, "start": "uniform", "norm": "l2"}])
def test_the_host_never_waits_for_the_device(parameters):
    aug, x = IDAATransform(tiny_vae(), **parameters).cuda(), images(8).cuda()
    slope = torch.linspace(-1, 1, x[0].numel(), device="cuda").view(x.shape[1:])

    def loss(views):
        return (views * slope).pow(2).flatten(1).sum(1)

    aug(x, loss_fn=loss)  # the first call reads values
    torch.cuda.set_sync_debug_mode("error")
    try:
        aug(x, loss_fn=loss)
        aug(x, grad=x - 0.5)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_graphs(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch._dynamo.reset()
    plain, fast = IDAATransform(tiny_vae()).cuda(), IDAATransform(tiny_vae()).cuda()
    fast.compile(mode="reduce-overhead", dynamic=False)
    x = images(8).cuda()
    for _ in range(4):
        torch.testing.assert_close(fast(x, grad=x - 0.5), plain(x, grad=x - 0.5), atol=1e-5, rtol=0)
