"""Awkward for the shield: odd tensors, compiled and lazy models, threads, a thousand calls, models not found."""

import gc
import threading
import warnings
import weakref

import numpy as np
import pytest
import torch
from conftest import Encoder
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

from idaa_transforms import ClosureMutationWarning, IDAATransform, untouched
from idaa_transforms.core import standins


class Odd(nn.Module):
    """Odd tensors beside a usual batch norm."""

    def __init__(self, folder):
        super().__init__()
        self.norm, self.head = nn.BatchNorm2d(3), nn.Linear(3, 2)
        self.register_buffer("eye", torch.eye(3).expand(2, 3, 3))
        np.save(folder / "a.npy", np.ones(3, dtype=np.float32))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of memory that cannot be written
            self.mapped = torch.from_numpy(np.load(folder / "a.npy", mmap_mode="r"))
        self.sparse = torch.eye(3).to_sparse()
        self.compressed = torch.eye(3).to_sparse_csr()
        self.meta = torch.empty(3, device="meta")
        self.nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
        with torch.inference_mode():
            self.inference = torch.ones(3)
        self.register_buffer("uninitialised", nn.UninitializedBuffer())

    def forward(self, v):
        z = self.norm(v).mean((2, 3)) * self.mapped
        if not self.inference.is_inference():  # a stand-in
            z = z * self.inference.clone()
            self.inference += 1
        return self.head(torch.sparse.mm(self.sparse, (z @ self.eye[0]).T).T)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.filterwarnings("ignore::idaa_transforms.ClosureMutationWarning")
def test_an_odd_tensor_costs_nothing_else(tmp_path, x, vae, strict):
    model = Odd(tmp_path)
    del model._buffers["uninitialised"]
    held = {**vars(model), **model._buffers}
    model(x).sum().backward()
    grads = {p: (p.grad, p.grad.clone()) for p in model.parameters()}
    mean, count = model.norm.running_mean.clone(), model.inference.clone()
    IDAATransform(vae, strict=strict)(x, loss_fn=lambda v: model(v).square().sum())
    assert all({**vars(model), **model._buffers}[name] is value for name, value in held.items())
    assert all(p.grad is grad and torch.equal(grad, value) for p, (grad, value) in grads.items())
    assert torch.equal(model.norm.running_mean, mean)
    assert torch.equal(model.inference, count)
    assert model.eye.stride() == (0, 3, 1)


def test_what_is_not_initialised_yet_stays_so(tmp_path):
    model = Odd(tmp_path)
    with untouched(model, strict=True):
        model.norm(torch.randn(4, 3, 2, 2))
        model.norm.eval()
    assert type(model.uninitialised) is nn.UninitializedBuffer


def test_a_lazy_model_is_initialised_for_good_and_in_its_mode(x, vae):
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)).eval()
    plain = nn.BatchNorm2d(3)
    loss_fn = lambda v: model(plain(v)).square().sum()  # noqa: E731
    views = IDAATransform(vae)(x, loss_fn=loss_fn)
    assert not torch.equal(views, x)
    assert plain.num_batches_tracked == 0
    assert type(model[1]) is nn.BatchNorm2d
    assert not model[1].training
    before = {name: value.clone() for name, value in model.train().state_dict().items()}
    IDAATransform(vae)(x, loss_fn=loss_fn)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(model(plain(x)), model(plain(x)))


def test_strict_names_what_was_initialised(x):
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(2), nn.ReLU(), nn.LazyLinear(2))
    with (
        pytest.warns(ClosureMutationWarning, match=r"initialised model\.1, model\.3, which stays so; call") as told,
        untouched(lambda v: model(v), strict=True),
    ):
        model(x)
    assert "put back" not in str(told[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with untouched(lambda v: model(v), strict=True):
            model(x)


class LazyScale(nn.modules.lazy.LazyModuleMixin, nn.Module):
    """It stays of its class once it is initialised."""

    def __init__(self):
        super().__init__()
        self.scale, self.count = nn.UninitializedParameter(), 0

    def initialize_parameters(self, v):
        if self.has_uninitialized_params():
            self.scale.materialize(v.shape[-1:])

    def forward(self, v):
        self.count += 1
        return v * self.scale


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_what_was_initialised_is_put_back_from_then_on():
    model = LazyScale()
    for _ in range(3):
        with untouched(model):
            model(torch.ones(3))
    assert model.count == 1


@pytest.mark.parametrize(
    "norm", [parametrizations.spectral_norm, parametrizations.weight_norm, spectral_norm, weight_norm]
)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_reparametrised_weights(norm, x, vae):
    model = nn.Sequential(nn.Flatten(), norm(nn.Linear(768, 4)))
    loss = model(x).square().sum()  # a graph that an attack in between must not spoil
    before = {name: value.clone() for name, value in model.state_dict().items()}
    IDAATransform(vae)(x, loss_fn=lambda v: model(v).square().sum())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_nothing_is_compiled_anew_from_step_to_step(backend, x, vae):
    torch.compiler.reset()
    model, counter = Encoder().train(), CompileCounter()
    compiled, aug = torch.compile(model, backend=counter if backend == "eager" else backend), IDAATransform(vae)
    metrics, counts = torch._dynamo.utils.counters["stats"], []
    for _ in range(5):
        compiled(x).square().mean().backward()
        aug(x, loss_fn=lambda v: compiled(v).square().sum())
        counts.append((counter.frame_count, metrics["unique_graphs"]))
    assert counts[0][1] > 0
    assert len(set(counts[1:])) == 1


def test_addresses_are_kept_where_graphs_record_them(monkeypatch):
    """The rule for CUDA, tried on the CPU: one address in all blocks, values anew, and none that is in a graph."""
    monkeypatch.setattr(standins, "keeps_address", lambda tensor: True)
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 3))
    model.queue, found = torch.zeros(3), []
    for step in range(4):
        model.queue.fill_(step)
        with untouched(model):
            found.append((model.queue, model[0].running_mean))
            assert torch.equal(model.queue, torch.full((3,), float(step)))
            with untouched(model):
                assert model.queue is not found[-1][0]
            if step == 1:
                model.queue.mul_(model[1](torch.ones(1, 3))[0])
    assert found[0][0] is found[1][0]
    assert found[1][0] is not found[2][0] is found[3][0]
    assert found[0][1] is found[3][1]
    del model, found
    gc.collect()
    assert not standins._kept


def test_a_large_stand_in_is_used_again_but_not_while_a_graph_needs_it():
    model, weight = nn.Module(), torch.ones(4, requires_grad=True)
    model.queue, addresses, losses = torch.ones(2**14, 4), [], []
    for step in range(4):
        model.queue.fill_(step + 1)
        with untouched(model):
            addresses.append(model.queue.data_ptr())
            losses.append((model.queue[0] @ weight).square())
        if step % 2:
            sum(losses).backward()
            losses.clear()
    assert torch.equal(weight.grad, torch.full((4,), 2.0 * 4 * (1 + 4 + 9 + 16)))
    assert addresses[0] != addresses[1] == addresses[2] != addresses[3]


def test_a_kept_stand_in_follows_its_original():
    model = nn.Module()
    model.queue, old = torch.zeros(2**14, 4), []
    for shape in ((2**14, 4), (4, 2**14), (2**15, 4)):
        model.queue.resize_(shape).fill_(len(old))
        with untouched(model):
            assert model.queue.shape == shape
            assert (model.queue == len(old)).all()
        old.append(shape)


class Caching(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.kept, self.me = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)), [], [self]
        self.large = torch.zeros(2**16)
        self.register_forward_hook(self.remember)

    def forward(self, v):
        return self.net(v)

    def remember(self, module, inputs, output):
        self.out = output
        self.kept.append(output)


def closure_of(model):
    anchor = torch.randn(4)
    return lambda v: model(v) - anchor


def test_a_thousand_blocks_leave_nothing_behind():
    model, graphs, v = Caching(), [], torch.randn(2, 4)
    for step in range(1000):
        with untouched(closure_of(model)) as shield:
            graphs.append(weakref.ref(model(v)))
        if step == 500:
            gc.collect()
            before = len(gc.get_objects())
    gc.collect()
    assert not any(graph() is not None for graph in graphs)
    assert len(gc.get_objects()) - before < 2 * 500 + 100  # the list of this test has 500 more references
    assert model.kept == []
    assert id(model.large) in standins._kept
    died, kept = weakref.ref(model), weakref.ref(standins._kept[id(model.large)][1])
    del model  # but not the shield
    gc.collect()
    assert died() is None, shield
    assert kept() is None


def test_two_threads_with_one_model_take_turns(x):
    model, steps, failures = Encoder().train(), 30, []
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tensors = {name: id(value) for name, value in model.named_buffers()}

    def attack(closure):
        for _ in range(steps):
            with untouched(closure):
                queue, mean = model.queue, model.body[1].running_mean
                closure(x)
                if model.queue is not queue or model.body[1].running_mean is not mean:
                    failures.append(closure)

    threads = [threading.Thread(target=attack, args=(c,)) for c in (model, lambda v: model(v), lambda v: model(-v))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert tensors == {name: id(value) for name, value in model.named_buffers()}
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert (model.center == 0).all()


def test_a_closure_may_wait_for_a_thread_with_another_model():
    one, other = nn.BatchNorm1d(3), nn.BatchNorm1d(3)

    def work():
        with untouched(other):
            other(torch.randn(4, 3))

    with untouched(one):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(30)
        assert not thread.is_alive()
    assert other.num_batches_tracked == 0


def overlooked():
    """A model that no search can find: in a C object of a library."""
    box = iter([nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))])
    return lambda v: next(box)(v).sum()


def test_strict_says_where_no_model_was_found():
    view = torch.randn(4, 3, requires_grad=True) * 1
    closure = overlooked()
    with (
        pytest.warns(ClosureMutationWarning, match="none was found in the closure"),
        untouched(closure, strict=True) as s,
    ):
        s.saw(closure(view), view)
    for loss in (lambda v: v.square().sum(), nn.BatchNorm1d(3)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with untouched(loss, strict=isinstance(loss, nn.Module) is False) as s:
                s.saw(loss(view), view)


def test_strict_names_what_changed():
    class Queue(nn.Module):
        def __init__(self):
            super().__init__()
            self.pointer, self.out, self.kept, self.table = 0, None, [torch.zeros(2)], {"a": 1}

        def forward(self, v):
            self.pointer, self.out, self.new = 1, v, 2
            self.kept[0].add_(1)
            self.table["b"] = 2
            del self.table["a"]

    queue = Queue()
    with pytest.warns(ClosureMutationWarning) as told, untouched(lambda v: queue(v), strict=True):
        queue(torch.ones(1))
    for name in ("queue.pointer", "queue.out", "queue.new", "queue.kept[0]", "queue.table['a']", "queue.table['b']"):
        assert name in str(told[0].message)
    assert vars(queue).keys().isdisjoint({"new"})
    assert queue.table == {"a": 1}


def test_kornia_parameters_of_the_training_step_stay():
    augmentation = pytest.importorskip("kornia.augmentation")
    flip, images = augmentation.RandomHorizontalFlip(p=0.5), torch.rand(6, 3, 4, 4)
    out = flip(images)
    with untouched(lambda v: flip(v)):
        for _ in range(3):
            flip(images.flip(0))
    assert torch.equal(flip(images, params=flip._params), out)
    assert torch.equal(flip.inverse(out), images)
