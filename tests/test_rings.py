"""Figure 5's one-step MDP: the data is where it should be, and rewarded where it should be."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

from lom_exp.datasets import EnvConfig, Preprocessing, load
from lom_exp.datasets.generation import generate
from lom_exp.datasets.rings import PART
from lom_exp.envs import make
from lom_exp.envs.rings import ACTION_SCALE, is_rewarded, on_rings
from lom_exp.errors import DataError
from lom_exp.evaluation import evaluate

CONFIGS = Path(__file__).parents[1] / "conf" / "env"
ROWS = 5000


def config(name: str = "rings", **changes: object) -> EnvConfig:
    return EnvConfig(**(yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()) | changes))


def made(env: EnvConfig, path: Path) -> dict[str, np.ndarray]:
    generate(env, path, processes=1)
    with h5py.File(path) as file:
        return {key: file[key][:] for key in file}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> dict[str, np.ndarray]:
    return made(config(), tmp_path_factory.mktemp("rings") / "rings.hdf5")


def points(data: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate((data["observations"], ACTION_SCALE * data["actions"]), axis=-1)


def test_every_row_is_an_episode_that_terminates(data):
    assert {key: values.shape for key, values in data.items()} == {
        "observations": (ROWS, 1),
        "actions": (ROWS, 1),
        "rewards": (ROWS,),
        "next_observations": (ROWS, 1),
        "terminals": (ROWS,),
        "timeouts": (ROWS,),
    }
    assert data["terminals"].all()
    assert not data["timeouts"].any()


def test_points_fill_both_rings_evenly_and_nothing_else(data):
    x, y = points(data).T.astype(np.float64)
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    inner = (radius > 0.3 - 1e-6) & (radius < 0.5 + 1e-6)
    outer = (radius > 1.0 - 1e-6) & (radius < 1.2 + 1e-6)
    assert (inner | outer).all()
    assert inner.sum() == ROWS / 4
    for ring, low in ((inner, 0.3), (outer, 1.0)):
        shares = np.histogram(radius[ring], bins=4, range=(low, low + 0.2))[0] / ring.sum()
        assert np.abs(shares - 0.25).max() < 0.05
        shares = np.histogram(angle[ring], bins=8, range=(-np.pi, np.pi))[0] / ring.sum()
        assert np.abs(shares - 0.125).max() < 0.035


def test_a_state_in_the_middle_has_four_modes_of_actions(data):
    y = points(data)[np.abs(data["observations"][:, 0]) < 0.05][:, 1]
    counts, _ = np.histogram(y, bins=[-1.21, -0.97, -0.51, -0.28, 0.28, 0.51, 0.97, 1.21])
    assert (counts[[0, 2, 4, 6]] > 20).all()
    assert (counts[[1, 3, 5]] == 0).all()


def test_rewards_are_one_in_the_first_and_third_quadrant_and_else_none(data):
    x, y = points(data).T
    assert np.array_equal(data["rewards"], ((x > 0) == (y > 0)).astype(np.float32))
    assert data["rewards"].mean() == pytest.approx(0.5, abs=0.03)


def test_without_rewards_only_the_rewards_are_others(data, tmp_path):
    unrewarded = made(config("rings-unrewarded"), tmp_path / "x")
    assert not unrewarded.pop("rewards").any()
    for key, values in unrewarded.items():
        assert np.array_equal(values, data[key]), key
    assert config("rings-unrewarded").environment == config().environment


def test_a_longer_dataset_begins_with_the_shorter_one(data, tmp_path):
    longer = made(config(num_trajectories=PART + 7), tmp_path / "x")
    assert len(longer["rewards"]) == PART + 7
    assert np.array_equal(longer["actions"][:ROWS], data["actions"])
    assert not np.isin(longer["actions"][PART:], longer["actions"][:7]).any()


def test_another_seed_draws_other_points(data, tmp_path):
    other = made(config(generator_seed=1), tmp_path / "x")
    assert not np.isin(other["actions"][:100], data["actions"]).any()


def test_all_but_the_last_row_are_transitions_that_end(tmp_path):
    generate(config(), tmp_path / "x.hdf5")
    dataset = load(config(path=str(tmp_path / "x.hdf5")), Preprocessing(), "cpu")
    assert len(dataset.transitions.rewards) == ROWS - 1
    assert dataset.transitions.terminations.all()
    assert dataset.record["mean_episode_return"] == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    ("x", "y", "ring", "reward"),
    [
        (0.3, 0.3, True, 1),
        (-0.3, -0.3, True, 1),
        (-1.0, 0.1, True, 0),
        (0.1, -1.1, True, 0),
        (0.5, 0.5, False, 1),  # between the rings
        (0.1, 0.1, False, 1),
        (0.0, 1.3, False, 0),
    ],
)
def test_rings_and_quadrants_of_known_points(x, y, ring, reward):
    assert on_rings(np.array([[x, y]]))[0] == ring
    assert is_rewarded(np.array([[x, y]]))[0] == reward


def test_a_tolerance_widens_both_rings():
    radii = np.array([[0.29, 0], [0.51, 0], [0.99, 0], [0, 1.21]])
    assert not on_rings(radii).any()
    assert on_rings(radii, tolerance=0.02).all()
    assert not on_rings(radii, tolerance=0.005).any()


def test_the_environment_rewards_the_action_in_its_state_and_ends():
    environments = make("Rings", 4)
    states = environments.reset(range(4))
    actions = np.sign(states[[2, 0]]).astype(np.float32) * [[0.5], [-2.0]]
    stepped = environments.step(np.array([2, 0]), actions.astype(np.float32))
    assert np.array_equal(stepped.observations, states[[2, 0]])
    assert stepped.rewards.tolist() == [1, 0]
    assert stepped.terminations.all()
    assert not stepped.truncations.any()


def test_states_to_act_in_are_distributed_as_those_of_the_data(data):
    states = make("Rings", 4000).reset(range(4000))
    bins = np.linspace(-1.2, 1.2, 13)
    shares = [np.histogram(x, bins)[0] / len(x) for x in (states, data["observations"])]
    assert np.abs(shares[0] - shares[1]).max() < 0.02


def test_reference_returns_are_those_of_the_best_and_of_random_actions():
    environments, seeds = make("Rings", 2000), np.arange(2000)[None]
    best = evaluate(lambda x, _: np.sign(x), environments, seeds)
    assert (best.returns == config().expert_return).all()
    assert (best.lengths == 1).all()
    rng = np.random.default_rng(0)
    uniform = evaluate(lambda x, _: rng.uniform(-1, 1, x.shape), environments, seeds)
    assert uniform.returns.mean() == pytest.approx(config().random_return, abs=4 * 0.5 / 2000**0.5)


def test_a_dataset_of_no_rows_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"num_trajectories=0 must be at least 1"):
        generate(config(num_trajectories=0), tmp_path / "x")
