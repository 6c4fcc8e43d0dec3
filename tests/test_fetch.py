"""The Fetch tasks move as the originals do, and their generated data has four equal modes.

What is said of the data is read off the arrays: the goal of a trajectory is where it ends.
"""

from __future__ import annotations

import importlib
from itertools import combinations
from pathlib import Path

import h5py
import mujoco
import numpy as np
import pytest
import yaml

from lom_exp.datasets import EnvConfig, Preprocessing, experts, load
from lom_exp.datasets.fetch import TASKS
from lom_exp.datasets.generation import generate
from lom_exp.envs import make
from lom_exp.envs.fetch import INITIAL_VARIATION, QUADRANTS, SUCCESS_RADIUS
from lom_exp.errors import DataError
from lom_exp.evaluation import evaluate

CONFIGS = Path(__file__).parents[1] / "conf" / "env"
NAMES = ("fetch-reach", "fetch-push", "fetch-pick-and-place")
STATES, GOALS, STEPS = 10, 4, 50
GRIPPER, CUBE = slice(0, 3), slice(3, 6)  # of an observation
CUBE_TASKS = {
    "FetchPushFourGoals": ("push", "MujocoFetchPushEnv"),
    "FetchPickAndPlaceFourGoals": ("pick_and_place", "MujocoFetchPickAndPlaceEnv"),
}


def config(name: str = "fetch-reach", **changes: object) -> EnvConfig:
    settings = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    return EnvConfig(**(settings | {"num_trajectories": STATES * GOALS} | changes))


def read(path: Path) -> dict[str, np.ndarray]:
    """Arrays (STATES, GOALS, STEPS, ...)."""
    with h5py.File(path) as file:
        return {key: file[key][:].reshape(-1, GOALS, STEPS, *file[key].shape[1:]) for key in file}


@pytest.fixture(scope="module", params=NAMES)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def path(name, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("fetch") / f"{name}.hdf5"
    generate(config(name), path, processes=1)
    return path


@pytest.fixture(scope="module")
def data(path) -> dict[str, np.ndarray]:
    return read(path)


@pytest.fixture(scope="module")
def distances(name, data) -> np.ndarray:
    """m from what is moved to each goal after each step, (STATES, GOALS, STEPS, 4)."""
    goals = make(config(name).environment, 1).goals
    moved = data["next_observations"][..., GRIPPER if name == "fetch-reach" else CUBE].astype(float)
    return np.linalg.norm(moved[..., None, :] - goals, axis=-1)


# The data


def test_the_layout_is_d4rls(name, data, path):
    with h5py.File(path) as file:
        shapes = {key: file[key].shape for key in file}
    rows, size = STATES * GOALS * STEPS, 10 if name == "fetch-reach" else 25
    assert shapes == {
        "observations": (rows, size),
        "actions": (rows, 4),
        "rewards": (rows,),
        "next_observations": (rows, size),
        "terminals": (rows,),
        "timeouts": (rows,),
    }
    assert not data["terminals"].any()
    assert data["timeouts"][..., -1].all()
    assert not data["timeouts"][..., :-1].any()
    following = data["observations"][:, :, 1:]
    assert np.array_equal(data["next_observations"][:, :, :-1], following)


def test_each_initial_state_has_one_trajectory_to_each_goal(data, distances):
    initial = data["observations"][:, :, 0]
    assert (initial == initial[:, :1]).all()
    assert len(np.unique(initial[:, 0], axis=0)) == STATES
    reached = distances[:, :, -1].argmin(-1)
    assert np.bincount(reached.ravel()).tolist() == [STATES] * 4
    assert (np.sort(reached, axis=1) == np.arange(4)).all()


def test_every_trajectory_ends_at_a_goal_and_none_begins_at_one(data, distances):
    assert (distances[:, :, -1].min(-1) < SUCCESS_RADIUS).all()
    assert (distances[:, :, 0].min(-1) > SUCCESS_RADIUS).all()
    assert (data["rewards"].sum(-1) >= 10).all()  # and not in the last moment


def test_rewards_are_two_in_the_first_quadrant_one_in_the_others_and_else_none(data, distances):
    near = distances < SUCCESS_RADIUS
    expected = np.where(near[..., 0], 2, np.where(near.any(-1), 1, 0))
    clear = (np.abs(distances - SUCCESS_RADIUS) > 1e-6).all(-1)  # positions are rounded
    assert np.array_equal(data["rewards"][clear], expected[clear])
    assert set(np.unique(data["rewards"])) == {0, 1, 2}


def test_initial_actions_have_four_distinct_modes(data, distances):
    reached = distances[:, :, -1].argmin(-1)
    actions = data["actions"][:, :, 0, :2]
    clusters = [actions[reached == goal] for goal in range(4)]
    signs = {tuple(np.sign(cluster).mean(0)) for cluster in clusters}
    assert signs == {(1, 1), (-1, 1), (-1, -1), (1, -1)}  # each cluster whole in one quadrant
    # Wide enough to fit and far apart.
    spread = np.array([cluster.std(0) for cluster in clusters])
    assert ((spread > 0.05) & (spread < 0.25)).all()
    means = [cluster.mean(0) for cluster in clusters]
    assert min(np.linalg.norm(a - b) for a, b in combinations(means, 2)) > 5 * spread.max()


def test_every_action_has_noise_and_is_within_its_bounds(data):
    assert np.abs(data["actions"]).max() <= 1
    same = data["actions"][:, 0, 0, 2]  # vertical: all experts keep their height at first
    inside = data["actions"][np.abs(data["actions"]) < 1]
    assert 0.05 < same.std() < 0.2
    assert np.unique(inside).size > 0.99 * inside.size


def test_the_file_loads_as_a_dataset(name, path):
    dataset = load(config(name, path=str(path)), Preprocessing(), "cpu")
    assert dataset.record["provenance"] == "generated"
    # D4RL's convention: the row of a time-out has no successor in the file and is left out.
    assert len(dataset.transitions.rewards) == STATES * GOALS * (STEPS - 1)
    assert not dataset.transitions.terminations.any()


def test_the_pick_is_a_pick(tmp_path):
    generate(config("fetch-pick-and-place", num_trajectories=4), tmp_path / "x", processes=1)
    observations = read(tmp_path / "x")["next_observations"][0]
    height, opening = observations[..., 5], observations[..., 9:11].sum(-1)
    assert (height.max(-1) > height[:, 0] + 0.02).all()  # the cube leaves the desk
    assert (opening[:, -1] > 0.05).all()  # and is let go of
    assert np.allclose(height[:, -1], height[:, 0], atol=0.002)


# The generator


def test_another_seed_gives_other_data(tmp_path):
    for seed in (0, 1):
        path = tmp_path / f"{seed}.hdf5"
        generate(config(num_trajectories=4, generator_seed=seed), path, processes=1)
    one, other = read(tmp_path / "0.hdf5"), read(tmp_path / "1.hdf5")
    assert (one["observations"][:, :, 0, :3] != other["observations"][:, :, 0, :3]).all()
    assert (one["actions"] != other["actions"]).mean() > 0.9


def test_the_data_of_reach_is_what_published_results_stand_on(tmp_path):
    generate(config(num_trajectories=4), tmp_path / "x", processes=1)
    data = read(tmp_path / "x")
    action = [0.8336365, 0.8065348, -0.1078342, -0.0535669]
    assert data["actions"][0, 0, 0] == pytest.approx(action, abs=1e-6)
    position = [1.4363376, 0.6447311, 0.5398972]
    assert data["observations"][0, 3, -1, :3] == pytest.approx(position, abs=1e-5)
    assert data["rewards"].sum((0, 2)).tolist() == [94, 47, 47, 46]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_trajectories": 0}, r"num_trajectories=0 is not a positive multiple of 4"),
        ({"num_trajectories": 10}, r"num_trajectories=10 is not a positive multiple of 4"),
        ({"expert_noise": -0.1}, r"expert_noise=-0\.1 must be in \[0, 1\]"),
        ({"expert_noise": float("nan")}, r"expert_noise=nan must be in \[0, 1\]"),
        ({"generator_seed": -1}, r"generator_seed=-1 must be at least 0"),
        ({"expert_noise": 1.0}, r"goal in any of 3 draws of initial state 0.*lower the noise"),
        ({"environment": "FetchPushFourGoals"}, r"fetch_reach generates data of FetchReachFour"),
    ],
)
def test_parameters_that_cannot_be_met_are_refused(change, message, tmp_path):
    with pytest.raises(DataError, match=message):
        generate(config(**change), tmp_path / "refused.hdf5", processes=1)
    assert not (tmp_path / "refused.hdf5").exists()


def test_reference_returns_are_those_of_the_expert_and_of_random_actions(name):
    count, env = 10, config(name)
    environments, seeds = make(env.environment, count), np.arange(count)[None]
    best = np.tile(environments.goals[0], (count, 1))
    expert = TASKS[env.source].expert
    played = evaluate(lambda seen, _: expert(seen[0], best)[None], environments, seeds)
    assert (played.final_rewards == 2).all()
    assert played.returns.mean() == pytest.approx(env.expert_return, rel=0.05)
    rng = np.random.default_rng(0)
    returns = evaluate(lambda *_: rng.uniform(-1, 1, (1, count, 4)), environments, seeds).returns
    # Few random episodes touch the cube, and those few make the mean: of ten it may be none.
    error = returns.std() / np.sqrt(count) + 0.02 * env.expert_return
    assert abs(returns.mean() - env.random_return) < 4 * error


# The environments with a cube: `test_envs` has what is common to all


def original(environment: str):
    module, name = CUBE_TASKS[environment]
    return getattr(importlib.import_module(f"gymnasium_robotics.envs.fetch.{module}"), name)()


def copy_state(data: mujoco.MjData, env) -> None:
    everything = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(env.model, everything))
    mujoco.mj_getState(env.model, data, state, everything)
    mujoco.mj_setState(env.model, env.data, state, everything)
    mujoco.mj_forward(env.model, env.data)


@pytest.mark.parametrize("environment", CUBE_TASKS)
@pytest.mark.parametrize("behavior", ["expert", "random"])
def test_the_cube_moves_and_is_rewarded_as_in_the_original(environment, behavior):
    environments, other = make(environment, 1), original(environment)
    rng = np.random.default_rng(0)
    expert = experts.push if environment == "FetchPushFourGoals" else experts.pick_and_place
    observations = environments.reset([3])
    other.reset(seed=0)
    copy_state(environments._data[0], other)
    other.goal = goal = environments.goals[0]
    assert np.array_equal(other._get_obs()["observation"], observations[0])
    for step in range(50):
        actions = rng.uniform(-1.5, 1.5, (1, 4))
        if behavior == "expert":
            actions = expert(observations, goal[None]) + actions / 15
        actions = actions.astype(np.float32)
        stepped = environments.step(np.array([0]), actions)
        expected, reward, _, _, info = other.step(actions[0])
        observations = stepped.observations
        assert np.array_equal(observations[0], expected["observation"]), step
        assert (stepped.rewards[0] == 2) == (reward == 0) == bool(info["is_success"])
        assert not stepped.terminations[0]
        assert stepped.truncations[0] == (step == 49)
    assert stepped.rewards[0] == (2 if behavior == "expert" else 0)


@pytest.mark.parametrize("environment", CUBE_TASKS)
def test_the_cube_starts_at_rest_in_the_middle_of_its_goals(environment):
    environments = make(environment, 12)
    observations = environments.reset(range(12))
    center = environments.goals.mean(0)
    offsets = observations[:, CUBE] - center
    assert np.abs(offsets[:, :2]).max() <= INITIAL_VARIATION
    assert (offsets[:, :2].std(0) > 0.4 * INITIAL_VARIATION).all()  # uniform: 0.58
    assert np.abs(offsets[:, 2]).max() < 1e-4
    assert np.abs(observations[:, 14:23]).max() < 1e-3  # m or rad per step
    assert np.abs(observations[:, :2] - center[:2]).max() < 2e-3
    assert (observations[:, 2] > center[2] + 0.1).all()
    directions = np.sign((environments.goals - center).round(6))[:, :2]
    assert np.array_equal(directions, QUADRANTS[:, :2])


@pytest.mark.parametrize("environment", CUBE_TASKS)
def test_a_cube_in_the_air_above_a_goal_is_not_at_it(environment):
    environments = make(environment, 1)
    observation = np.zeros((1, 25))
    for goal, reward in zip(environments.goals, (2, 1, 1, 1), strict=True):
        observation[0, CUBE] = goal + np.array([0, 0, 0.049])
        assert environments.rewards(observation)[0] == reward
        observation[0, CUBE] = goal + np.array([0, 0, 0.051])
        assert environments.rewards(observation)[0] == 0
    observation[0, :3] = environments.goals[0]  # where the gripper is does not matter
    assert environments.rewards(observation)[0] == 0
