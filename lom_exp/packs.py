"""Which runs may train together, and from where."""

from collections.abc import Hashable, Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

Item = TypeVar("Item")


def group(items: Iterable[Item], keys: Iterable[Hashable]) -> list[list[Item]]:
    """Items of equal keys together, in the order of each group's first item."""
    groups: dict[Hashable, list[Item]] = {}
    for item, key in zip(items, keys, strict=True):
        groups.setdefault(key, []).append(item)
    return list(groups.values())


def meet(steps: Sequence[Sequence[int]]) -> list[tuple[int, list[int]]]:
    """Where the runs of a pack can go on together, given the checkpointed steps of each.

    Returns (step, runs) pairs that cover all runs: those that are furthest behind first, each with
    every run that has a checkpoint at their step. A run without checkpoints is at step 0.
    """
    waiting, meetings = list(range(len(steps))), []
    while waiting:
        step = min(max(steps[run], default=0) for run in waiting)
        # A run further on is taken back to an older checkpoint of its own, but never to the start.
        together = [run for run in waiting if step in (steps[run] or [0])]
        meetings.append((step, together))
        waiting = [run for run in waiting if run not in together]
    return meetings


def split(items: Sequence[Item], size: int) -> list[list[Item]]:
    """Items in the fewest parts of at most `size`, as even as can be, in their order."""
    count = -(-len(items) // size)
    bounds = [len(items) * i // count for i in range(count + 1)] if count else [0]
    return [list(items[low:high]) for low, high in pairwise(bounds)]
