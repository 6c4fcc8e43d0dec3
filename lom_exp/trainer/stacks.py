"""The states of R runs, laid out so that many are updated by one call and none is kept twice.

Every part of a state (a field of the algorithm's State) is kept once for the runs that share it, a
class. The classes of a group of runs of equal shapes form a stack, whose leaves lead with them; a
group of a layout that is not vectorized is one run and its leaves have no such axis.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from lom_exp.trainer import padding
from lom_exp.trainer.sharing import Classes
from lom_exp.types import State

Shapes = list[torch.Size]
Tree = Any  # of tensors


class Place(NamedTuple):
    """Where a class is to be found: in the stack of a group, at a position."""

    group: int
    position: int


class Stacks:
    """The parts of the states of R runs, by name and group."""

    def __init__(
        self, states: Sequence[State], of_part: Mapping[str, Classes], vectorize: bool, pad: float
    ) -> None:
        self.kind, self.of_part, self._vectorize = type(states[0]), of_part, vectorize
        names = self.kind._fields
        self._shapes = [
            {name: padding.shapes(getattr(state, name)) for name in names} for state in states
        ]
        self.groups = _groups(self._shapes, vectorize, pad)
        self.trees: dict[str, list[Tree]] = {name: [] for name in names}
        self._places: dict[str, dict[int, Place]] = {name: {} for name in names}
        for number, runs in enumerate(self.groups):
            for name in names:
                classes = self.classes(of_part[name], number)
                room = padding.largest([self._shapes[run][name] for run in runs])
                parts = [padding.padded(getattr(states[run], name), room) for run in classes]
                self.trees[name].append(self._stacked(parts))
                self._places[name] |= {run: Place(number, i) for i, run in enumerate(classes)}

    def classes(self, of_runs: Classes, group: int) -> tuple[int, ...]:
        """The classes whose first run is in a group."""
        return tuple(run for run in self.groups[group] if of_runs[run] == run)

    def places(self, name: str, runs: Sequence[int]) -> tuple[Place, ...]:
        """Where the parts of these runs are."""
        return tuple(self._places[name][self.of_part[name][run]] for run in runs)

    def gathered(self, name: str, runs: Sequence[int]) -> Any:
        """The part of each of these runs, as a stack."""
        places = self.places(name, runs)
        sources = {place.group: self.trees[name][place.group] for place in places}
        return gather(sources, places, self._vectorize)

    def finite(self) -> list[bool]:
        """For each run, whether all of its state is finite."""
        keys = [
            (name, group)
            for name, of_groups in self.trees.items()
            for group in range(len(of_groups))
            if of_groups[group] is not None
        ]
        flags = [self._finite_classes(self.trees[name][group]) for name, group in keys]
        found = dict(zip(keys, torch.nn.utils.rnn.pad_sequence(flags).mT.tolist(), strict=True))
        return [
            all(
                found[name, place.group][place.position]
                for name in self.trees
                for place in self.places(name, [run])
            )
            for run in range(len(self._shapes))
        ]

    def _finite_classes(self, tree: Tree) -> Tensor:
        """(classes,), bool."""
        rows = [
            leaf.reshape(len(leaf) if self._vectorize else 1, -1).isfinite().all(-1)
            for leaf in tree_leaves(tree)
        ]
        return torch.stack(rows).all(0)

    def cut(self, parts: Mapping[str, Any], run: int) -> State:
        """A run's state of its parts, which are padded."""
        return self.kind(
            **{name: padding.cut(part, self._shapes[run][name]) for name, part in parts.items()}
        )

    def _stacked(self, parts: Sequence[Any]) -> Any:
        if not parts:
            return None
        if not self._vectorize:
            return tree_map(torch.clone, parts[0])
        return tree_map(lambda *leaves: torch.stack(leaves), *parts)


def gather(sources: Mapping[int, Tree], places: Sequence[Place], vectorize: bool) -> Tree:
    """The classes in these places of the stacks of several groups, as one stack."""
    [tree, *others] = sources.values()
    if not vectorize:
        return tree
    indices = [place.position for place in places]
    low, high = indices[0], indices[-1] + 1
    if not others and indices == list(range(low, high)):
        whole = len(tree_leaves(tree)[0]) == len(indices)
        return tree if whole else tree_map(lambda leaf: leaf[low:high], tree)
    numbers = {group: i for i, group in enumerate(sources)}

    def picked(*leaves: Tensor) -> Tensor:
        return torch.stack([leaves[numbers[place.group]][place.position] for place in places])

    return tree_map(picked, tree, *others)


def _groups(shapes: Sequence[dict[str, Shapes]], vectorize: bool, pad: float) -> list[list[int]]:
    """Runs that are stacked together."""
    if not vectorize:
        return [[run] for run in range(len(shapes))]
    sizes = [sum(shape.numel() for part in of_run.values() for shape in part) for of_run in shapes]
    groups: list[list[int]] = []
    for run in sorted(range(len(shapes)), key=lambda run: -sizes[run]):  # stable
        if not groups or not _fits(shapes[run], shapes[groups[-1][0]], pad):
            groups.append([])
        groups[-1].append(run)
    return [sorted(group) for group in groups]


def _fits(small: dict[str, Shapes], large: dict[str, Shapes], pad: float) -> bool:
    """Whether no axis of the larger run is more than `pad` times as long as the smaller one's."""
    return all(
        one <= other <= pad * one
        for name in small
        for of_small, of_large in zip(small[name], large[name], strict=True)
        for one, other in zip(of_small, of_large, strict=True)
    )
