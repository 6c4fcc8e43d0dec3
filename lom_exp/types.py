"""The nouns that every module shares."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from lom_exp.random import Rng

Metrics = dict[str, Tensor]
State = Any  # an algorithm's own NamedTuple of Networks and target Params; a pytree of tensors


class Transitions(NamedTuple):
    """N transitions: a whole dataset or one minibatch of it."""

    observations: Tensor  # (N, O), scaled as the algorithm wants them
    actions: Tensor  # (N, A), in [-1, 1] unless the algorithm wants them scaled, too
    rewards: Tensor  # (N,)
    next_observations: Tensor  # (N, O)
    next_actions: Tensor  # (N, A), of the same episode; of no meaning where terminations is 1
    terminations: Tensor  # (N,), 1 at a true end, 0 at a time limit

    def sample(self, rng: Rng, stream: str, size: int) -> Transitions:
        """`size` transitions drawn uniformly with replacement."""
        indices = rng.integers(stream, len(self.rewards), (size,))
        return Transitions(*(field[indices] for field in self))


Update = Callable[[State, Transitions, Any, Rng], tuple[State, Metrics]]
Phases = dict[str, tuple[Update, ...]]  # updates done one after another; phases in their order


class Algorithm(Protocol):
    """What a module of `lom_exp.algorithms` provides; it describes one run and nothing else."""

    phases: Phases

    @property
    def Config(self) -> type[Any]:
        """A frozen dataclass; its float fields may differ between the runs of a pack."""
        ...

    def init(self, observation_dim: int, action_dim: int, config: Any, rng: Rng) -> State:
        """Networks before the first update."""
        ...

    def act(self, state: State, observations: Tensor, config: Any, rng: Rng) -> Tensor:
        """Actions (E, A), on the scale of the data's, for observations (E, O), as evaluated."""
        ...
