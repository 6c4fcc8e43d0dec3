"""Train R runs of one algorithm side by side. Knows runs and updates, no algorithm by name.

Runs of equal shapes form a group. A vectorized trainer has few groups, in each of which torch.vmap
trains all runs at once: the layout for a GPU, where one run alone is bound by kernel launches.
Otherwise each run is a group of its own and a run's results do not depend, to the bit, on what is
trained beside it: the layout for a CPU, where the matrix products of one run already fill the cores
(docs/performance). What several runs have in common is trained once (`sharing`).
"""

from collections.abc import Callable, Sequence
from dataclasses import fields
from itertools import chain
from typing import Any

import torch
from torch import Tensor, vmap
from torch.utils._pytree import tree_map

from lom_exp.checkpoints import Snapshot
from lom_exp.errors import ConfigError
from lom_exp.random import Rng
from lom_exp.trainer import compiling, sharing
from lom_exp.trainer.graphs import Graph
from lom_exp.trainer.sharing import Access, Classes
from lom_exp.trainer.stacks import Stacks
from lom_exp.trainer.steps import Hyperparameters, Parts, Step, padded_sizes, static_part
from lom_exp.trainer.tasks import Task
from lom_exp.types import Algorithm, Metrics, State, Transitions, Update

__all__ = ["Frozen", "Trainer", "padded_sizes", "static_part"]


def _check_batches(config: Any, num_transitions: int) -> None:
    """A batch is drawn with replacement: one larger than its dataset is a mistake in either."""
    for field in fields(config):
        size = getattr(config, field.name)
        if field.name.endswith("batch_size") and size > num_transitions:
            raise ConfigError(
                f"algo.{field.name}={size} is more than the dataset's {num_transitions} "
                "transitions; give a smaller batch or another dataset"
            )


class Frozen:
    """Runs as they were at one moment, whatever is trained afterwards."""

    def __init__(
        self,
        stacks: list[Parts],
        sums: list[Metrics],
        count: int,
        act: Callable[[list[Parts], Tensor, int], Tensor],
        take_apart: Callable[[list[Parts]], list[State]],
    ) -> None:
        self._stacks, self._sums, self._count = stacks, sums, count
        self._act, self._take_apart = act, take_apart

    def act(self, observations: Tensor, update: int) -> Tensor:
        """Actions (R, E, A) for observations (R, E, O); `update` numbers the call for the Rng."""
        return self._act(self._stacks, observations, update)

    def snapshots(self) -> list[Snapshot]:
        """The runs on the CPU, as checkpoints keep them."""
        states = self._take_apart(tree_map(lambda leaf: leaf.cpu(), self._stacks))
        sums = tree_map(lambda leaf: leaf.cpu(), self._sums)
        return [Snapshot(*run, self._count) for run in zip(states, sums, strict=True)]


class Trainer:
    """R runs of one algorithm on one dataset.

    Their configs may differ in fields that are float or `validation.padded` only. `vectorize`d,
    runs of different sizes are trained in one vmap, with room for the largest, which is at most
    `pad` times as large as any. `share` trains once what several runs have in common. `capture`,
    on a CUDA device, replays many updates as one graph.

    Raises ConfigError when configs differ elsewhere, or for a batch larger than the dataset.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        configs: Sequence[Any],
        seeds: Sequence[int],
        data: Transitions,
        *,
        vectorize: bool,
        compile: bool = False,
        share: bool = True,
        pad: float = 2.0,
        capture: bool = True,
    ) -> None:
        statics, floats = zip(*map(static_part, configs), strict=True)
        if any(static != statics[0] for static in statics):
            raise ConfigError(
                "runs trained together may differ in float and padded fields and seeds only; got "
                + " and ".join(sorted({str(static) for static in statics}))
            )
        _check_batches(statics[0], len(data.rewards))
        self.num_runs = len(configs)
        self._algorithm, self._configs, self._seeds, self._data = algorithm, configs, seeds, data
        self._static, self._floats = statics[0], floats
        self._vectorize, self._pad, self._compile = vectorize, pad, compile
        self._device = data.rewards.device
        self._capture = capture and self._device.type == "cuda"
        self._share = share and len(set(seeds)) < len(seeds)
        self._count = 0
        if compile:
            compiling.forget()

    def initialize(self) -> None:
        """Give every run its networks before the first update."""
        dims = self._data.observations.shape[-1], self._data.actions.shape[-1]
        states = []
        with torch.device(self._device), torch.no_grad():
            for config, floats, seed in zip(self._configs, self._floats, self._seeds, strict=True):
                rng = Rng.of(torch.tensor(seed), "init", torch.tensor(0))
                values = {name: torch.tensor(value) for name, value in floats.items()}
                names = [field.name for field in fields(config)]
                hyperparameters = Hyperparameters(names, config, values)
                states.append(self._algorithm.init(*dims, hyperparameters, rng))
        self._arrange(states, [{}] * self.num_runs)
        self._count = 0

    def restore(self, snapshots: Sequence[Snapshot]) -> None:
        """Continue from these snapshots, one for each run, all taken after the same update."""
        states, sums, counts = zip(*snapshots, strict=True)
        states, sums = tree_map(lambda leaf: leaf.to(self._device), (states, sums))
        self._arrange(states, sums)
        self._count = counts[0]

    def _arrange(self, states: Sequence[State], sums: Sequence[Metrics]) -> None:
        """Lay out states and decide who shares what."""
        accesses = self._accesses(states[0])
        flat = [access for of_phase in accesses.values() for access in of_phase]
        # Runs that shall not share are told apart by a number of their own.
        keys = self._seeds if self._share else range(self.num_runs)
        of_update, of_part = sharing.classes(flat, states, keys, self._floats)
        self._stacks = Stacks(states, of_part, self._vectorize, self._pad)
        of_each = iter(of_update)
        self._tasks = {
            phase: [
                self._make_tasks(update, phase, access, next(of_each))
                for update, access in zip(updates, accesses[phase], strict=True)
            ]
            for phase, updates in self._algorithm.phases.items()
        }  # by phase, update and group
        self._of_groups = [self._columns(runs) for runs in self._stacks.groups]
        self._restored = sums
        self._graphs: dict[str, Graph] = {}

    def _accesses(self, state: State) -> dict[str, list[Access]]:
        """What each update of each phase reads and writes."""
        values = {field.name: getattr(self._static, field.name) for field in fields(self._static)}
        if not (self._share or self._capture):  # nobody asks
            everything = sharing.whole(state, values)
            return {phase: [everything] * len(of) for phase, of in self._algorithm.phases.items()}
        for name, value in self._floats[0].items():
            values[name] = torch.tensor(value, device=self._device)
        seed, number = torch.tensor([self._seeds[0], 0], device=self._device)

        def observed(phase: str, update: Update) -> Access:
            rng = Rng.of(seed, phase, number)
            return sharing.observe(lambda s, c: update(s, self._data, c, rng), state, values)

        with torch.no_grad():
            return {
                phase: [observed(phase, update) for update in updates]
                for phase, updates in self._algorithm.phases.items()
            }

    def _make_tasks(
        self, update: Update, phase: str, access: Access, of_runs: Classes
    ) -> list[Task]:
        """An update's tasks, one for each group in which there is a class."""
        step = Step(
            update,
            phase,
            access,
            self._stacks.kind,
            self._static,
            self._data,
            vectorize=self._vectorize,
            in_place=self._compile or self._capture,
            compile=self._compile,
        )
        return [
            Task(step, self._stacks, group, of_runs, *self._columns(classes))
            for group in range(len(self._stacks.groups))
            if (classes := self._stacks.classes(of_runs, group))
        ]

    def _columns(self, runs: Sequence[int]) -> tuple[Tensor, dict[str, Tensor]]:
        """Seeds and float fields of runs: (n,), or 0-d for a single run."""
        dtype = torch.get_default_dtype()
        floats = {
            name: self._column([self._floats[run][name] for run in runs], dtype)
            for name in self._floats[0]
        }
        return self._column([self._seeds[run] for run in runs], torch.int64), floats

    def _column(self, values: Sequence[Any], dtype: torch.dtype) -> Tensor:
        column = torch.tensor(values, dtype=dtype, device=self._device)
        return column if self._vectorize else column.squeeze(0)

    @property
    def templates(self) -> list[State]:
        """For each run a state with the shapes, types and names of its own."""
        return [snapshot.state for snapshot in self.snapshots()]

    def snapshots(self) -> list[Snapshot]:
        """The runs as they are now, on the CPU."""
        return self.freeze().snapshots()

    def freeze(self) -> Frozen:
        """The runs as they are now; later updates do not reach them."""
        names = self._stacks.kind._fields
        stacks = [
            {name: self._stacks.gathered(name, runs) for name in names}
            for runs in self._stacks.groups
        ]
        stacks, sums = tree_map(torch.clone, (stacks, self._sums()))
        return Frozen(stacks, sums, self._count, self._act, self._taken_apart)

    def _taken_apart(self, stacks: Sequence[Parts]) -> list[State]:
        """The states of the runs in the stacks of all groups, without padding."""
        states: dict[int, State] = {}
        for parts, runs in zip(stacks, self._stacks.groups, strict=True):
            for i, run in enumerate(runs):
                own = tree_map(lambda leaf, i=i: leaf[i], parts) if self._vectorize else parts
                states[run] = tree_map(torch.clone, self._stacks.cut(own, run))
        return [states[run] for run in range(self.num_runs)]

    def advance(
        self, phase: str, first: int, last: int, should_stop: Callable[[], bool] = lambda: False
    ) -> int:
        """Do the updates first ... last - 1 of a phase; return the number of the next one.

        `should_stop` is asked after each update, or each replay of a graph of several.
        """
        numbers = torch.arange(first, last, device=self._device)
        update = first
        with torch.no_grad():
            while update < last:
                graph = self._graph(phase, last - update)
                if graph:
                    graph.replay(update)
                else:
                    for task in chain.from_iterable(self._tasks[phase]):
                        task.do(numbers[update - first], self._restored)
                done = graph.length if graph else 1
                update, self._count = update + done, self._count + done
                if should_stop():
                    break
        return update

    def _graph(self, phase: str, left: int) -> Graph | None:
        """The graph of a phase, where there is to be one and it fits into the updates left."""
        if not self._capture:
            return None
        tasks, graph = self._tasks[phase], self._graphs.get(phase)
        if graph is None or graph.length < Graph.LONGEST <= left:
            # Each task was done once before: all is compiled, and its metrics are known.
            if left < Graph.SHORTEST or not all(task.is_ready for task in chain(*tasks)):
                return None
            graph = self._graphs[phase] = Graph(tasks, self._stacks, min(left, Graph.LONGEST))
        return graph if graph.length <= left else None

    def _sums(self) -> list[Metrics]:
        """Each run's metrics, summed since they were last taken."""
        tasks = [task for updates in self._tasks.values() for task in chain(*updates)]
        return [
            {
                name: total
                for sums in (before, *(task.sums(run) for task in tasks))
                for name, total in sums.items()
            }
            for run, before in enumerate(self._restored)
        ]

    def take_metrics(self) -> list[dict[str, float]]:
        """Each run's metrics, averaged over the updates since they were last taken."""
        sums = self._sums()
        totals = [total.double() for of_run in sums for total in of_run.values()]
        means = iter((torch.stack(totals) / self._count).tolist() if totals else [])
        taken = [{name: next(means) for name in of_run} for of_run in sums]
        for updates in self._tasks.values():
            for task in chain(*updates):
                task.clear()
        self._restored, self._count = [{}] * self.num_runs, 0
        return taken

    def finite(self) -> list[bool]:
        """For each run, whether all of its state is finite."""
        return self._stacks.finite()

    def act(self, observations: Tensor, update: int) -> Tensor:
        """As `Frozen.act` of this moment."""
        return self.freeze().act(observations, update)

    def _act(self, stacks: Sequence[Parts], observations: Tensor, update: int) -> Tensor:
        names = [field.name for field in fields(self._static)]

        def act(parts: Parts, seed: Tensor, floats: dict[str, Tensor], inputs: Tensor) -> Tensor:
            rng = Rng.of(seed, "act", torch.full_like(seed, update))
            hyperparameters = Hyperparameters(names, self._static, floats)
            return self._algorithm.act(self._stacks.kind(**parts), inputs, hyperparameters, rng)

        actions: dict[int, Tensor] = {}
        with torch.no_grad():
            groups = zip(stacks, self._of_groups, self._stacks.groups, strict=True)
            for parts, columns, runs in groups:
                # Copied, since where numbers lie in memory can decide the last bits of products.
                inputs = observations[runs if self._vectorize else runs[0]].clone()
                of_group = (vmap(act) if self._vectorize else act)(parts, *columns, inputs)
                actions |= dict(zip(runs, of_group if self._vectorize else [of_group], strict=True))
        return torch.stack([actions[run] for run in range(self.num_runs)])
