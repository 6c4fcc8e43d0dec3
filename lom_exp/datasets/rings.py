"""The generated dataset of LOM's Figure 5: points on two rings, with and without rewards.

See `lom_exp.envs.rings`. A trajectory is one row, which ends it. What the paper calls the data
without rewards has the reward 0 throughout, so that weighted methods weigh all actions alike.
"""

from __future__ import annotations

import numpy as np

from lom_exp.datasets.config import EnvConfig
from lom_exp.datasets.world import Arrays, World
from lom_exp.envs.rings import ACTION_SCALE, INNER_SHARE, RINGS, is_rewarded, sample
from lom_exp.errors import DataError

PART = 100_000
_EVERY = round(1 / INNER_SHARE)  # of this many points one is on the inner ring


def check(env: EnvConfig) -> None:
    """Raise DataError where there would be no row."""
    if env.num_trajectories < 1:
        raise DataError(
            f"{env.name}: env.num_trajectories={env.num_trajectories} must be at least 1"
        )


def recipe(env: EnvConfig) -> str:
    """What the data is, in a sentence."""
    rings = " and ".join(f"{low} to {high}" for low, high in RINGS)
    rewards = "1 in the first and third quadrant, else 0" if env.rewarded else "0 throughout"
    return (
        f"{env.environment}, {env.num_trajectories} points (state, {ACTION_SCALE} action) on rings "
        f"of radius {rings}, a quarter of them on the inner; rewards {rewards}"
    )


def simulate(env: EnvConfig, trajectories: range) -> Arrays:
    """Rows of the trajectories in one part."""
    rng = np.random.default_rng([env.generator_seed, trajectories.start // PART])
    # All points of a part are drawn, so that a longer dataset begins with the shorter one.
    points = sample(rng, np.arange(PART) % _EVERY == 0)[: len(trajectories)]
    observations = points[:, :1].astype(np.float32)
    rewards = is_rewarded(points) & env.rewarded
    return {
        "observations": observations,
        "actions": (points[:, 1:] / ACTION_SCALE).astype(np.float32),
        "rewards": rewards.astype(np.float32),
        "next_observations": observations,
        "terminals": np.ones(len(points), bool),
        "timeouts": np.zeros(len(points), bool),
    }


WORLD = World(
    environment="Rings",
    parameters=("num_trajectories", "generator_seed", "rewarded"),
    part=PART,
    packages=("numpy",),
    check=check,
    recipe=recipe,
    simulate=simulate,
)
