"""A generated dataset with four modes: a scripted expert reaches each of FetchReach's four goals.

From every initial state there are four trajectories, one to each goal, as LOM's Table 2 asks for.
The expert moves the gripper in proportion to its distance from the goal, and all its actions carry
Gaussian noise. The paper names neither controller nor noise and has 4 million transitions; both
are chosen here, and a default of 40,000 transitions is made in about half a minute.

Shapes: N trajectories, T steps of each, n rows, O, A.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from lom_exp.datasets.config import EnvConfig
from lom_exp.envs.fetch import SUCCESS_RADIUS, FetchReachFourGoals
from lom_exp.errors import DataError

# Per meter. At the start, 8 to 12 cm from a goal along x and y, this makes actions of 0.64 to 0.96,
# most of which no noise pushes over the limit: four modes near (+-1, +-1), each with a width.
EXPERT_GAIN = 8.0
GOALS = 4

Arrays = dict[str, NDArray[np.float32] | NDArray[np.bool_]]


def expert_actions(
    observations: NDArray[np.float64], goals: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The noiseless expert's actions (n, A) towards `goals` (n, 3) from `observations` (n, O)."""
    displacements = EXPERT_GAIN * (goals - observations[:, :3])
    unused = np.zeros((len(goals), 1))  # the control of the fingers, which are blocked
    return np.clip(np.concatenate((displacements, unused), axis=-1), -1, 1)


def generate(env: EnvConfig, path: Path) -> None:
    """Write `env.num_trajectories` trajectories to `path` in D4RL's layout.

    Trajectory i has initial state i // 4 and goal i % 4, the first quadrant's first. The same
    parameters give the same arrays. Raises DataError for parameters that cannot be met and
    SimulationError where there is no simulator.
    """
    if env.num_trajectories < GOALS or env.num_trajectories % GOALS != 0:
        raise DataError(
            f"{env.name}: env.num_trajectories={env.num_trajectories} is not a positive multiple "
            f"of {GOALS}; each initial state has one trajectory to each of {GOALS} goals"
        )
    if not 0 <= env.expert_noise <= 1 or env.generator_seed < 0:
        raise DataError(
            f"{env.name}: env.expert_noise={env.expert_noise} must be in [0, 1] and "
            f"env.generator_seed={env.generator_seed} at least 0"
        )
    arrays = _simulate(env)
    reached = (arrays["rewards"][:, -1] > 0).mean()
    if reached < 1:
        raise DataError(
            f"{env.name}: with env.expert_noise={env.expert_noise} the expert ends within "
            f"{SUCCESS_RADIUS} m of its goal in {reached:.1%} of the trajectories only, and "
            "should always; lower the noise"
        )
    with h5py.File(path, "w") as file:
        for key, values in arrays.items():
            file[key] = values.reshape(-1, *values.shape[2:])  # trajectory after trajectory
        file.attrs["provenance"] = "generated"
        file.attrs["recipe"] = (
            f"FetchReachFourGoals, {env.num_trajectories} trajectories of a proportional expert "
            f"(gain {EXPERT_GAIN} per m), one to each of four goals from each initial state, "
            f"Gaussian action noise of std {env.expert_noise}"
        )
        for key in ("num_trajectories", "generator_seed", "expert_noise"):
            file.attrs[key] = getattr(env, key)
        for package in ("mujoco", "gymnasium", "gymnasium-robotics", "numpy"):
            file.attrs[f"{package} version"] = version(package)


def _simulate(env: EnvConfig) -> Arrays:
    """Arrays (N, T, ...) of all trajectories, those from one initial state in lockstep."""
    environments = FetchReachFourGoals(GOALS)
    shape = env.num_trajectories, environments.horizon
    arrays: Arrays = {
        "observations": np.empty((*shape, environments.observation_dim), np.float32),
        "actions": np.empty((*shape, environments.action_dim), np.float32),
        "rewards": np.empty(shape, np.float32),
        "next_observations": np.empty((*shape, environments.observation_dim), np.float32),
        "terminals": np.empty(shape, bool),
        "timeouts": np.empty(shape, bool),
    }
    indices = np.arange(GOALS)
    title, console = f"generating {env.name}", Console(stderr=True)
    if not console.is_terminal:
        console.print(f"{title}: {env.num_trajectories} trajectories")
    states = range(env.num_trajectories // GOALS)
    for state in track(states, title, console=console, disable=not console.is_terminal):
        rng = np.random.default_rng([env.generator_seed, state])
        seed = int(rng.integers(2**31))
        noise = rng.normal(
            scale=env.expert_noise, size=(environments.horizon, GOALS, environments.action_dim)
        )
        observations = environments.reset([seed] * GOALS)
        rows = slice(GOALS * state, GOALS * (state + 1))
        for step in range(environments.horizon):
            actions = expert_actions(observations, environments.goals) + noise[step]
            actions = np.clip(actions, -1, 1).astype(np.float32)
            stepped = environments.step(indices, actions)
            row = (
                observations,
                actions,
                stepped.rewards,
                stepped.observations,
                stepped.terminations,
                stepped.truncations,
            )
            for array, values in zip(arrays.values(), row, strict=True):
                array[rows, step] = values
            observations = stepped.observations
    return arrays
