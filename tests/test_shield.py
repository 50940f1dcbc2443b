"""The shield whole: after a block every object of the user's is the same, holds the same and has the same values."""

import collections
import sys
import warnings

import pytest
import torch
from conftest import Encoder
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from idaa_transforms import ClosureMutationWarning, IDAATransform, untouched
from idaa_transforms.core import shield
from idaa_transforms.core.plan import Plan


class Memory(nn.Module):
    """A loss with a queue, its pointer in Python, a lazy attribute, a cache, and a history."""

    def __init__(self, size=32):
        super().__init__()
        self.rows, self.pointer, self.full, self.scale = torch.zeros(size, 6), 0, False, None
        self.shapes, self.history, self.seen = (), [], {"last": None}

    def forward(self, z):
        self.out = z  # with its graph
        self.scale = z.detach().std() if self.scale is None else self.scale
        self.shapes = (*self.shapes, z.shape)
        self.history.append(z)
        self.seen = {**self.seen, "last": z}
        with torch.no_grad():
            self.rows[self.pointer : self.pointer + len(z)] = z
        self.full |= self.pointer + len(z) >= len(self.rows)
        self.pointer = (self.pointer + len(z)) % len(self.rows)
        return (z @ self.rows.clone().T).sum() * self.scale


class Helper:
    def __init__(self, **held):
        self.__dict__.update(held)


class Slots:
    __slots__ = ("late", "value")


def contents(thing, seen):
    """Identity and value of all that is behind ``thing``, read in the plain way."""
    if id(thing) in seen:
        return id(thing)
    seen.add(id(thing))
    value = None
    if isinstance(thing, torch.Tensor):
        value = (thing.detach().clone().numpy().tobytes(), thing.stride(), thing.requires_grad)
        value = (*value, id(thing.grad) if thing.is_leaf else None)
    elif isinstance(thing, dict):
        value = [(key, contents(part, seen)) for key, part in thing.items()]
    elif isinstance(thing, list | tuple | collections.deque):
        value = [contents(part, seen) for part in thing]
    elif isinstance(thing, set):
        value = sorted(map(id, thing))
    elif hasattr(thing, "__dict__") and not isinstance(thing, type) and not callable(getattr(thing, "__get__", None)):
        value = contents(vars(thing), seen) if isinstance(thing, nn.Module | Helper) else None
    elif isinstance(thing, Slots):
        value = [(name, contents(getattr(thing, name, None), seen)) for name in Slots.__slots__]
    return id(thing), value


def odd_tensors(generator):
    base = torch.randn(4, 6, generator=generator)
    return [
        base, base.t(), base[:, ::2], base[:1].expand(3, 6), base[0, :1].expand(2, 3, 4), torch.tensor(3),
        torch.zeros(0, 3), base.to(torch.bfloat16).float(), base > 0, base.as_strided((3, 3), (1, 1)),
        base.clone().requires_grad_(), (base.clone().requires_grad_() * 2),
    ]  # fmt: skip


def build(draw, depth=2):
    """A random module: tensors, containers, helper objects and modules as attributes, some shared."""
    tensors = odd_tensors(torch.Generator().manual_seed(draw(st.integers(0, 2**31))))
    leaf = st.one_of(
        st.sampled_from(tensors), st.integers(), st.none(), st.text(max_size=2), st.just(nn.BatchNorm1d(6))
    )
    slots = st.builds(lambda value: (box := Slots(), setattr(box, "value", value))[0], leaf)
    holder = st.one_of(
        st.lists(leaf, max_size=3),
        st.lists(leaf, max_size=3).map(tuple),
        st.lists(leaf, max_size=3).map(lambda v: collections.deque(v, maxlen=5)),
        st.dictionaries(st.sampled_from("abc"), leaf, max_size=3),
        st.dictionaries(st.sampled_from("abc"), leaf, max_size=3).map(collections.OrderedDict),
        st.sets(st.sampled_from(tensors), max_size=2),
        st.builds(lambda a, b: Helper(a=a, b=b), leaf, leaf),
        slots,
    )
    nested = st.one_of(leaf, holder, st.lists(holder, max_size=2), st.builds(lambda h: Helper(h=h), holder))
    module = nn.Module()
    for name in draw(st.sets(st.sampled_from("pqrstu"), max_size=5)):
        setattr(module, name, draw(nested))
    for name in draw(st.sets(st.sampled_from("vw"))):
        module.register_buffer(name, draw(st.sampled_from(tensors)))
    module.weight = nn.Parameter(torch.randn(3))
    module.weight.grad = draw(st.sampled_from([None, torch.ones(3)]))
    if depth and draw(st.booleans()):
        module.child = build(draw, depth - 1)
    return module


def disturb(thing, draw, seen):
    """Change everything that can be changed, each in a random way."""
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, torch.Tensor):
        if not isinstance(thing, nn.Parameter) and not (thing.is_leaf and thing.requires_grad):
            with torch.no_grad():
                thing.fill_(1) if 0 not in thing.stride() and thing.stride() != (1, 1) else None
        return
    if isinstance(thing, nn.Module):
        thing.train(draw(st.booleans()))
        for p in thing.parameters(recurse=False):
            p.grad = torch.zeros_like(p)
            p.requires_grad_(draw(st.booleans()))
    held = thing if isinstance(thing, dict) else getattr(thing, "__dict__", None)
    parts = [*held.values()] if isinstance(held, dict) else []
    parts += [*thing] if isinstance(thing, list | tuple | collections.deque | set) else []
    for part in parts:
        if isinstance(part, torch.Tensor | nn.Module | Helper | Slots | dict | list | tuple | collections.deque | set):
            disturb(part, draw, seen)
    if isinstance(thing, Slots):
        thing.late = 1
        del thing.value
    elif isinstance(thing, list | collections.deque):
        draw(st.sampled_from([thing.clear, lambda: thing.append(1), thing.reverse, lambda: thing.extend([1, 2, 3])]))()
    elif isinstance(thing, set):
        thing.add(torch.zeros(1))
    elif isinstance(thing, Helper | dict) or type(thing) is nn.Module:
        names = [n for n in held if isinstance(n, str) and len(n) == 1]
        for name in draw(st.sets(st.sampled_from(names))) if names else ():
            value = held.pop(name)
            if draw(st.booleans()):
                held[name if draw(st.booleans()) else "x" + name] = draw(st.sampled_from([value, None, 7]))


@given(data=st.data(), raises=st.booleans(), strict=st.booleans())
@pytest.mark.filterwarnings("ignore::idaa_transforms.ClosureMutationWarning")
def test_nothing_differs_after_a_block(data, raises, strict):
    model = build(data.draw)
    if data.draw(st.booleans()):  # the second time the way is remembered
        with untouched(model):
            pass
    before = contents(model, set())
    try:
        with untouched(lambda v: model, strict=strict):
            disturb(model, data.draw, set())
            if raises:
                raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    assert contents(model, set()) == before


def test_training_with_attacks_leaves_a_memory_as_training_without(x, vae):
    """Eight steps of four rows fill the queue exactly once, whatever an attack does in between."""
    aug, encoder = IDAATransform(vae), nn.Sequential(nn.Flatten(), nn.Linear(768, 6))
    attacked, alone = Memory(), Memory()
    for step in range(8):
        aug(x, loss_fn=lambda v: attacked(encoder(v)))
        assert hasattr(attacked, "out") is (step > 0)
        for memory in (attacked, alone):
            memory(encoder(x))
        assert attacked.pointer == alone.pointer
        assert torch.equal(attacked.scale, alone.scale)
        assert len(attacked.history) == len(attacked.shapes) == step + 1
    assert attacked.full
    assert torch.equal(attacked.rows, alone.rows)
    assert (attacked.rows != 0).any(1).all()


def test_it_is_the_tensors_that_are_stood_in_for():
    model = Memory()
    rows = model.rows
    with untouched(lambda z: model(z)):
        assert model.rows is not rows
        model(torch.ones(4, 6))
    assert model.rows is rows
    assert (rows == 0).all()
    assert rows._version == 0


@pytest.mark.parametrize("size", [3, 1000])
def test_containers_of_any_size_are_put_back(size):
    model = nn.Module()
    model.table, model.history, model.empty = {i: -i for i in range(size)}, [*range(size)], {}
    with untouched(model):
        model.table.pop(1)
        model.table["new"] = 1
        model.history.append(5)
        model.empty["x"] = 1
    assert [*model.table.items()] == [(i, -i) for i in range(size)]
    assert model.history == [*range(size)]
    assert model.empty == {}


def test_the_order_of_an_ordered_dict_is_put_back():
    model = nn.Module()
    model.table = collections.OrderedDict(a=1, b=2)
    model.table.move_to_end("a")
    with untouched(model):
        model.table["b"] = 3
        model.table.move_to_end("b")
    assert [*model.table.items()] == [("b", 2), ("a", 1)]


def test_a_value_that_moved_to_the_next_list_stays_there():
    model = nn.Module()
    model.one, model.two = [1, 2], [3]
    with untouched(model):
        pass
    model.two.insert(0, model.one.pop())  # all values in a row are what they were
    with untouched(model):
        model.two.insert(0, model.one.pop())
    assert (model.one, model.two) == ([1], [2, 3])


@pytest.mark.parametrize("size", [4, 2**16])
def test_tensors_that_share_memory_do_so_within_a_block(size):
    model = nn.Module()
    model.register_buffer("queue", torch.zeros(size, 6))
    model.front, model.column, model.plain = model.queue[:2], model.queue.t()[1], torch.zeros(3)
    held = model.queue, model.front, model.column
    for _ in range(2):
        with untouched(model):
            assert model.queue is not held[0]
            model.front.fill_(1)
            assert torch.equal(model.queue[:2], torch.ones(2, 6))
            assert torch.equal(model.column[:3], torch.tensor([1.0, 1.0, 0.0]))
            assert model.column.stride() == held[2].stride()
            assert (model.plain == 0).all()
            model.front.mul_(torch.ones(6, requires_grad=True))  # autograd lets it, as for the originals
            assert model.front.requires_grad
    assert all(now is was for now, was in zip((model.queue, model.front, model.column), held, strict=True))
    assert (model.queue == 0).all()


def test_a_small_view_of_much_memory_is_copied_alone():
    model, data = nn.Module(), torch.zeros(1000, 1000)
    model.first, model.second = data[:1], data[1:2]
    with untouched(model):
        assert model.first.untyped_storage().nbytes() == 4000
        model.first.fill_(1)
        model.second.fill_(1)
    assert (data == 0).all()


HIDDEN = {}


def test_strict_says_where_a_loss_came_from_a_model_that_was_not_found(x, vae):
    model = HIDDEN["model"] = Encoder().eval()
    aug = IDAATransform(vae, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        aug(x, loss_fn=lambda v: v.square().sum())  # from no model
        aug(x, loss_fn=lambda v: model(v).square().sum())  # from one that is found
    with pytest.warns(ClosureMutationWarning, match="none was found in the closure"):
        aug(x, loss_fn=lambda v: sys.modules[__name__].__dict__["HIDDEN"]["model"](v).square().sum())


def test_a_trainer_that_holds_the_transform_leads_nowhere_into_this_package(vae):
    """Not to the shield's own list of what is up: to put that back would take the claims of other threads away, and it
    made every call walk everything anew."""
    trainer = Helper(model=Encoder(), aug=IDAATransform(vae))
    plan = Plan([("trainer", trainer)])
    found = plan.read([trainer])
    assert any(thing is trainer.model for thing in found)
    assert not any(thing is shield._held for thing in found)
