"""Which runs train the same thing: what one update reads and writes, seen as it does so.

In a sweep over M and beta, LOM's critics depend on neither, and its mixture not on beta: of the
runs of one seed all have, to the bit, the same critics at every update. Such a part of the state is
trained once and read by all. No algorithm has to say so: which fields of its Config and which parts
of its State an update reads, and which parts it replaces, is recorded while it is done once. That
is the same for all runs of a pack, whose configs differ only in numbers on which no branch hangs.

Shapes: R runs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from lom_exp.types import State

Classes = list[int]  # for each of R runs, the first run that has the same


class Access(NamedTuple):
    """What an update reads and writes."""

    fields: frozenset[str]  # of the Config
    reads: tuple[str, ...]  # parts of the State, in their order
    writes: tuple[str, ...]
    leaves: dict[str, tuple[bool, ...]]  # of each part, which leaves it computes with


class _Seen(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes which tensors are computed with."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.addresses: set[int] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        given = tree_leaves((args, kwargs))
        self.addresses |= {leaf.data_ptr() for leaf in given if isinstance(leaf, torch.Tensor)}
        return function(*args, **(kwargs or {}))


class _RecordedConfig:
    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values, self.read = values, set[str]()

    def __getattr__(self, name: str) -> Any:
        self.read.add(name)
        return self.values[name]


def _recorded_state(state: State, read: set[str]) -> State:
    """The state as an object of its own class that notes which parts are asked for."""
    kind = type(state)

    def part(index: int, name: str) -> property:
        def get(self: tuple[Any, ...]) -> Any:
            read.add(name)
            return tuple.__getitem__(self, index)

        return property(get)

    def replace(self: tuple[Any, ...], **parts: Any) -> Any:
        old = zip(kind._fields, tuple.__iter__(self), strict=True)
        return recorded._make(parts.get(name, value) for name, value in old)

    def iterate(self: tuple[Any, ...]) -> Any:
        read.update(kind._fields)
        return tuple.__iter__(self)

    properties = {name: part(i, name) for i, name in enumerate(kind._fields)}
    methods = {"_replace": replace, "__iter__": iterate}
    recorded: Any = type(kind.__name__, (kind,), {**properties, **methods})
    return recorded._make(state)


def observe(update: Callable[..., Any], state: State, values: Mapping[str, Any]) -> Access:
    """Do an update once, as update(state, config), and tell what it looked at.

    One that takes its config apart as a whole is taken to read and write everything.
    """
    state = tree_map(torch.clone, state)  # a target may begin as its network's own tensors
    names = type(state)._fields
    config, read = _RecordedConfig(values), set[str]()
    try:
        with _Seen() as seen:
            after, _ = update(_recorded_state(state, read), config)
        parts = zip(names, tuple.__iter__(state), tuple.__iter__(after), strict=True)
        written = {name for name, old, new in parts if new is not old}
    except Exception:  # what is wrong with it besides, training will show
        return whole(state, values)
    given = {leaf.data_ptr() for name in written for leaf in tree_leaves(getattr(after, name))}
    return Access(
        frozenset(config.read),
        tuple(name for name in names if name in read or name in written),
        tuple(name for name in names if name in written),
        {
            name: tuple(leaf.data_ptr() in seen.addresses | given for leaf in tree_leaves(part))
            for name, part in zip(names, state, strict=True)
        },
    )


def whole(state: State, values: Mapping[str, Any]) -> Access:
    """The access of an update of which nothing is known."""
    names = type(state)._fields
    leaves = {name: (True,) * len(tree_leaves(getattr(state, name))) for name in names}
    return Access(frozenset(values), names, names, leaves)


def classes(
    accesses: Sequence[Access],
    states: Sequence[State],
    seeds: Sequence[int],
    floats: Sequence[Mapping[str, float]],
) -> tuple[list[Classes], dict[str, Classes]]:
    """Which runs share each update, and each part of the state.

    Runs share a part while it starts from equal values and every update that writes it has the same
    seed and settings and reads shared parts.
    """
    of_seed = _refined([0] * len(seeds), seeds)
    of_part = {name: _equal(of_seed, states, name) for name in type(states[0])._fields}
    of_update = [of_seed] * len(accesses)
    stable = False
    while not stable:
        stable = True
        for i, access in enumerate(accesses):
            names = sorted(access.fields & floats[0].keys())
            keys = [
                (*(values[name] for name in names), *(of_part[name][r] for name in access.reads))
                for r, values in enumerate(floats)
            ]
            of_update[i] = _refined(of_update[i], keys)
            for name in access.writes:
                finer = _refined(of_part[name], of_update[i])
                stable = stable and finer == of_part[name]
                of_part[name] = finer
    return of_update, of_part


def _refined(classes: Classes, keys: Sequence[Any]) -> Classes:
    """Classes whose runs also have equal keys."""
    first: dict[Any, int] = {}
    pairs = enumerate(zip(classes, keys, strict=True))
    return [first.setdefault(pair, run) for run, pair in pairs]


def _equal(classes: Classes, states: Sequence[State], name: str) -> Classes:
    """Classes whose runs also have an equal part of this name, to the bit."""
    leaves = [tree_leaves(getattr(state, name)) for state in states]
    found: Classes = []
    for run, own in enumerate(classes):
        same = (
            other
            for other in range(run)
            if classes[other] == own
            and found[other] == other
            and all(map(torch.equal, leaves[run], leaves[other]))
        )
        found.append(next(same, run))
    return found
