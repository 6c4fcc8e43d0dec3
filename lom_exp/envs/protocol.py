"""What every family of environments provides.

Shapes: E environments, n of them stepped at once, O, A.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Stepped(NamedTuple):
    """What one step of n environments returns."""

    observations: NDArray[np.float64]  # (n, O)
    rewards: NDArray[np.float64]  # (n,)
    terminations: NDArray[np.bool_]  # (n,), the task's own end
    truncations: NDArray[np.bool_]  # (n,), the time limit


class Environments(Protocol):
    """E environments of one task, each with its own state."""

    @property
    def observation_dim(self) -> int: ...

    @property
    def action_dim(self) -> int: ...

    @property
    def horizon(self) -> int:
        """Steps after which an episode is truncated."""
        ...

    def reset(self, seeds: Sequence[int]) -> NDArray[np.float64]:
        """Start an episode in each environment from its own seed; the observations (E, O)."""
        ...

    def step(self, indices: NDArray[np.intp], actions: NDArray[np.float32]) -> Stepped:
        """Step only the environments `indices` (n,) with `actions` (n, A), clipped to [-1, 1].

        An environment whose episode is over must be reset before it is stepped again.
        """
        ...
