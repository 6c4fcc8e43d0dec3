"""What a module must provide so that a dataset is generated from a world it knows.

Shapes: n rows, O, A.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lom_exp.datasets.config import EnvConfig

# D4RL's: observations (n, O), actions (n, A), rewards (n,), next_observations (n, O), terminals
# (n,) and timeouts (n,), in this order.
Arrays = dict[str, NDArray[np.float32] | NDArray[np.bool_]]


@dataclass(frozen=True)
class World:
    """A generated source; trajectories follow one another by number in its file."""

    environment: str  # that scores what is trained on this data
    parameters: tuple[str, ...]  # the fields of EnvConfig that decide the arrays
    part: int  # trajectories that are made at a time, by one process
    packages: tuple[str, ...]  # whose versions decide the arrays, too
    check: Callable[[EnvConfig], None]  # raises DataError for parameters that cannot be met
    recipe: Callable[[EnvConfig], str]  # what the data is, in a sentence
    # Rows of the trajectories in a range. They must depend on the parameters and on the
    # trajectories' numbers alone, since any process may be asked for them, in any order.
    simulate: Callable[[EnvConfig, range], Arrays]
    version: int = 1  # to be raised when the same parameters come to give other arrays
