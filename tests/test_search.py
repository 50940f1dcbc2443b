"""Looking for what a closure holds: finds it wherever it is, runs none of its code, and remembers the way."""

import functools
import types
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from idaa_transforms import untouched
from idaa_transforms.core import plan as planning
from idaa_transforms.core.plan import Plan, Plans
from idaa_transforms.core.search import reachable

MODELS = types.ModuleType("my_models")
PACKAGE = types.ModuleType("my_package")
PACKAGE.models = MODELS
MODELS.loss = lambda v: MODELS.net(v).sum()


class Names:
    net: nn.Module

    def __init__(self, net):
        self._net = net

    @property
    def behind_a_property(self):
        return GLOBALS.net

    def by_a_method(self, v):
        return self.another(v)

    def another(self, v):
        return Names.net(v)


GLOBALS = types.SimpleNamespace()
NAMES = Names(None)


@dataclass(slots=True)
class Slots:
    net: nn.Module
    unset: int = 0


class Base:
    __slots__ = ("__weakref__", "net")


class SlotsAndMore(Base):
    def __init__(self, net):
        self.net = net


class Helper:
    def __init__(self, net):
        self.net = net


class Holder(nn.Module):
    def __init__(self, thing):
        super().__init__()
        self.thing = thing

    def forward(self, v):
        return self.thing(v)


class ByGlobal(nn.Module):
    def forward(self, v):
        return GLOBALS.net(v)


def using(held):
    return lambda v: (held, v)


def named(scope, name, net, closure):
    setattr(scope, name, net)
    return closure


class Dict(dict):
    pass


PLACES = {
    "slots of a dataclass": lambda m: using(Slots(m)),
    "slots of a base": lambda m: using(SlotsAndMore(m)),
    "object in a module": lambda m: using(Holder(Helper(m))),
    "slots in a module": lambda m: using(Holder([Slots(m)])),
    "function in a module": lambda m: Holder(using(m)),
    "named module": lambda m: named(MODELS, "net", m, lambda v: MODELS.net(v)),
    "module in a package": lambda m: named(MODELS, "net", m, lambda v: PACKAGE.models.net(v)),
    "function of a module": lambda m: named(MODELS, "net", m, lambda v: MODELS.loss(v)),
    "class attribute": lambda m: named(Names, "net", m, lambda v: Names.net(v)),
    "by methods of methods": lambda m: named(Names, "net", m, Names(None).by_a_method),
    "method of a captured object": lambda m: named(Names, "net", m, lambda v: NAMES.by_a_method(v)),
    "property": lambda m: named(GLOBALS, "net", m, lambda v: NAMES.behind_a_property(v)),
    "global of a forward": lambda m: named(GLOBALS, "net", m, ByGlobal()),
    "namespace": lambda m: using(types.SimpleNamespace(net=m)),
    "containers": lambda m: using(Dict(a=deque([OrderedDict(b=(m,))]))),
    "attribute of a container": lambda m: named(held := Dict(), "net", m, using(held)),
    "partial of a method": lambda m: functools.partial(Names.another, Names(m)),
    "cached": lambda m: functools.lru_cache(using(m)),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_model_is_found(place):
    model = nn.BatchNorm1d(2)
    Names.net = None
    closure = PLACES[place](model)
    found = Plan(reachable((closure,))[0])
    assert found.modules
    before = model.running_mean
    with untouched(closure):
        model(torch.randn(4, 2))
        assert model.running_mean is not before
    assert model.running_mean is before
    assert (before == 0).all()
    assert model.num_batches_tracked == 0


ARMED = False


def _raise(self, *args, **kwargs):
    if ARMED:
        raise AssertionError("the search ran code of the user's")
    return None


def explosive(*bases, **more):
    """A class of which every special method, attribute and property raises."""
    special = (
        "len iter getitem setitem contains eq ne hash bool repr str format call getattr dir lt reduce sizeof next index"
    )
    body = {f"__{name}__": _raise for name in special.split()}
    body["__getattribute__"] = lambda self, name: _raise(self) or object.__getattribute__(self, name)
    body["__hash__"] = lambda self: _raise(self) or 1
    body |= dict.fromkeys(("keys", "values", "items", "get", "parameters", "modules", "forward"), _raise)
    body["model"] = body["__class__"] = property(_raise)
    if not bases:
        body["__dict__"] = property(_raise)
    meta = [type(base) for base in bases]
    kind = type(
        "Meta", tuple(dict.fromkeys(meta)) or (type,), {"__instancecheck__": _raise, "__subclasscheck__": _raise}
    )
    return kind("Explosive", bases, body | more)


PLAIN = explosive()
KINDS = [PLAIN, explosive(dict), explosive(list), explosive(tuple), explosive(set), explosive(deque)]
KINDS += [explosive(Mapping), explosive(OrderedDict), explosive(nn.Module, __init__=nn.Module.__init__)]


def things(leaf):
    return st.one_of(
        st.lists(leaf, max_size=3),
        st.lists(leaf, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from("abc"), leaf, max_size=3),
        st.builds(Helper, leaf),
        st.builds(Slots, leaf),
        st.builds(Holder, leaf),
        leaf.map(using),
        leaf.map(lambda thing: functools.partial(print, thing)),
    )


@given(held=st.recursive(st.builds(lambda kind: kind(), st.sampled_from(KINDS)), things, max_leaves=6))
def test_no_code_of_the_users_runs(held):
    global ARMED
    closure = lambda v, held=held: held  # noqa: E731
    ARMED = True
    try:
        for _ in range(2):
            with untouched(closure, held, strict=True):
                pass
    finally:
        ARMED = False


def test_the_traps_are_set(monkeypatch):
    monkeypatch.setitem(globals(), "ARMED", True)
    for trap in (lambda t: len(t), lambda t: t.model, lambda t: isinstance(t, nn.Linear), lambda t: vars(t)):
        with pytest.raises(AssertionError, match="code of the user"):
            trap(PLAIN.__new__(PLAIN))


def test_a_lazy_mapping_and_a_config_are_left_alone(tmp_path):
    class Lazy(Mapping):
        def __getitem__(self, key):
            raise KeyError("missing mandatory value")

        def __iter__(self):
            raise AssertionError("nobody asked")

        __len__ = __iter__

    np.savez(tmp_path / "a.npz", a=np.zeros(3))
    lazy, loaded = Lazy(), np.load(tmp_path / "a.npz")
    model = nn.BatchNorm1d(2)
    with untouched(lambda v: (lazy, loaded, model)):
        model(torch.randn(4, 2))
    assert model.num_batches_tracked == 0


@pytest.fixture
def walks(monkeypatch):
    """The walks that were made, instead of remembered ones that were checked."""
    made = []

    class Counted(Plan):
        def __init__(self, roots):
            made.append(roots)
            super().__init__(roots)

    monkeypatch.setattr(planning, "Plan", Counted)
    return made


def test_a_new_closure_over_the_same_model_walks_no_second_time(walks):
    model, plans = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), Plans()
    model.count, model.center = 0, torch.zeros(2)
    for step in range(5):
        anchor = torch.randn(2)
        plans.of(reachable((lambda v, anchor=anchor: model(v) - anchor,))[0])
        model.count, model.center = step * 1000, anchor  # numbers and tensors change nothing of the way
    assert len(walks) == 1


def test_what_is_remembered_follows_every_change_of_structure(walks):
    model, plans = nn.Sequential(nn.Linear(2, 2)), Plans()
    model.holder = holder = [nn.Linear(1, 1)]
    changes = [
        lambda: model.append(nn.BatchNorm1d(2)),
        lambda: holder.append(nn.BatchNorm1d(2)),
        lambda: holder.pop(0),
        lambda: model.register_buffer("queue", torch.zeros(2)),
        lambda: setattr(model, "holder", {}),
        lambda: model.holder.update(net=nn.BatchNorm1d(2)),
        lambda: model[0].register_forward_hook(using(nn.BatchNorm1d(2))),
        lambda: delattr(model, "queue"),
    ]
    for change in changes:
        change()
        plan, flat = plans.of(reachable((model,))[0])
        fresh = Plan(reachable((model,))[0])
        assert [*map(id, flat)] == [*map(id, fresh.read([model]))]
        assert (plan.names(flat), plan.lazy, plan.trained, len(plan.standing)) == (
            fresh.names(flat), fresh.lazy, fresh.trained, len(fresh.standing),
        )  # fmt: skip
