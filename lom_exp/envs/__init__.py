"""Environments that score a policy: many of one task, stepped together.

Importing this package needs no simulator, so that training from a file runs without one; `make`
loads it.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial

from lom_exp.envs.fetch import FetchReachFourGoals
from lom_exp.envs.fetch_cube import FetchPickAndPlaceFourGoals, FetchPushFourGoals
from lom_exp.envs.locomotion import TASKS, Locomotion
from lom_exp.envs.protocol import Environments, Stepped
from lom_exp.envs.rings import Rings
from lom_exp.errors import SimulationError

__all__ = ["ENVIRONMENTS", "Environments", "Stepped", "make"]

# By Gymnasium's id or, for a task of this project, its own.
ENVIRONMENTS: dict[str, Callable[[int], Environments]] = {
    **{environment: partial(Locomotion, environment) for environment in TASKS},
    "FetchReachFourGoals": FetchReachFourGoals,
    "FetchPushFourGoals": FetchPushFourGoals,
    "FetchPickAndPlaceFourGoals": FetchPickAndPlaceFourGoals,
    "Rings": Rings,
}


def make(environment: str, count: int) -> Environments:
    """`count` environments of one task.

    Raises SimulationError for an unknown task, and where the simulator is missing or not of the
    version that gives D4RL's physics.
    """
    if environment not in ENVIRONMENTS:
        nearest = difflib.get_close_matches(environment, ENVIRONMENTS, n=1, cutoff=0.5)
        guess = f"did you mean {nearest[0]}? " if nearest else ""
        raise SimulationError(
            f"unknown environment {environment!r}: {guess}"
            f"Set env.environment to one of {', '.join(ENVIRONMENTS)}"
        )
    return ENVIRONMENTS[environment](count)
