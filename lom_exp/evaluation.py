"""Episodes of R runs at once: one call of the policy and one lockstep of the physics per step.

Shapes: R runs, E episodes of each, n of the R * E still going on, O, A.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lom_exp.envs import Environments

# (R, E, O) raw observations and the step -> (R, E, A) actions. The rows of episodes that are over
# hold their last observations, so that shapes stay the same throughout.
Policy = Callable[[NDArray[np.float64], int], NDArray[np.floating]]


class Episodes(NamedTuple):
    """What E episodes of each of R runs came to."""

    returns: NDArray[np.float64]  # (R, E), undiscounted; nan where an action was not finite
    lengths: NDArray[np.intp]  # (R, E), steps
    final_rewards: NDArray[np.float64]  # (R, E), of the last step; nan like the returns


def evaluate(policy: Policy, environments: Environments, seeds: NDArray[np.integer]) -> Episodes:
    """One episode from each of `seeds` (R, E), in as many `environments`.

    Episodes do not influence one another, whatever run they belong to. One whose policy gives an
    action that is not finite ends there with return nan, and the others go on.
    """
    shape = seeds.shape
    observations = environments.reset([int(seed) for seed in seeds.flat])  # (R * E, O)
    returns = np.zeros(seeds.size)
    lengths = np.zeros(seeds.size, dtype=np.intp)
    final_rewards = np.zeros(seeds.size)
    ongoing = np.arange(seeds.size)  # (n,)
    step = 0
    while len(ongoing) > 0:
        proposed = policy(observations.reshape(*shape, -1), step)
        actions = np.asarray(proposed, dtype=np.float32).reshape(seeds.size, -1)[ongoing]
        finite = np.isfinite(actions).all(-1)
        returns[ongoing[~finite]] = final_rewards[ongoing[~finite]] = np.nan
        ongoing, actions = ongoing[finite], actions[finite]
        if len(ongoing) > 0:
            stepped = environments.step(ongoing, actions)
            observations[ongoing] = stepped.observations
            returns[ongoing] += stepped.rewards
            final_rewards[ongoing] = stepped.rewards
            lengths[ongoing] += 1
            ongoing = ongoing[~(stepped.terminations | stepped.truncations)]
        step += 1
    return Episodes(returns.reshape(shape), lengths.reshape(shape), final_rewards.reshape(shape))


def score(
    returns: NDArray[np.floating], random_return: float, expert_return: float
) -> NDArray[np.float64]:
    """Normalized scores of undiscounted returns: 0 is the random policy's, 100 the expert's."""
    return 100.0 * (np.asarray(returns) - random_return) / (expert_return - random_return)


def episode_seeds(run_seed: int, update: int, count: int) -> list[int]:
    """Seeds below 2**31 for the `count` episodes of one run's evaluation after one update.

    A pure function of its arguments; a longer list begins with the shorter one.
    """
    # The key sets these seeds apart from whatever else is drawn from a run's seed.
    sequence = np.random.SeedSequence([run_seed, update], spawn_key=(0x45564C,))
    return [int(word) >> 1 for word in sequence.generate_state(count, np.uint32)]
