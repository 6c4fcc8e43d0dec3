"""The generated dataset has four equal modes, reaches its goals and is the same every time."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from lom_exp.datasets import EnvConfig, Preprocessing, load
from lom_exp.datasets.fetch import expert_actions, generate
from lom_exp.envs import make
from lom_exp.envs.fetch import QUADRANTS, SUCCESS_RADIUS
from lom_exp.errors import DataError
from lom_exp.evaluation import evaluate

CONFIG = Path(__file__).parents[1] / "conf" / "env" / "fetch-reach.yaml"
STATES, GOALS, STEPS = 12, 4, 50


def config(**changes: object) -> EnvConfig:
    settings = yaml.safe_load(CONFIG.read_text()) | {"num_trajectories": STATES * GOALS}
    return EnvConfig(**(settings | changes))


def read(path: Path) -> dict[str, np.ndarray]:
    """Arrays (STATES, GOALS, STEPS, ...)."""
    with h5py.File(path) as file:
        return {key: file[key][:].reshape(-1, GOALS, STEPS, *file[key].shape[1:]) for key in file}


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("fetch") / "fetch.hdf5"
    generate(config(), path)
    return path


@pytest.fixture(scope="module")
def data(path) -> dict[str, np.ndarray]:
    return read(path)


@pytest.fixture(scope="module")
def goals() -> np.ndarray:
    return make("FetchReachFourGoals", 1).goals


def test_the_layout_is_d4rls(data, path):
    with h5py.File(path) as file:
        shapes = {key: file[key].shape for key in file}
    rows = STATES * GOALS * STEPS
    assert shapes == {
        "observations": (rows, 10),
        "actions": (rows, 4),
        "rewards": (rows,),
        "next_observations": (rows, 10),
        "terminals": (rows,),
        "timeouts": (rows,),
    }
    assert not data["terminals"].any()
    assert data["timeouts"][..., -1].all()
    assert not data["timeouts"][..., :-1].any()
    following = data["observations"][:, :, 1:]
    assert np.array_equal(data["next_observations"][:, :, :-1], following)


def test_each_initial_state_has_one_trajectory_to_each_goal(data, goals):
    initial = data["observations"][:, :, 0]
    assert (initial == initial[:, :1]).all()
    assert len(np.unique(initial[:, 0], axis=0)) == STATES
    final = data["next_observations"][:, :, -1, :3]
    nearest = np.linalg.norm(final[..., None, :] - goals, axis=-1).argmin(-1)
    assert (nearest == np.arange(GOALS)).all()


def test_every_trajectory_succeeds(data):
    assert (data["rewards"][:, :, -1] == [2, 1, 1, 1]).all()
    assert (data["rewards"][:, :, 10:] > 0).all()  # and stays at its goal


def test_initial_actions_have_four_distinct_modes(data):
    actions = data["actions"][:, :, 0, :2]
    assert (np.sign(actions) == QUADRANTS[:, :2]).all()
    assert np.abs(actions.mean((0,))).min() > 0.5
    # Wide enough to fit and far apart: each standard deviation well below the modes' distance.
    assert ((actions.std(0) > 0.05) & (actions.std(0) < 0.25)).all()


def test_every_action_has_noise_and_is_within_its_bounds(data):
    assert np.abs(data["actions"]).max() <= 1
    unused = data["actions"][..., 3]
    assert unused.std() == pytest.approx(config().expert_noise, rel=0.1)
    assert np.unique(unused).size == unused.size


def test_rewards_are_those_of_the_next_position(data, goals):
    positions = data["next_observations"][..., :3].astype(np.float64)
    distances = np.linalg.norm(positions[..., None, :] - goals, axis=-1)
    within = distances < SUCCESS_RADIUS
    expected = np.where(within[..., 0], 2, np.where(within.any(-1), 1, 0))
    clear = (np.abs(distances - SUCCESS_RADIUS) > 1e-6).all(-1)  # positions are rounded
    assert np.array_equal(data["rewards"][clear], expected[clear])
    assert set(np.unique(data["rewards"])) == {0, 1, 2}


def test_the_same_parameters_give_the_same_arrays_and_another_seed_others(data, tmp_path):
    generate(config(num_trajectories=8), tmp_path / "again.hdf5")
    again = read(tmp_path / "again.hdf5")
    for key, values in again.items():
        assert np.array_equal(values, data[key][:2]), key
    generate(config(num_trajectories=8, generator_seed=1), tmp_path / "other.hdf5")
    other = read(tmp_path / "other.hdf5")
    assert (other["observations"][:, :, 0, :3] != again["observations"][:, :, 0, :3]).all()
    assert (other["actions"] != again["actions"]).mean() > 0.9


def test_the_file_says_how_it_was_made(path):
    with h5py.File(path) as file:
        attributes = dict(file.attrs)
    assert attributes["provenance"] == "generated"
    assert "proportional expert" in attributes["recipe"]
    assert attributes["num_trajectories"] == STATES * GOALS
    assert attributes["generator_seed"] == config().generator_seed
    assert attributes["expert_noise"] == config().expert_noise
    assert attributes["mujoco version"] == "3.4.0"


def test_the_file_loads_as_a_dataset(path):
    dataset = load(config(path=str(path)), Preprocessing(), "cpu")
    assert dataset.record["provenance"] == "generated"
    # D4RL's convention: the row of a time-out has no successor in the file and is left out.
    assert len(dataset.transitions.rewards) == STATES * GOALS * (STEPS - 1)
    assert not dataset.transitions.terminations.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_trajectories": 0}, r"num_trajectories=0 is not a positive multiple of 4"),
        ({"num_trajectories": 10}, r"num_trajectories=10 is not a positive multiple of 4"),
        ({"expert_noise": -0.1}, r"expert_noise=-0\.1 must be in \[0, 1\]"),
        ({"expert_noise": float("nan")}, r"expert_noise=nan must be in \[0, 1\]"),
        ({"generator_seed": -1}, r"generator_seed=-1 at least 0"),
        ({"expert_noise": 1.0, "num_trajectories": 48}, r"goal in .*lower the noise"),
    ],
)
def test_parameters_that_cannot_be_met_are_refused(change, message, tmp_path):
    with pytest.raises(DataError, match=message):
        generate(config(**change), tmp_path / "refused.hdf5")
    assert not (tmp_path / "refused.hdf5").exists()


def test_reference_returns_are_those_of_the_expert_and_of_random_actions():
    environments, seeds = make("FetchReachFourGoals", 20), np.arange(20)[None]
    rng = np.random.default_rng(0)

    def expert(observations, _):
        best = np.tile(environments.goals[0], (20, 1))
        return expert_actions(observations[0], best)[None]

    expert_returns = evaluate(expert, environments, seeds).returns
    random_returns = evaluate(
        lambda *_: rng.uniform(-1, 1, (1, 20, 4)), environments, seeds
    ).returns
    assert expert_returns.mean() == pytest.approx(config().expert_return, abs=0.5)
    error = random_returns.std() / np.sqrt(20)
    assert abs(random_returns.mean() - config().random_return) < 4 * error
