"""A walk remembered: the second time it is checked, not walked again.

A plan says only where things stand, and so keeps nothing of the user's alive. All that was found stands in one flat
list, place after place; what is read alike is read in one round, in C. The structure is the same if all types are, all
sizes, and the identities of what has more behind it; numbers and tensors may change.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, groupby
from operator import is_, itemgetter
from typing import Any, NamedTuple

from torch import Tensor

from . import search
from .holders import Kind, Part, label
from .search import Root
from .walk import Walk, Where

REMEMBERED = 16  # plans: sets of models in use at once
Pick = Callable[[Sequence[Any]], Sequence[Any]]


class Round(NamedTuple):
    """Places in a row that are read alike."""

    owners: Pick  # out of the flat list
    part: Part
    sizes: list[int]  # of each place
    types: list[type]  # of all that they hold
    keyed: Callable[[Any], Iterator[Any]] | None  # goes through keys, where these are put back

    def holders(self, flat: Sequence[Any]) -> Iterable[Any]:
        """What is read."""
        owners = self.owners(flat)
        return map(self.part.holder, owners) if self.part.holder else owners

    def read(self, flat: Sequence[Any]) -> list[Any] | None:
        """All values, if there are as many in each place as there were."""
        held = [*map(self.part.read, self.holders(flat))]
        return [*_chain(held)] if [*map(len, held)] == self.sizes else None


class Standing(NamedTuple):
    """Tensors of one holder that stand-ins replace."""

    owner: int  # positions in the flat list
    kind: Kind
    part: Part
    start: int  # of its first value
    positions: list[int]


class Plan:
    """Where things stand, from some roots on. ``read`` checks it; None says that it has to be made anew."""

    def __init__(self, roots: Sequence[Root]) -> None:
        self._names, self._roots = [name for name, _ in roots], [type(thing) for _, thing in roots]
        self._walk = Walk([thing for _, thing in roots])
        self.places, self.modules = self._walk.places, self._walk.modules
        self._arrange()

    def read(self, roots: Sequence[Any]) -> list[Any] | None:
        """Everything, flat and in order, if the structure is what it was."""
        flat = self._flat(roots)
        if flat is None and self._took_over(roots):
            flat = self._flat(roots)
        return flat

    def still(self, flat: list[Any]) -> bool:
        """Whether everything that the owners in ``flat`` hold is as it was when that was read, keys aside."""
        now = flat[: len(self._names)]
        for part in self._rounds:
            if (held := part.read(flat)) is None:
                return False
            now += held
        return all(map(is_, now, flat)) and not any(self._empty(flat))

    def keys(self, flat: list[Any]) -> list[Any]:
        """All keys of dicts that are put back, in order."""
        found: list[Any] = []
        for part in self._rounds:
            if part.keyed:
                found += _chain(map(part.keyed, part.holders(flat)))
        return found

    def at(self, where: Where) -> int:
        """The position in the flat list."""
        place, offset = where
        return (self.starts[place] if place >= 0 else 0) + offset

    def written(self, flat: list[Any]) -> Iterator[tuple[Kind, Any, list[Any]]]:
        """Each holder to put back, and what it held, in the order of ``keys``."""
        for place, start, size in zip(self.places, self.starts, self._sizes, strict=True):
            if place.kept and place.part.kind:
                holder = place.part.holder_in(flat[self.at(place.owner)])
                yield place.part.kind, holder, flat[start : start + size]
        for holder in self._empty(flat):
            kind = next(search.parts(holder)).kind
            assert kind is not None
            yield kind, holder, []

    def names(self, flat: list[Any]) -> list[str]:
        """What to call everything in the flat list, for messages."""
        names = [*self._names]
        for i in range(len(self.places)):
            names += self.labels(i, names, flat)
        return names

    def labels(self, i: int, names: list[str], flat: list[Any]) -> list[str]:
        """What to call all that place ``i`` holds now; ``names`` has at least what stands before it."""
        place = named = self.places[i]
        while named.members:  # what a module's own dicts hold is called by the module
            named = self.places[named.owner[0]]
        thing = flat[self.at(place.owner)]
        return label(names[self.at(named.owner)], thing, place.part, self._sizes[i], place.members)

    def _flat(self, roots: Sequence[Any]) -> list[Any] | None:
        if not all(map(is_, map(type, roots), self._roots)):
            return None
        flat = list(roots)
        for part in self._rounds:  # its owners are of the types that they were, or an earlier round had ended this
            held = part.read(flat)
            if held is None or not all(map(is_, map(type, held), part.types)):
                return None
            flat += held
        same = [*map(id, self._fixed(flat))] == self._fixed_ids and not any(self._empty(flat))
        return flat if same else None

    def _took_over(self, roots: Sequence[Any]) -> bool:
        """Take over what changed without a change of structure. False: there is one."""
        held: list[list[Any]] = []
        for place in self.places:
            at, offset = place.owner
            source = roots if at < 0 else held[at]
            if offset >= len(source) or type(source[offset]) is not place.cls:
                return False
            held.append(place.part.values(source[offset]))
            fixed = place.fixed
            place.hold(held[-1])
            if place.fixed != fixed:
                return False
        self._arrange()
        return True

    def _arrange(self) -> None:
        """Positions in the flat list, and the rounds that fill it."""
        places, walk = self.places, self._walk
        self._sizes = [len(place.types) for place in places]
        self.starts = [len(self._names)]
        for size in self._sizes:
            self.starts.append(self.starts[-1] + size)
        self.starts.pop()
        self._rounds = []
        for _, group in groupby(places, lambda p: (p.level, p.kept, p.part.read, p.part.holder)):
            row = [*group]
            part, owners = row[0].part, _pick([self.at(place.owner) for place in row])
            sizes, held = [len(place.types) for place in row], [*_chain(place.types for place in row)]
            keyed = part.kind.keyed if part.kind and row[0].kept else None
            self._rounds.append(Round(owners, part, sizes, held, keyed))
        starts = [*zip(self.starts, places, strict=True)]
        fixed = [(start + j, identity) for start, p in starts for j, identity in p.fixed.items()]
        fixed += [(start + j, id(constant)) for start, p in starts for j, constant in p.constants.items()]
        self._fixed, self._fixed_ids = _pick([at for at, _ in fixed]), [identity for _, identity in fixed]
        types = [*self._roots, *_chain(place.types for place in places)]
        self._empty = _pick([start + j for start, place in starts for j in place.empty])
        self.lazy, self.wrappers = [*map(self.at, walk.lazy)], [*map(self.at, walk.wrappers)]
        self.bodies = [self.at(place.owner) for place in places if place.part.attributes]
        self.large = [(self.at(place.owner), place.part) for place in walk.large]
        trained = [start + j for start, place in starts if place.parameters for j in range(len(place.types))]
        self.trained = [at for at in trained if issubclass(types[at], Tensor)]
        self.parameters = _pick(self.trained)
        self.standing: list[Standing] = []
        inside, self.others = [], []
        for start, place in starts:
            positions = [start + j for j in place.tensors]
            if positions and place.part.kind:
                self.standing.append(Standing(self.at(place.owner), place.part.kind, place.part, start, positions))
            for at in positions:
                if place.inside and issubclass(types[at], Tensor):
                    inside.append(at)
                else:
                    self.others.append((at, place.inside))
        self.tensors = _pick(inside)


class Plans:
    """The plans made last."""

    def __init__(self) -> None:
        self._plans: OrderedDict[tuple[int, ...], Plan] = OrderedDict()

    def of(self, roots: Sequence[Root]) -> tuple[Plan, list[Any]]:
        """The plan from ``roots``, and everything on it as it is now, flat."""
        things = [thing for _, thing in roots]
        key = tuple(map(id, things))
        plan = self._plans.get(key)
        flat = plan.read(things) if plan else None
        if plan is None or flat is None:
            plan = self._plans[key] = Plan(roots)
            flat = plan.read(things)
            assert flat is not None
        self._plans.move_to_end(key)
        if len(self._plans) > REMEMBERED:
            self._plans.popitem(last=False)
        return plan, flat


def _pick(positions: list[int]) -> Pick:
    """Gets what stands at ``positions`` of a list."""
    return itemgetter(*positions) if len(positions) > 1 else lambda flat: [flat[at] for at in positions]


_chain = chain.from_iterable
