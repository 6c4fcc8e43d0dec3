"""The cores of this machine, and how processes share them."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


def available() -> list[int]:
    """The numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def granted() -> int:
    """How many cores this process may keep busy: a Slurm job as many as it has asked for.

    Not every cluster keeps a job from the others.
    """
    asked = os.environ.get("SLURM_CPUS_PER_TASK", "")
    return min(len(available()), int(asked)) if asked.isdigit() else len(available())


def shares(cores: Sequence[int], count: int) -> list[list[int]]:
    """`count` shares of the cores, as even as can be, each of at least one.

    Where there are fewer cores than shares, a core is in several of them.
    """
    size = len(cores)
    if count > size:
        return [[cores[i % size]] for i in range(count)]
    return [list(cores[size * i // count : size * (i + 1) // count]) for i in range(count)]


@contextmanager
def pinned(cores: Sequence[int]) -> Iterator[None]:
    """Processes that this thread starts in the context stay on these cores.

    On a system that does not pin processes to cores, nothing happens.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
