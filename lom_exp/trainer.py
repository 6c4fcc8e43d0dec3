"""Train R runs of one algorithm side by side. Knows runs and updates, no algorithm by name.

Runs are laid out in lanes. A vectorized trainer has one lane, in which torch.vmap trains all runs
at once: the layout for a GPU, where one run alone is bound by kernel launches. Otherwise each run
is a lane of its own and a run's results do not depend, to the bit, on what is trained beside it:
the layout for a CPU, where the matrix products of one run already fill the cores (docs/speed.md).
"""

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, vmap
from torch.utils._pytree import tree_leaves, tree_map

from lom_exp.checkpoints import Snapshot
from lom_exp.errors import ConfigError
from lom_exp.random import Rng, name_key
from lom_exp.types import Algorithm, Metrics, State, Transitions

Step = Callable[..., tuple[State, Metrics]]


class Frozen(Protocol):
    """The runs of a trainer as they were at one moment, whatever is trained since."""

    def act(self, observations: Tensor, update: int) -> Tensor:
        """Actions (R, E, A) for observations (R, E, O); `update` numbers the call for the Rng."""
        ...

    def snapshots(self) -> list[Snapshot]:
        """The runs as they were, on the CPU."""
        ...


@dataclasses.dataclass
class _Lane:
    """The runs that one call of a step updates: all of them stacked, or one as it is."""

    runs: list[int]
    seeds: Tensor  # (R,), or 0-d for a single run
    floats: dict[str, Tensor]  # likewise
    state: State = None
    sums: Metrics = dataclasses.field(default_factory=dict)


def static_part(config: Any) -> tuple[Any, dict[str, float]]:
    """A config with its float fields taken out, and those: only these may differ within a pack."""
    floats = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if field.type in (float, "float")
    }
    return _with_values(config, dict.fromkeys(floats)), floats


def _with_values(config: Any, values: dict[str, Any]) -> Any:
    """A copy of a frozen config with other values, which may be tensors: no range is checked."""
    config = copy.copy(config)
    for name, value in values.items():
        object.__setattr__(config, name, value)
    return config


def _check_batches(config: Any, num_transitions: int) -> None:
    """A batch is drawn with replacement: one larger than its dataset is a mistake in either."""
    for field in dataclasses.fields(config):
        size = getattr(config, field.name)
        if field.name.endswith("batch_size") and size > num_transitions:
            raise ConfigError(
                f"algo.{field.name}={size} is more than the dataset's {num_transitions} "
                "transitions; give a smaller batch or another dataset"
            )


def _check_metrics(metrics: Metrics) -> None:
    for name, value in metrics.items():
        if not isinstance(value, Tensor) or value.dim():
            raise TypeError(f"the metric {name} must be a 0-d tensor: a mean over the batch")


class Trainer:
    """R runs of one algorithm on one dataset; their configs may differ in float fields only.

    Raises ConfigError when they differ elsewhere, or for a batch larger than the dataset.
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
    ) -> None:
        statics, floats = zip(*map(static_part, configs), strict=True)
        if any(static != statics[0] for static in statics):
            raise ConfigError(
                "runs trained together may differ in float fields and seeds only; got "
                + " and ".join(sorted({str(static) for static in statics}))
            )
        _check_batches(statics[0], len(data.rewards))
        self.num_runs = len(configs)
        self._algorithm, self._config, self._data = algorithm, statics[0], data
        self._vectorize, self._device = vectorize, data.rewards.device
        self._count = 0
        groups = [list(range(self.num_runs))] if vectorize else [[i] for i in range(self.num_runs)]
        self._lanes = [
            _Lane(
                runs=group,
                seeds=self._column([seeds[i] for i in group], torch.int64),
                floats={
                    name: self._column([floats[i][name] for i in group], torch.get_default_dtype())
                    for name in floats[0]
                },
            )
            for group in groups
        ]
        if compile:
            # The compiler counts what it compiled of the same code, here a step, and gives up
            # after eight: the packs trained before must not count.
            torch.compiler.reset()
        self._steps = {phase: self._make_step(phase, compile) for phase in algorithm.phases}

    def _column(self, values: Sequence[Any], dtype: torch.dtype) -> Tensor:
        column = torch.tensor(values, dtype=dtype, device=self._device)
        return column if self._vectorize else column.squeeze(0)

    def _make_step(self, phase: str, compile: bool) -> Step:
        updates = self._algorithm.phases[phase]

        def step(
            state: State, seed: Tensor, floats: dict[str, Tensor], update: Tensor
        ) -> tuple[State, Metrics]:
            config, rng = _with_values(self._config, floats), Rng.of(seed, phase, update)
            metrics: Metrics = {}
            for apply_update in updates:
                state, more = apply_update(state, self._data, config, rng)
                _check_metrics(more)
                metrics |= more
            return state, metrics

        batched: Step = vmap(step, in_dims=(0, 0, 0, None)) if self._vectorize else step
        if not compile:
            return batched
        # Marks it, and only here, because that imports the compiler.
        torch.compiler.assume_constant_result(name_key)  # type: ignore[no-untyped-call]
        # Left to itself it would take a second pack's sizes for variables, which vmap cannot have.
        return torch.compile(batched, fullgraph=True, dynamic=False)

    def initialize(self) -> None:
        """Give every run its networks before the first update."""
        dims = self._data.observations.shape[-1], self._data.actions.shape[-1]

        def init(seed: Tensor, floats: dict[str, Tensor]) -> State:
            rng = Rng.of(seed, "init", torch.zeros_like(seed))
            return self._algorithm.init(*dims, _with_values(self._config, floats), rng)

        with torch.device(self._device), torch.no_grad():
            for lane in self._lanes:
                batched = vmap(init) if self._vectorize else init
                # Leaves that init returns twice (a target and its network) get memory each.
                lane.state = tree_map(torch.clone, batched(lane.seeds, lane.floats))
                lane.sums = {}
        self._count = 0

    @property
    def template(self) -> State:
        """A state with the shapes, types and names of every run's."""
        return self.snapshots()[0].state

    def restore(self, snapshots: Sequence[Snapshot]) -> None:
        """Continue from these snapshots, one for each run, all taken after the same update."""
        self._count = snapshots[0].num_summed
        for lane in self._lanes:
            mine = [(snapshots[i].state, snapshots[i].sums) for i in lane.runs]
            lane.state, lane.sums = (
                tree_map(lambda *leaves: torch.stack(leaves).to(self._device), *mine)
                if self._vectorize
                else tree_map(lambda leaf: leaf.to(self._device).clone(), mine[0])
            )

    def snapshots(self) -> list[Snapshot]:
        """The runs as they are now, on the CPU."""
        found = []
        for lane in self._lanes:
            on_cpu = tree_map(lambda leaf: leaf.cpu(), (lane.state, lane.sums))
            for i in range(len(lane.runs)):
                state, sums = (
                    tree_map(lambda leaf, i=i: leaf[i].clone(), on_cpu)
                    if self._vectorize
                    else on_cpu
                )
                found.append(Snapshot(state, sums, self._count))
        return found

    def freeze(self) -> Frozen:
        """The runs as they are now, in memory of their own on the device."""
        frozen = copy.copy(self)
        frozen._lanes = [
            dataclasses.replace(
                lane,
                state=tree_map(torch.clone, lane.state),
                sums=tree_map(torch.clone, lane.sums),
            )
            for lane in self._lanes
        ]
        return frozen

    def advance(
        self, phase: str, first: int, last: int, should_stop: Callable[[], bool] = lambda: False
    ) -> int:
        """Do the updates first ... last - 1 of a phase; return the number of the next one.

        `should_stop` is asked after each update.
        """
        step, updates = self._steps[phase], torch.arange(first, last, device=self._device)
        with torch.no_grad():
            for i in range(last - first):
                for lane in self._lanes:
                    lane.state, metrics = step(lane.state, lane.seeds, lane.floats, updates[i])
                    lane.sums = {
                        name: lane.sums[name] + value if lane.sums else value
                        for name, value in metrics.items()
                    }
                self._count += 1
                if should_stop():
                    return first + i + 1
        return last

    def take_metrics(self) -> list[dict[str, float]]:
        """Each run's metrics, averaged over the updates since they were last taken."""
        taken = []
        for lane in self._lanes:
            names = list(lane.sums)
            if names:
                table = torch.stack([lane.sums[name].reshape(-1) for name in names])
                table = (table.double() / self._count).cpu()
            for i in range(len(lane.runs)):
                taken.append({name: table[j, i].item() for j, name in enumerate(names)})
            lane.sums = {}
        self._count = 0
        return taken

    def finite(self) -> list[bool]:
        """For each run, whether all of its state is finite."""
        flags: list[bool] = []
        for lane in self._lanes:
            leaves = [leaf.reshape(len(lane.runs), -1) for leaf in tree_leaves(lane.state)]
            flags += torch.stack([leaf.isfinite().all(-1) for leaf in leaves]).all(0).tolist()
        return flags

    def act(self, observations: Tensor, update: int) -> Tensor:
        """Actions (R, E, A) for observations (R, E, O); `update` numbers the call for the Rng."""

        def act(state: State, seed: Tensor, floats: dict[str, Tensor], x: Tensor) -> Tensor:
            rng = Rng.of(seed, "act", torch.full_like(seed, update))
            return self._algorithm.act(state, x, _with_values(self._config, floats), rng)

        with torch.no_grad():
            if self._vectorize:
                lane = self._lanes[0]
                return vmap(act)(lane.state, lane.seeds, lane.floats, observations)
            # Copied, since where numbers lie in memory can decide the last bits of their product.
            rows = [
                act(lane.state, lane.seeds, lane.floats, observations[lane.runs[0]].clone())
                for lane in self._lanes
            ]
            return torch.stack(rows)
