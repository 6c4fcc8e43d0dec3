"""The fast environments are Gymnasium's, bit for bit, and refuse what would not be."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gymnasium
import h5py
import mujoco
import numpy as np
import pytest
from gymnasium_robotics.envs.fetch.reach import MujocoFetchReachEnv

from lom_exp.envs import ENVIRONMENTS, make
from lom_exp.envs.fetch import INITIAL_VARIATION
from lom_exp.errors import SimulationError

LOCOMOTION = ("HalfCheetah-v4", "Hopper-v4", "Walker2d-v4")


Behavior = Callable[[np.ndarray, int], np.ndarray]  # (O,) and the step -> (A,)


def gentle(action_dim: int, seed: int) -> Behavior:
    """Small random actions."""
    rng = np.random.default_rng(seed)
    return lambda _, step: 0.1 * rng.normal(size=action_dim) + 0.05 * np.sin(0.2 * step)


def wild(action_dim: int, seed: int) -> Behavior:
    """Large actions, many beyond the limits, held for five steps as a gait does."""
    rng, phases = np.random.default_rng(seed), np.arange(1, action_dim + 1)
    return lambda _, step: 2 * np.sin(phases * (step // 5)) + rng.normal(size=action_dim)


def linear(action_dim: int, seed: int) -> Behavior:
    """A linear policy; of the seeds below, two let Hopper stand for a whole episode."""
    rng = np.random.default_rng(seed)

    observation_dim = {3: 11, 6: 17}[action_dim]
    weights, height = rng.normal(size=(action_dim, observation_dim)), 1.25  # m, standing

    def act(observation: np.ndarray, _: int) -> np.ndarray:
        return np.tanh(weights @ np.append(observation[0] - height, observation[1:]))

    return act


def record(environment: str, seed: int, behavior: Behavior) -> list[tuple]:
    """One episode of Gymnasium's own environment, clipped to [-1, 1] as D4RL does."""
    env = gymnasium.wrappers.ClipAction(gymnasium.make(environment))
    observation, _ = env.reset(seed=seed)
    rows = [(None, observation, 0.0, False, False)]
    while not (rows[-1][3] or rows[-1][4]):
        action = behavior(rows[-1][1], len(rows) - 1).astype(np.float32)
        rows.append((action, *env.step(action)[:4]))
    env.close()
    return rows


@pytest.mark.filterwarnings("ignore:.*out of date:DeprecationWarning")
@pytest.mark.parametrize("environment", LOCOMOTION)
def test_whole_episodes_equal_gymnasiums_bit_for_bit(environment):
    kinds = [gentle, wild, linear, linear, linear]
    seeds = [(2**31 - 1, 0), (7, 1), (0, 58), (0, 1127), (3, 186)]  # of episode and behavior
    environments = make(environment, len(seeds))
    expected = [
        record(environment, seed, kind(environments.action_dim, behavior_seed))
        for kind, (seed, behavior_seed) in zip(kinds, seeds, strict=True)
    ]
    for _ in range(2):  # a second pass: nothing of the first episodes is left behind
        observations = environments.reset([seed for seed, _ in seeds])
        assert np.array_equal(observations, [rows[0][1] for rows in expected])
        for step in range(1, max(len(rows) for rows in expected)):
            ongoing = np.flatnonzero([step < len(rows) for rows in expected])
            actions, *outcome = zip(*(expected[index][step] for index in ongoing), strict=True)
            stepped = environments.step(ongoing, np.stack(actions))
            for values, wanted in zip(stepped, outcome, strict=True):
                assert np.array_equal(values, wanted), step

    terminated = [rows[-1][3] for rows in expected]
    truncated = [rows[-1][4] for rows in expected]
    if environment == "HalfCheetah-v4":
        assert all(truncated)
        assert not any(terminated)
    else:
        assert any(terminated)
    if environment == "Hopper-v4":
        assert any(truncated)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_an_environment_does_not_know_its_neighbors(environment):
    together, alone = make(environment, 3), make(environment, 1)
    actions = np.random.default_rng(0).uniform(-1, 1, (20, 3, together.action_dim))
    actions = actions.astype(np.float32)
    assert np.array_equal(together.reset([4, 5, 6])[1:2], alone.reset([5]))
    for step in range(20):
        indices = np.array([0, 1, 2] if step < 10 else [1])
        stepped = together.step(indices, actions[step, indices])
        single = alone.step(np.array([0]), actions[step, 1:2])
        row = indices.tolist().index(1)
        for values, expected in zip(stepped, single, strict=True):
            assert np.array_equal(values[row], expected[0])


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_dimensions_are_those_of_what_is_observed_and_done(environment):
    environments = make(environment, 2)
    observations = environments.reset([0, 1])
    assert observations.shape == (2, environments.observation_dim)
    assert observations.dtype == np.float64
    assert not np.array_equal(observations[0], observations[1])
    with pytest.raises(ValueError, match="zip"):
        environments.reset([0])


@pytest.mark.parametrize(
    ("environment", "file"),
    [
        ("HalfCheetah-v4", "halfcheetah_medium_replay-v2.hdf5"),
        ("Hopper-v4", "hopper_medium_replay-v2.hdf5"),
        ("Walker2d-v4", "walker2d_medium_replay-v2.hdf5"),
    ],
)
def test_steps_from_recorded_states_lead_where_the_recording_says(environment, file):
    path = Path(os.environ.get("LOM_DATA_DIR", "")) / file
    if not path.is_file():
        pytest.skip(f"{file} is not in LOM_DATA_DIR")
    count = 500
    environments = make(environment, count)
    positions = environments._model.nq - 1
    with h5py.File(path) as data:
        rows = np.linspace(0, len(data["rewards"]) - 2, 20 * count, dtype=int)
        inside = np.abs(data["observations"][:, positions:]).max(-1) < 9.9  # velocities are clipped
        ends = data["timeouts"][:] | data["terminals"][:]
        rows = rows[inside[rows] & ~ends[rows]][:count]
        observations, actions, rewards = (
            data[key][:][rows] for key in ("observations", "actions", "rewards")
        )
        following = data["observations"][:][rows + 1]
    environments.reset(range(count))
    for simulation, observation in zip(environments._data, observations, strict=False):
        simulation.qpos[:] = np.append(0.0, observation[:positions])
        simulation.qvel[:] = observation[positions:]
    stepped = environments.step(np.arange(len(rows)), actions)
    # Recorded states are rounded to float32, which a contact about to close can magnify.
    errors = np.abs(stepped.observations - following).max(-1)
    assert np.median(errors) < 1e-5
    assert np.quantile(errors, 0.99) < 1e-3
    assert np.median(np.abs(stepped.rewards - rewards)) < 1e-5


def copy_state(data: mujoco.MjData, env: MujocoFetchReachEnv) -> None:
    everything = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(env.model, everything))
    mujoco.mj_getState(env.model, data, state, everything)
    mujoco.mj_setState(env.model, env.data, state, everything)
    mujoco.mj_forward(env.model, env.data)


def test_fetch_reach_moves_as_the_original_does():
    environments = make("FetchReachFourGoals", 1)
    original = MujocoFetchReachEnv()
    actions = np.random.default_rng(0).uniform(-1.5, 1.5, (50, 4)).astype(np.float32)
    observations = environments.reset([3])
    original.reset(seed=0)
    copy_state(environments._data[0], original)
    assert np.array_equal(original._get_obs()["observation"], observations[0])
    for step in range(50):
        stepped = environments.step(np.array([0]), actions[step : step + 1])
        expected, *_ = original.step(actions[step])
        assert np.array_equal(stepped.observations[0], expected["observation"]), step
        assert not stepped.terminations[0]
        assert stepped.truncations[0] == (step == 49)


def test_fetch_reach_starts_near_the_original_start_and_at_rest():
    observations = make("FetchReachFourGoals", 16).reset(range(16))
    original, _ = MujocoFetchReachEnv().reset(seed=0)
    offsets = observations[:, :3] - original["observation"][:3]
    assert np.abs(offsets).max() < INITIAL_VARIATION + 1e-3
    assert (offsets.std(0) > 0.4 * INITIAL_VARIATION).all()  # uniform: 0.58
    assert np.abs(observations[:, 5:8]).max() < 2e-4  # m per step


def test_fetch_reach_rewards_the_first_quadrant_twice_as_much_as_the_others():
    environments = make("FetchReachFourGoals", 1)
    center = environments.goals.mean(0)
    directions = np.sign((environments.goals - center).round(6))[:, :2]
    assert directions.tolist() == [[1, 1], [-1, 1], [-1, -1], [1, -1]]

    def reward(position):
        return environments.rewards(np.concatenate((position, np.zeros(7)))[None])[0]

    assert [reward(goal) for goal in environments.goals] == [2, 1, 1, 1]
    assert reward(center) == 0
    outwards = np.array([0.0, 0.0, 1.0])
    assert reward(environments.goals[0] + 0.0499 * outwards) == 2
    assert reward(environments.goals[0] + 0.0501 * outwards) == 0


def test_an_unknown_environment_is_refused_with_the_nearest_name():
    with pytest.raises(SimulationError, match=r"'Hoper-v4': did you mean Hopper-v4\?"):
        make("Hoper-v4", 1)
    with pytest.raises(SimulationError, match=r"'xyz': Set env.environment to one of HalfChee"):
        make("xyz", 1)


@pytest.mark.parametrize("environment", [name for name in ENVIRONMENTS if name != "Rings"])
def test_another_mujoco_is_refused_with_the_reason_and_the_remedy(environment, monkeypatch):
    monkeypatch.setattr(mujoco, "__version__", "3.5.0")
    with pytest.raises(SimulationError, match=r"3\.5\.0 .* margins .* pip install mujoco==3\.4\.0"):
        make(environment, 1)


@pytest.mark.parametrize(
    ("missing", "remedy"),
    [("mujoco", "mujoco==3.4.0"), ("gymnasium_robotics.envs.fetch.reach", "gymnasium-robotics")],
)
def test_a_missing_simulator_is_named_with_the_remedy(missing, remedy, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)  # makes its import fail
    with pytest.raises(SimulationError, match=f"needs {missing}.*pip install '{remedy}'"):
        make("FetchReachFourGoals", 1)


def test_importing_environments_needs_no_simulator():
    code = (
        "import sys, lom_exp.envs, lom_exp.evaluation; "
        "sys.exit(any(name in sys.modules for name in ('mujoco', 'gymnasium')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_making_fetch_reach_prints_nothing():
    code = "from lom_exp.envs import make; make('FetchReachFourGoals', 1).reset([0])"
    result = subprocess.run(
        [sys.executable, "-W", "default", "-c", code], capture_output=True, text=True, check=True
    )
    assert (result.stdout, result.stderr) == ("", "")
