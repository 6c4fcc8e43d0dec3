"""Many updates of a phase as one CUDA graph, in which those that may overlap do.

An update that no other one waits for, such as LOM's of the critics, which read nothing of what the
hyper-Q and the policy become, need not wait for them either. Updates are therefore divided into
chains: what of a chain's parts other chains read is copied to one of a few slots after each update,
so that it may go on while they still read what it was.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from lom_exp.trainer.sharing import Access
from lom_exp.trainer.stacks import Stacks, Tree
from lom_exp.trainer.tasks import Sources, Task

_SLOTS = 4  # copies of a part: as many updates may one chain be ahead of another


def chains(accesses: Sequence[Access]) -> list[int]:
    """For each update of a phase the chain it belongs to; a chain reads only from earlier ones.

    Updates are of one chain if they write the same part, if one reads what another writes only
    later in the phase, or if they depend on one another.
    """
    chain = list(range(len(accesses)))

    def join(a: int, b: int) -> None:
        low, high = sorted((chain[a], chain[b]))
        # Those between are joined, too: chains then follow one another as the updates do.
        chain[:] = [low if low <= each <= high else each for each in chain]

    for i, reader in enumerate(accesses):
        for j, writer in enumerate(accesses):
            together = set(reader.writes) & set(writer.writes)
            backward = j > i and set(reader.reads) & set(writer.writes)
            if together or backward:
                join(i, j)
    return chain


def _copy(there: Tree, tree: Tree) -> None:
    """Copy the leaves that are not the same, in one kernel for each type."""
    by_type: dict[torch.dtype, list[tuple[Tensor, Tensor]]] = {}
    for copy, leaf in zip(tree_leaves(there), tree_leaves(tree), strict=True):
        if copy is not leaf:
            by_type.setdefault(leaf.dtype, []).append((copy, leaf))
    for pairs in by_type.values():
        copies, originals = map(list, zip(*pairs, strict=True))
        torch._foreach_copy_(copies, originals)


def _room(tree: Tree, used: Sequence[bool]) -> Tree:
    """The tree with memory of its own for the leaves that are used."""
    leaves, structure = tree_flatten(tree)
    pairs = zip(leaves, used, strict=True)
    return tree_unflatten([torch.empty_like(x) if own else x for x, own in pairs], structure)


class Graph:
    """`length` updates of a phase, captured; the tasks are those of each update and group."""

    LONGEST = 50  # updates: of so many what the CPU does in between is a small part
    SHORTEST = 10  # that are worth one

    def __init__(self, tasks: Sequence[Sequence[Task]], stacks: Stacks, length: int) -> None:
        self.length = length
        self._tasks = [task for of_update in tasks for task in of_update]
        of_update = chains([of_update[0].step.access for of_update in tasks])
        self._chain = {
            task: chain
            for chain, tasks_of_update in zip(of_update, tasks, strict=True)
            for task in tasks_of_update
        }
        self._stacks = stacks
        self._writers = {
            (name, task.group): task for task in self._tasks for name in task.step.access.writes
        }  # the last one of each part's stack
        self._slots = self._make_slots()
        self._device = tree_leaves(stacks.trees)[0].device
        with torch.no_grad(), torch.cuda.device(self._device):
            self._first = torch.zeros((), dtype=torch.int64, device="cuda")
            self._graph = torch.cuda.CUDAGraph()
            torch.cuda.synchronize()
            # Another thread may be evaluating meanwhile.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._record()

    def replay(self, first: int) -> None:
        """Do the updates first ... first + length - 1."""
        with torch.cuda.device(self._device):
            self._first.fill_(first)
            self._graph.replay()
        for task in self._tasks:
            task.count_in()

    def _foreign(self, task: Task) -> list[tuple[str, int]]:
        """Of what a task reads, stacks that another chain writes in this phase."""
        return [
            (name, group)
            for name, groups in task.sources.items()
            for group in groups
            if (writer := self._writers.get((name, group)))
            and self._chain[writer] != self._chain[task]
        ]

    def _make_slots(self) -> dict[tuple[str, int], list[Tree]]:
        """Room for copies of what other chains read; other leaves stay as they are."""
        read: dict[tuple[str, int], list[bool]] = {}
        for task in self._tasks:
            for key in self._foreign(task):
                used = task.step.access.leaves[key[0]]
                read[key] = [a or b for a, b in zip(used, read.get(key, used), strict=True)]
        return {
            (name, group): [_room(self._stacks.trees[name][group], used) for _ in range(_SLOTS)]
            for (name, group), used in read.items()
        }

    def _record(self) -> None:
        numbers = self._first + torch.arange(self.length, device="cuda")
        begin = torch.cuda.current_stream().record_event()
        streams = self._streams()
        for stream in set(streams.values()):
            stream.wait_event(begin)
        done: dict[tuple[Task, int], torch.cuda.Event] = {}
        for i in range(self.length):
            for task in self._tasks:
                with torch.cuda.stream(streams[task]):
                    self._do(task, i, numbers[i], done)
                    done[task, i] = streams[task].record_event()
        for task in self._tasks:
            torch.cuda.current_stream().wait_event(done[task, self.length - 1])

    def _do(
        self, task: Task, i: int, number: Tensor, done: dict[tuple[Task, int], torch.cuda.Event]
    ) -> None:
        """A task of the i-th update, when what it reads is there and what it changes is read."""
        stream = torch.cuda.current_stream()
        instead: Sources = {}
        for name, group in self._foreign(task):
            stream.wait_event(done[self._writers[name, group], i])
            instead.setdefault(name, {})[group] = self._slots[name, group][i % _SLOTS]
        task.do(number, [], instead)
        for name in task.step.access.writes:
            key = name, task.group
            if key in self._slots and self._writers[key] is task:
                for reader in self._tasks:
                    if key in self._foreign(reader) and i >= _SLOTS:
                        stream.wait_event(done[reader, i - _SLOTS])
                _copy(self._slots[key][i % _SLOTS], self._stacks.trees[name][task.group])

    def _streams(self) -> dict[Task, torch.cuda.Stream]:
        """A stream for each chain and group; one for the chain whose groups read one another."""
        mixed = {
            self._chain[task]
            for task in self._tasks
            for name, groups in task.sources.items()
            for group in groups
            if group != task.group
            and (writer := self._writers.get((name, group)))
            and self._chain[writer] == self._chain[task]
        }
        keys = {
            task: (self._chain[task], 0 if self._chain[task] in mixed else task.group)
            for task in self._tasks
        }
        streams = {
            key: torch.cuda.Stream()  # type: ignore[no-untyped-call]
            for key in set(keys.values())
        }
        return {task: streams[key] for task, key in keys.items()}
