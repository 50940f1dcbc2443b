"""Every fast path gives what the plain one gives, and holds no more memory than it says."""

import copy
import io
import warnings

import pytest
import torch
from conftest import images, rising, tiny_vae
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.testing import CompileCounterWithBackend

from benchmarks.harness import memory
from idaa_transforms import IDAATransform
from idaa_transforms.kornia import RandomIDAA
from idaa_transforms.sample import cifar10_sample

pytestmark = pytest.mark.slow


def batch(size, seed=0, pixels=16):
    return images((size, 3, pixels, pixels), seed)


class TestCompiled:
    @pytest.mark.parametrize("options", [{"steps": 3, "norm": "l2"}, {"eps_unit": "posterior", "sizes": True}])
    def test_views_of_batches_and_images_of_any_size_by_few_graphs(self, options):
        torch._dynamo.reset()
        graphs, options = CompileCounterWithBackend("eager"), dict(options)
        shapes = (
            [(3, 16, 16), (3, 24, 9), (3, 5, 31)] if options.pop("sizes", False) else [(n, 16, 16) for n in (3, 7, 1)]
        )
        plain, fast = IDAATransform(tiny_vae(), 0.1, **options), RandomIDAA(tiny_vae(), 0.1, p=1.0, **options)
        fast.compile(backend=graphs)
        for n, *size in [*shapes, shapes[0]]:
            x, after = images((n, 3, *size)), graphs.frame_count
            torch.testing.assert_close(fast(x, loss_fn=rising), plain(x, loss_fn=rising), atol=1e-5, rtol=0)
        assert graphs.frame_count == after <= 12  # encode, decode with and without gradients; torch treats 1 apart

    def test_what_cuda_graphs_would_overwrite_is_copied(self):
        """Stands in for a CUDA graph: a backend whose graphs write every output into the same memory."""
        torch._dynamo.reset()

        def overwriting(graph, inputs):
            places = {}

            def kept(i, out):
                tensor = isinstance(out, torch.Tensor)
                return places.setdefault((i, out.shape), torch.empty_like(out)).copy_(out) if tensor else out

            return lambda *args: [kept(i, out) for i, out in enumerate(graph(*args))]

        plain, fast = IDAATransform(tiny_vae(), steps=2), IDAATransform(tiny_vae(), steps=2)
        fast.compile(backend=aot_autograd(fw_compiler=overwriting), options={})
        found = [fast.explain(x, loss_fn=rising) for x in (batch(3), batch(3, 1))]
        for seed in (0, 1):
            expected = plain.explain(batch(3, seed), loss_fn=rising)
            for name in ("views", "delta", "latent", "residual", "loss_after"):
                torch.testing.assert_close(getattr(found[seed], name), getattr(expected, name), atol=1e-4, rtol=1e-4)

    def test_a_copy_has_its_own_weights(self):
        fast, x, file = IDAATransform(tiny_vae()), batch(3), io.BytesIO()
        fast.compile(backend="eager")
        before = fast(x, loss_fn=rising)
        torch.save(fast, file)
        file.seek(0)
        for other in (copy.deepcopy(fast), torch.load(file, weights_only=False)):
            torch.testing.assert_close(other(x, loss_fn=rising), before, atol=1e-5, rtol=0)
            nn.init.zeros_(other.autoencoder.from_latent.weight)
            assert not torch.equal(other(x, loss_fn=rising), before)
        assert torch.equal(fast(x, loss_fn=rising), before)

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    def test_cuda_graphs(self, monkeypatch):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
        torch._dynamo.reset()
        plain, fast = IDAATransform(tiny_vae()).cuda(), IDAATransform(tiny_vae()).cuda()
        fast.compile(mode="reduce-overhead", dynamic=False)
        x = batch(8).cuda()
        for _ in range(4):
            torch.testing.assert_close(fast(x, grad=x - 0.5), plain(x, grad=x - 0.5), atol=1e-5, rtol=0)


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
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the CPU emulates")
        fast = fast.bfloat16()
    x, gradient = cifar10_sample()[0][:12], torch.randn(12, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    exact, short = plain.explain(x, grad=gradient), fast.explain(x, grad=gradient)
    assert short.views.dtype == torch.float32
    assert short.delta.abs().max() <= torch.tensor(plain.eps * plain.autoencoder.latent_scale)
    error = (short.views - exact.views).abs()
    assert error.mean() < 0.005
    assert error.max() < 0.05
    assert (short.delta.sign() != exact.delta.sign()).float().mean() < 0.04

    def moved(aug):  # by the same delta, so that no sign decides
        z = aug.codec.encode(x)
        return aug.codec.decode(z + exact.delta, x.shape) - aug.codec.decode(z, x.shape)

    with torch.no_grad():
        assert (moved(fast) - moved(plain)).abs().max() < 0.02


class TestMemory:
    def test_none_stays_after_many_calls(self):
        aug, x = IDAATransform(tiny_vae()), batch(4)

        def calls(count):
            for _ in range(count // 2):
                aug(x, loss_fn=rising)
                aug(x, grad=x - 0.5)

        calls(2)
        once, _ = memory(lambda: calls(2), "cpu")
        peak, left = memory(lambda: calls(60), "cpu")
        assert once > x.nbytes  # it was seen at all
        assert left == 0
        assert peak < 1.5 * once

    def test_it_does_not_grow_with_steps_and_is_bounded_by_chunks(self):
        x = batch(32)

        def peak(**settings):
            aug = IDAATransform(tiny_vae(), **settings)
            aug(x, loss_fn=rising)
            return memory(lambda: aug(x, loss_fn=rising), "cpu")[0]

        assert peak(steps=9) == peak(steps=3)
        assert peak(chunk_size=4) < 0.5 * peak()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("options", [{}, {"p": 0.5}, {"steps": 2, "random_start": True, "norm": "l2"}])
def test_the_host_never_waits_for_the_device(options):
    aug, x = IDAATransform(tiny_vae(), 0.1, **options).cuda(), batch(8).cuda()
    weight = torch.linspace(-1, 1, x[0].numel(), device="cuda").view(x.shape[1:])
    loss = lambda v: (v * weight).pow(2).flatten(1).sum(1)  # noqa: E731
    aug(x, loss_fn=loss)  # the first call reads values
    torch.cuda.set_sync_debug_mode("error")
    try:
        aug(x, loss_fn=loss)
        aug(x, grad=x - 0.5)
        aug(x, loss_fn=lambda v: loss(v) * torch.nan)  # no later one does
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert aug.stats()["unchanged"] > 0
