"""What a closure's model looks like during an attack, and that everything of it is back afterwards."""

import functools
import signal
import threading
import types
import warnings
from collections import OrderedDict, deque

import pytest
import torch
from conftest import Encoder
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from idaa_transforms import ClosureMutationWarning, IDAATransform, preserve_state


def snapshot(model):
    """Identity and values of everything that has to stay."""
    own = {name: vars(module).copy() for name, module in model.named_modules()}
    buffers = {name: (id(b), b.clone()) for name, b in model.named_buffers()}
    parameters = {
        name: (
            id(p),
            p.detach().clone(),
            id(p.grad),
            None if p.grad is None else p.grad.clone(),
            p.requires_grad,
            dict(vars(p)),
        )
        for name, p in model.named_parameters()
    }
    tensors = {(m, k): (id(v), v.clone()) for m, d in own.items() for k, v in d.items() if isinstance(v, torch.Tensor)}
    contents = {
        (m, k): (id(v), [*v.items()] if isinstance(v, dict) else [*v])
        for m, d in own.items()
        for k, v in d.items()
        if isinstance(v, list | dict | set | deque)
    }
    plain = {(m, k): v for m, d in own.items() for k, v in d.items() if isinstance(v, bool | int | str)}
    return buffers, parameters, tensors, contents, plain


def assert_same(before, after):
    for old, new in zip(before, after, strict=True):
        assert old.keys() == new.keys()
        for key, value in old.items():
            values = value if isinstance(value, tuple) else (value,)
            for a, b in zip(values, new[key] if isinstance(value, tuple) else (new[key],), strict=True):
                same = (
                    torch.equal(a, b)
                    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)
                    else a is b or a == b
                )
                assert same, key


def loss(model, views):
    return nn.functional.cross_entropy(model(views), torch.arange(len(views)) % 6)


GLOBAL = Encoder()


def by_global(views):
    return through_another_global(views)


def through_another_global(views):
    return loss(GLOBAL, views)


class Objective:
    def __init__(self, model):
        self.parts = {"online": [model]}

    def __call__(self, views):
        return loss(self.parts["online"][0], views)

    def method(self, views):
        return self(views)


class Slots:
    __slots__ = ("late", "model")

    def __init__(self, model):
        self.model = model

    def __call__(self, views):
        return loss(self.model, views)


class Inside(nn.Module):
    """A module that keeps the model where torch does not see it."""

    def __init__(self, model):
        super().__init__()
        self.hidden = (model,)

    def forward(self, views):
        return loss(self.hidden[0], views)


class Accelerator:
    """As a library's object that holds the models it prepared."""

    def __init__(self, model):
        self._models, self.logger, self.lock = [model], warnings, threading.Lock()


def decorated(model):
    @functools.wraps(loss)
    def wrapper(views):
        return loss(model, views)

    return wrapper


CLOSURES = {
    "lambda": lambda m: lambda v: loss(m, v),
    "default argument": lambda m: lambda v, m=m: loss(m, v),
    "keyword argument": lambda m: lambda v, *, m=m: loss(m, v),
    "partial": lambda m: functools.partial(loss, m),
    "object": Objective,
    "slots": Slots,
    "bound method": lambda m: Objective(m).method,
    "module": Inside,
    "list": lambda m: lambda v, held=[m]: loss(held[0], v),
    "ordered dict in a deque": lambda m: lambda v, held=deque([OrderedDict(a=(m,))]): loss(held[0]["a"][0], v),
    "namespace": lambda m: (lambda held: lambda v: loss(held.net, v))(types.SimpleNamespace(net=m)),
    "a library's object": lambda m: (lambda held: lambda v: loss(held._models[0], v))(Accelerator(m)),
    "global": lambda m: by_global,
    "decorated": decorated,
    "cached": lambda m: functools.lru_cache(lambda v: loss(m, v)),
    "torch.compile": lambda m: (lambda fast: lambda v: loss(fast, v))(torch.compile(m, backend="eager")),
    "a lambda inside": lambda m: lambda v: (lambda: loss(m, v))(),
}


@pytest.mark.parametrize(
    ("kind", "raises"), [*((kind, False) for kind in CLOSURES), ("lambda", True), ("module", True)]
)
def test_everything_of_a_model_is_back(kind, raises, x, vae):
    model = (GLOBAL if kind == "global" else Encoder()).train()
    model.frozen.eval()
    model(x).square().sum().backward()
    model.head.bias.grad = None
    closure, seen = CLOSURES[kind](model), []
    before = snapshot(model)

    def loss_fn(views):
        value = closure(views)
        seen.append(model.queue)
        if raises:
            raise ZeroDivisionError
        return value

    aug = IDAATransform(vae)
    if raises:
        with pytest.raises(ZeroDivisionError):
            aug(x, loss_fn=loss_fn)
    else:
        assert not torch.equal(aug(x, loss_fn=loss_fn), x)
    assert seen[0] is not model.queue
    assert_same(before, snapshot(model))


def test_without_it_all_of_that_would_move(x):
    model = Encoder().train()
    before = snapshot(model)
    loss(model, x).backward()
    for part in range(3):
        with pytest.raises(AssertionError):
            assert_same(before[part : part + 1], snapshot(model)[part : part + 1])


class Memory(nn.Module):
    """State of every kind: buffers, tensors, counters and containers, new attributes and vanished ones."""

    def __init__(self, children=1):
        super().__init__()
        self.register_buffer("queue", torch.zeros(8, 6))
        self.rows, self.shared = torch.zeros(8, 6), self.queue
        self.pointer, self.history, self.seen, self.recent, self.nested = (
            0,
            [],
            {},
            deque(maxlen=2),
            [{"a": [torch.zeros(3)]}],
        )
        self.names, self.pair, self.gone = {"a"}, (torch.zeros(3), 1), 1
        self.parts = nn.ModuleList(nn.BatchNorm1d(6) for _ in range(children))
        self.last = torch.eye(3).topk(2)  # of a tuple type that cannot be built from a list

    def forward(self, z):
        for part in self.parts:
            z = part(z)
        self.queue.add_(1), self.rows.add_(1), self.pair[0].add_(1), self.nested[0]["a"][0].add_(1)
        assert self.shared is self.queue
        self.pointer, self.out, self.last = self.pointer + 1, z, z.topk(2)
        self.history.append(z), self.recent.append(z), self.names.add("b"), self.seen.update(last=z)
        del self.gone
        self.eval()
        return z


@pytest.mark.parametrize("children", [1, 300])
def test_state_of_every_kind(children):
    model = Memory(children).train()
    before = snapshot(model)
    with preserve_state(lambda v: model(v)):
        model(torch.randn(4, 6))
        model.parts[-1].running_mean.add_(1)
        model.parts[-1].weight.note = model.new = 1
        model.queue = torch.ones(1)
        model.requires_grad_(False)
    assert_same(before, snapshot(model))
    assert not hasattr(model, "out")


def test_what_parameters_carry_goes_back_with_the_module():
    """The patterns of two libraries: a first forward pass that moves what the weight carries into the module, and
    per-sample gradients beside ``.grad``."""

    class Quantised(nn.Linear):
        def forward(self, z):
            if getattr(self.weight, "codes", None) is not None:
                self.codes, self.weight.codes = self.weight.codes, None
            self.weight.grad_sample = z.detach()
            return super().forward(z) + self.codes

    model = Quantised(3, 3)
    model.weight.codes = torch.ones(3)
    expected = super(Quantised, model).forward(torch.ones(1, 3)) + 1
    for _ in range(2):
        with preserve_state(model):
            model(torch.ones(1, 3))
    assert vars(model.weight).keys() == {"codes"}
    torch.testing.assert_close(model(torch.ones(1, 3)), expected)


class Trainer:
    """What is no module: a queue, a meter and a log of the user's own."""

    def __init__(self, model):
        self.model, self.history, self.total, self.queue = model, [], 0.0, deque(maxlen=4)

    def loss(self, views):
        value = self.model(views).square().sum(1)
        self.history.append(float(value.sum()))
        self.total += 1
        return value


def test_the_users_own_objects_are_never_touched(x, vae):
    trainer = Trainer(Encoder().train())
    stop, put = threading.Event(), []

    def fill():
        while not stop.wait(0.0005):
            trainer.queue.append(len(put))
            put.append(len(put))

    thread = threading.Thread(target=fill)
    thread.start()
    aug = IDAATransform(vae)
    for _ in range(20):
        aug(x, loss_fn=trainer.loss)
    stop.set()
    thread.join()
    assert len(trainer.history) == trainer.total == 20
    assert [*trainer.queue] == put[-4:]


def momentum_by_data(model, key):
    for p, q in zip(model.parameters(), key.parameters(), strict=True):
        q.data = 0.9 * q.data + 0.1 * p.data


def momentum_in_place(model, key):
    with torch.no_grad():
        for p, q in zip(model.parameters(), key.parameters(), strict=True):
            q.mul_(0.9).add_(p, alpha=0.1)


@pytest.mark.parametrize("momentum", [momentum_by_data, momentum_in_place])
def test_a_momentum_update_in_the_closure_is_named(momentum, x, vae):
    class MoCo(nn.Module):
        def __init__(self):
            super().__init__()
            self.query, self.key = Encoder(), Encoder()

        def forward(self, views):
            momentum(self.query, self.key)
            return self.query(views) @ self.key(views).T.detach()

    model = MoCo()
    with pytest.warns(
        ClosureMutationWarning, match="closure changed .*key.head.weight, which stays so; keep such updates"
    ):
        IDAATransform(vae)(x, loss_fn=lambda v: model(v).sum(1))


def test_a_captured_tensor_that_changed_is_named(x, vae):
    model, queue = Encoder().eval(), torch.zeros(8, 6)

    def loss_fn(views):
        z = model(views)
        queue[:4] = z.detach()
        return z.square().sum(1)

    with pytest.warns(ClosureMutationWarning, match="the closure changed queue, which stays so"):
        IDAATransform(vae)(x, loss_fn=loss_fn)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ClosureMutationWarning):
            IDAATransform(vae)(x, loss_fn=loss_fn)
        IDAATransform(vae)(x, loss_fn=lambda v: model(v).square().sum(1) + queue.sum())


def test_a_model_that_was_not_found_is_told_and_can_be_named(x, vae):
    model = Encoder().train()
    box = iter([model, model, model])  # in an object of C, which cannot be looked into
    with pytest.warns(ClosureMutationWarning, match=r"depends on a parameter of shape .* of no module"):
        IDAATransform(vae)(x, loss_fn=lambda v: next(box)(v).square().sum(1))
    before = snapshot(model)
    with preserve_state(model), pytest.warns(ClosureMutationWarning):
        IDAATransform(vae)(x, loss_fn=lambda v: next(box)(v).square().sum(1))
    assert_same(before, snapshot(model))


def test_what_a_loss_may_depend_on_without_a_warning(x, vae):
    """Models that were found, captured parameters, and anchors with a graph of their own."""
    model, scale = Encoder().eval(), nn.Parameter(torch.ones(()))
    anchor = Encoder().eval()(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        IDAATransform(vae)(x, loss_fn=lambda v: (model(v) * scale - anchor).square().sum(1))


@pytest.mark.parametrize("wrap", [parametrizations.spectral_norm, parametrizations.weight_norm])
def test_an_earlier_graph_through_the_model_stays_valid(wrap, x, vae):
    model = nn.Sequential(nn.Flatten(), wrap(nn.Linear(768, 4)), nn.BatchNorm1d(4))
    value = model(x).square().sum()
    before = snapshot(model)
    IDAATransform(vae)(x, loss_fn=lambda v: model(v).square().sum())
    assert_same(before, snapshot(model))
    value.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_nothing_is_compiled_anew_from_step_to_step(x, vae):
    torch.compiler.reset()
    model, counter = Encoder().train(), CompileCounter()
    compiled, aug = torch.compile(model, backend=counter), IDAATransform(vae)
    counts = []
    for _ in range(5):
        compiled(x).square().mean().backward()
        aug(x, loss_fn=lambda v: compiled(v).square().sum())
        counts.append(counter.frame_count)
    assert counts[0] > 0
    assert len(set(counts[1:])) == 1


@pytest.mark.parametrize("reentrant", [False, True])
def test_an_optimiser_in_the_backward_pass_does_not_step(reentrant, x, vae):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(784, 4))
    for p in model.parameters():
        p.register_post_accumulate_grad_hook(lambda p: p.data.sub_(p.grad))
    before = snapshot(model)
    views = IDAATransform(vae)(x, loss_fn=lambda v: checkpoint(model, v, use_reentrant=reentrant).square().sum(1))
    assert not torch.equal(views, x)
    assert_same(before, snapshot(model))


def test_threads_with_models_of_their_own(x, vae):
    models, aug = [Encoder().train() for _ in range(3)], IDAATransform(vae)
    before = [snapshot(model) for model in models]

    def work(model):
        for _ in range(10):
            aug(x, loss_fn=lambda v: model(v).square().sum(1))

    threads = [threading.Thread(target=work, args=(model,)) for model in models]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for model, old in zip(models, before, strict=True):
        assert_same(old, snapshot(model))


def test_a_signal_handler_that_raises_within_an_attack(x, vae):
    model = Encoder().train()
    before = snapshot(model)

    def handler(number, frame):
        raise TimeoutError

    def loss_fn(views):
        signal.raise_signal(signal.SIGUSR1)
        return model(views).square().sum(1)

    old = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(TimeoutError):
            IDAATransform(vae)(x, loss_fn=loss_fn)
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert_same(before, snapshot(model))
