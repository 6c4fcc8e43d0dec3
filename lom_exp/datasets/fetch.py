"""Generated datasets with four modes: a scripted expert meets each of four goals of a Fetch task.

From every initial state there are four trajectories, one to each goal, as LOM's Table 2 asks for
(arXiv 2412.03258, section 6.2). All actions carry Gaussian noise, so that a mode has a width. The
paper names neither expert nor noise and has 4 million transitions per task; what is chosen here
makes the default sizes in minutes, and the paper's with env.num_trajectories=80000.

An initial state from which the noise makes the expert miss one of the goals at the end is drawn
anew, noise and all, so that every trajectory of a dataset succeeds. That is a safeguard for large
datasets: it was needed for none of the 200 or 400 states of the three defaults.

Shapes: T steps, n rows, A, and G = 4 goals.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lom_exp.datasets import experts
from lom_exp.datasets.config import EnvConfig
from lom_exp.datasets.world import Arrays, World
from lom_exp.envs.fetch import (
    GOAL_REWARDS,
    SUCCESS_RADIUS,
    FetchFourGoals,
    FetchReachFourGoals,
)
from lom_exp.envs.fetch_cube import FetchPickAndPlaceFourGoals, FetchPushFourGoals
from lom_exp.errors import DataError

GOALS = len(GOAL_REWARDS)
DRAWS = 3  # of an initial state, before the noise is called too much


class Task(NamedTuple):
    """Who acts where."""

    environment: type[FetchFourGoals]
    expert: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]


TASKS = {
    "fetch_reach": Task(FetchReachFourGoals, experts.reach),
    "fetch_push": Task(FetchPushFourGoals, experts.push),
    "fetch_pick_and_place": Task(FetchPickAndPlaceFourGoals, experts.pick_and_place),
}


def check(env: EnvConfig) -> None:
    """Raise DataError for parameters from which no dataset of four equal modes can be made."""
    if env.num_trajectories < GOALS or env.num_trajectories % GOALS != 0:
        raise DataError(
            f"{env.name}: env.num_trajectories={env.num_trajectories} is not a positive multiple "
            f"of {GOALS}; each initial state has one trajectory to each of {GOALS} goals"
        )
    if not 0 <= env.expert_noise <= 1:
        raise DataError(f"{env.name}: env.expert_noise={env.expert_noise} must be in [0, 1]")


def recipe(env: EnvConfig) -> str:
    """What the data is, in a sentence."""
    return (
        f"{env.environment}, {env.num_trajectories} trajectories of a scripted expert, one to each "
        f"of four goals from each initial state, Gaussian action noise of std {env.expert_noise}"
    )


def simulate(env: EnvConfig, trajectories: range) -> Arrays:
    """Rows of whole initial states; trajectory i has state i // 4 and goal i % 4.

    The first quadrant's goal is goal 0. Raises SimulationError where there is no simulator.
    """
    states = range(trajectories.start // GOALS, trajectories.stop // GOALS)
    whole = [_state(env, state) for state in states]
    return {key: np.concatenate([arrays[key] for arrays in whole]) for key in whole[0]}


def _state(env: EnvConfig, state: int) -> Arrays:
    """The rows of all trajectories from one initial state."""
    for draw in range(DRAWS):
        # The first draw's key says the same as [seed, state].
        rng = np.random.default_rng([env.generator_seed, state, draw])
        arrays = _attempt(env, rng)
        if np.array_equal(arrays["rewards"][:, -1], GOAL_REWARDS):
            return {key: values.reshape(-1, *values.shape[2:]) for key, values in arrays.items()}
    raise DataError(
        f"{env.name}: with env.expert_noise={env.expert_noise} the expert did not end within "
        f"{SUCCESS_RADIUS} m of each goal in any of {DRAWS} draws of initial state {state}, and "
        "should almost always; lower the noise"
    )


def _attempt(env: EnvConfig, rng: np.random.Generator) -> Arrays:
    """Arrays (G, T, ...) of the four trajectories from an initial state, in lockstep."""
    environments, expert = _environments(env.source), TASKS[env.source].expert
    seed = int(rng.integers(2**31))
    shape = (environments.horizon, GOALS, environments.action_dim)
    noise = rng.normal(scale=env.expert_noise, size=shape)
    observations = environments.reset([seed] * GOALS)
    indices = np.arange(GOALS)
    steps = []
    for step in range(environments.horizon):
        actions = expert(observations, environments.goals) + noise[step]
        actions = np.clip(actions, -1, 1).astype(np.float32)
        stepped = environments.step(indices, actions)
        steps.append((observations, actions, *stepped))
        observations = stepped.observations
    columns = [np.stack(values, axis=1) for values in zip(*steps, strict=True)]
    observations, actions, next_observations, rewards, terminations, truncations = columns
    return {
        "observations": observations.astype(np.float32),
        "actions": actions,
        "rewards": rewards.astype(np.float32),
        "next_observations": next_observations.astype(np.float32),
        "terminals": terminations,
        "timeouts": truncations,
    }


@lru_cache(maxsize=1)  # making them takes as long as a hundred steps
def _environments(source: str) -> FetchFourGoals:
    return TASKS[source].environment(GOALS, threads=1)


WORLDS = {
    source: World(
        environment=task.environment.__name__,
        parameters=("num_trajectories", "generator_seed", "expert_noise"),
        part=10 * GOALS,  # a second or two
        packages=("mujoco", "gymnasium", "gymnasium-robotics", "numpy"),
        check=check,
        recipe=recipe,
        simulate=simulate,
    )
    for source, task in TASKS.items()
}
