"""The reach task with four goals: one initial state, what its dataset does there, and episodes.

Shapes: E episodes, T steps, O observation, A action, G = 4 goals, S initial states, n actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.policies import selection
from lom_exp import envs
from lom_exp.datasets.fetch import GOALS, TASKS
from lom_exp.envs import Stepped
from lom_exp.envs.fetch import GOAL_REWARDS, FetchFourGoals
from lom_exp.errors import DataError
from lom_exp.evaluation import episode_seeds, evaluate
from lom_exp.trained import TrainedRun

Floats = NDArray[np.float64]

NEAREST = 50  # S, of the dataset's initial states that stand for the one that is drawn
MODE_RADIUS = 3  # in standard deviations of the expert's noise: 99 % of an expert's (dx, dy)


class Scene(NamedTuple):
    """Initial states that no training saw; the first is the one whose actions are drawn."""

    environments: FetchFourGoals  # E of them
    seeds: list[int]  # of E episodes, the same for every policy
    goals: Floats  # (G, 3) in m, the first quadrant's first
    center: Floats  # (3,) in m, amid the goals
    observation: Floats  # (O,)
    expert_actions: Floats  # (G, A), without noise
    mode_radius: float  # of what an expert's noise makes of its (dx, dy)


class Episodes(NamedTuple):
    """What happened in E episodes."""

    paths: Floats  # (E, T or T + 1, 3) in m, of the gripper
    returns: Floats  # (E,)
    ends: NDArray[np.intp]  # (E,), the goal at which an episode ends; -1 for none


class Demonstrations(NamedTuple):
    """What the dataset does from the initial states nearest a scene's."""

    actions: Floats  # (S G, A), the first of each trajectory
    episodes: Episodes  # E = S G, of the nearest initial state first
    states: int  # S, as many as NEAREST where the dataset has so many
    distance: float  # m, of the farthest of their grippers


def scene(run: TrainedRun, seed: int, episodes: int) -> Scene:
    """The scene of a figure's seed; no run is ever evaluated from its initial states.

    Raises DataError for a run in another world, SimulationError where there is no simulator.
    """
    env = run.spec.env
    environments = envs.make(env.environment, episodes)
    if not isinstance(environments, FetchFourGoals) or env.source not in TASKS:
        raise DataError(
            f"{run.name}: {env.environment} with data from {env.source} has no four goals to show; "
            "give a run on the project's own env=fetch-reach"
        )
    # Evaluations come after an update: those after none are nobody's.
    seeds = episode_seeds(seed, 0, episodes)
    observation = environments.reset(seeds)[0]
    goals = environments.goals
    expert = TASKS[env.source].expert
    return Scene(
        environments,
        seeds,
        goals,
        goals.mean(0),
        observation,
        expert(np.tile(observation, (len(goals), 1)), goals),
        MODE_RADIUS * env.expert_noise,
    )


def demonstrations(run: TrainedRun, sha256: str, scene: Scene) -> Demonstrations:
    """The dataset's trajectories from the initial states nearest the scene's.

    Raises DataError where the data the run was trained on are not there any more, or not generated.
    """
    env = run.spec.env
    if env.path is not None:
        raise DataError(
            f"{run.name} was trained on env.path={env.path}, and of a file it is not known which "
            "rows are trajectories from one initial state; give a run on generated data"
        )
    rows = selection.rows_of(run, sha256)
    positions, actions, rewards = (
        values.reshape(-1, GOALS, scene.environments.horizon, *values.shape[1:]).astype(np.float64)
        for values in (
            rows.observations[:, scene.environments.achieved],
            rows.actions,
            rows.rewards,
        )
    )
    start = scene.observation[scene.environments.achieved]
    distances = np.linalg.norm(positions[:, 0, 0] - start, axis=-1)  # (states,)
    nearest = np.argsort(distances, kind="stable")[:NEAREST]
    paths, actions, rewards = (
        values[nearest].reshape(-1, *values.shape[2:]) for values in (positions, actions, rewards)
    )
    episodes = Episodes(paths, rewards.sum(-1), _ends(paths, rewards[:, -1], scene))
    return Demonstrations(actions[:, 0], episodes, len(nearest), float(distances[nearest].max()))


def play(run: TrainedRun, scene: Scene) -> Episodes:
    """An episode from each of the scene's seeds, as evaluation plays it."""
    recorder = _Recorder(scene.environments)
    policy = run.policy(len(scene.seeds), scene.environments.horizon)
    returns = evaluate(policy, recorder, np.array([scene.seeds])).returns[0]
    visited = np.stack(recorder.visited, axis=1)  # (E, T + 1, O)
    paths = visited[..., scene.environments.achieved]
    return Episodes(paths, returns, _ends(paths, scene.environments.rewards(visited[:, -1]), scene))


def _ends(paths: Floats, last_rewards: Floats, scene: Scene) -> NDArray[np.intp]:
    """The goal at which each of the paths (E, T, 3) ends with a reward (E,); -1 for none."""
    distances = np.linalg.norm(paths[:, -1, None] - scene.goals, axis=-1)  # (E, G)
    return np.where(last_rewards > 0, distances.argmin(-1), -1)


def shares(goals: NDArray[np.intp]) -> tuple[float, float, float]:
    """Of goals (n,), -1 for none: the shares of the best goal, of another one and of none."""
    best, none = goals == GOAL_REWARDS.argmax(), goals < 0
    return float(best.mean()), float((~best & ~none).mean()), float(none.mean())


def nearest_experts(actions: Floats, scene: Scene) -> NDArray[np.intp]:
    """The goal whose expert might have taken the (dx, dy) of actions (n, A); -1 for none: (n,).

    Actions are clipped to the box, as the environment does.
    """
    apart = np.clip(actions, -1, 1)[:, None, :2] - scene.expert_actions[:, :2]
    distances = np.linalg.norm(apart, axis=-1)  # (n, G)
    return np.where(distances.min(-1) <= scene.mode_radius, distances.argmin(-1), -1)


class _Recorder:
    """Environments that remember every observation."""

    def __init__(self, environments: FetchFourGoals) -> None:
        self._environments = environments
        self.observation_dim = environments.observation_dim
        self.action_dim = environments.action_dim
        self.horizon = environments.horizon
        self.visited: list[Floats] = []  # (E, O) before the first and after every step

    def reset(self, seeds: Sequence[int]) -> Floats:
        """Start an episode in each environment; the observations (E, O)."""
        observations = self._environments.reset(seeds)
        self.visited = [observations.copy()]
        return observations

    def step(self, indices: NDArray[np.intp], actions: NDArray[np.float32]) -> Stepped:
        """Step the environments `indices` (n,) with `actions` (n, A)."""
        stepped = self._environments.step(indices, actions)
        latest = self.visited[-1].copy()
        latest[indices] = stepped.observations
        self.visited.append(latest)
        return stepped
