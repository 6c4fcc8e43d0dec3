"""Evaluation returns what a plain loop over one environment would, for all runs at once."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from lom_exp.envs import Stepped, make
from lom_exp.evaluation import episode_seeds, evaluate, score


class Countdowns:
    """Environments whose episode takes as many steps as its seed says, 6 at most.

    The observation is (seed, step); the reward is the action's first number.
    """

    observation_dim = 2
    action_dim = 1
    horizon = 6

    def __init__(self) -> None:
        self.stepped: list[list[int]] = []

    def reset(self, seeds):
        self.states = np.array([(seed, 0) for seed in seeds], dtype=np.float64)
        return self.states.copy()

    def step(self, indices, actions):
        self.stepped.append(indices.tolist())
        self.states[indices, 1] += 1
        ends, steps = self.states[indices].T
        return Stepped(
            self.states[indices],
            actions[:, 0].astype(np.float64),
            (steps == ends) & (steps < self.horizon),
            steps == self.horizon,
        )


def test_known_returns_and_lengths():
    def policy(observations, step):
        assert observations.shape == (2, 3, 2)
        return observations[..., :1] + 10 * step

    episodes = evaluate(policy, Countdowns(), np.array([[1, 2, 3], [4, 9, 1]]))
    assert episodes.lengths.tolist() == [[1, 2, 3], [4, 6, 1]]
    # Each of T steps earns the seed and ten times the number of steps before it.
    assert episodes.returns.tolist() == [[1, 14, 39], [76, 204, 1]]
    # The last one earns the seed and ten times all the steps before it.
    assert episodes.final_rewards.tolist() == [[1, 12, 23], [34, 59, 1]]


def test_finished_episodes_are_stepped_no_more():
    environments = Countdowns()
    evaluate(
        lambda observations, _: observations[..., :1], environments, np.array([[1, 3], [2, 9]])
    )
    assert environments.stepped == [[0, 1, 2, 3], [1, 2, 3], [1, 3], [3], [3], [3]]


def test_an_action_that_is_not_finite_ends_only_its_own_episode():
    def policy(observations, step):
        actions = np.ones((2, 2, 1))
        if step == 1:
            actions[0, 1] = np.inf
            actions[1] = np.nan
        return actions

    episodes = evaluate(policy, Countdowns(), np.array([[3, 3], [2, 1]]))
    np.testing.assert_array_equal(episodes.returns, [[3, np.nan], [np.nan, 1]])
    np.testing.assert_array_equal(episodes.final_rewards, [[1, np.nan], [np.nan, 1]])
    assert episodes.lengths.tolist() == [[3, 1], [1, 1]]


def tanh_policy(runs: int, observation_dim: int, action_dim: int):
    """A fixed linear policy for each run; rows are computed one by one, so that bits agree."""
    weights = np.random.default_rng(58).normal(size=(runs, action_dim, observation_dim))

    def act(run, observation):
        return np.tanh(weights[run] @ observation).astype(np.float32)

    def act_all(observations, _):
        return np.array([[act(r, o) for o in rows] for r, rows in enumerate(observations)])

    return act, act_all


@pytest.mark.filterwarnings("ignore:.*out of date:DeprecationWarning")
@pytest.mark.parametrize("environment", ["Hopper-v4", "Walker2d-v4", "HalfCheetah-v4"])
def test_evaluation_equals_a_plain_gymnasium_loop(environment):
    seeds = np.array([[3, 1, 4], [1, 5, 9]]) if environment != "HalfCheetah-v4" else np.array([[2]])
    environments = make(environment, seeds.size)
    act, act_all = tanh_policy(len(seeds), environments.observation_dim, environments.action_dim)
    episodes = evaluate(act_all, environments, seeds)

    env = gymnasium.make(environment)
    for (run, episode), seed in np.ndenumerate(seeds):
        observation, _ = env.reset(seed=int(seed))
        rewards, over = [], False
        while not over:
            observation, reward, terminated, truncated, _ = env.step(act(run, observation))
            rewards.append(reward)
            over = terminated or truncated
        assert episodes.returns[run, episode] == sum(rewards)
        assert episodes.final_rewards[run, episode] == rewards[-1]
        assert episodes.lengths[run, episode] == len(rewards)


def test_a_run_does_not_know_its_neighbors():
    seeds = np.array([[3, 1], [4, 1], [5, 9]])
    _, act_all = tanh_policy(3, 11, 3)
    together = evaluate(act_all, make("Hopper-v4", 6), seeds)

    def second_alone(observations, step):
        return act_all(np.repeat(observations, 3, axis=0), step)[1:2]

    alone = evaluate(second_alone, make("Hopper-v4", 2), seeds[1:2])
    assert np.array_equal(alone.returns, together.returns[1:2])
    assert np.array_equal(alone.lengths, together.lengths[1:2])
    assert together.returns[0, 1] != together.returns[1, 1]  # one seed, two policies


def test_environments_can_be_used_again():
    environments = make("Walker2d-v4", 4)
    _, act_all = tanh_policy(2, 17, 6)
    seeds = np.array([[1, 2], [3, 4]])
    first, second = (evaluate(act_all, environments, seeds) for _ in range(2))
    assert np.array_equal(first.returns, second.returns)


def test_scores_of_the_reference_returns_are_0_and_100():
    scores = score(np.array([-20.272305, 3234.3, 1607.0138475]), -20.272305, 3234.3)
    assert scores.tolist() == pytest.approx([0.0, 100.0, 50.0])


def test_episode_seeds_are_reproducible_and_a_longer_list_starts_with_the_shorter():
    assert episode_seeds(3, 10_000, 5) == episode_seeds(3, 10_000, 100)[:5]


def test_episode_seeds_differ_between_runs_updates_and_episodes():
    seeds = [
        seed
        for run_seed in range(10)
        for update in range(0, 100_000, 10_000)
        for seed in episode_seeds(run_seed, update, 10)
    ]
    assert len(set(seeds)) == len(seeds) == 1000
    assert all(type(seed) is int and 0 <= seed < 2**31 for seed in seeds)
    assert np.mean(seeds) / 2**30 == pytest.approx(1, abs=0.1)  # spread over the whole range
