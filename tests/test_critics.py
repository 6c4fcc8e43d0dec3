"""Values: targets and their regression by hand, ensembles against their members one by one."""

import math

import pytest
import torch
from torch.func import vmap
from torch.testing import assert_close
from torch.utils._pytree import tree_leaves, tree_map

from lom_exp.critics import (
    init_critics,
    init_value,
    member,
    min_q,
    q,
    q_ensemble,
    regress,
    smoothed,
    td_target,
    v,
)
from lom_exp.networks import network
from lom_exp.random import Rng
from lom_exp.types import Transitions

pytestmark = pytest.mark.usefixtures("float64")

K, B, OBSERVATION_DIM, A = 3, 6, 5, 2  # critics, batch, observation, action


def rng(update=0):
    return Rng.of(torch.tensor(4), "policy", torch.tensor(update))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def batch(**columns):
    size = len(next(iter(columns.values())))
    defaults = {
        "observations": torch.zeros(size, 1),
        "actions": torch.zeros(size, 1),
        "rewards": torch.zeros(size),
        "next_observations": torch.zeros(size, 1),
        "next_actions": torch.zeros(size, 1),
        "terminations": torch.zeros(size),
    }
    given = {name: torch.as_tensor(column) for name, column in columns.items()}
    return Transitions(**{**defaults, **given})


def linear_critics(*slopes):
    """Q_k(s, a) = slope_k a, for one observation and one action dimension."""
    weight = torch.tensor([[[0.0, slope]] for slope in slopes])  # (K, out, in)
    return [(weight, torch.zeros(len(slopes), 1))]


def test_twin_critics_at_the_usual_size_have_their_parameter_count():
    params = init_critics(rng(), 17, 6, (256, 256))
    assert sum(leaf.numel() for leaf in tree_leaves(params)) == 144_386
    assert all(len(leaf) == 2 for leaf in tree_leaves(params))


def test_one_critic_is_an_ensemble_of_one():
    params = init_critics(rng(), OBSERVATION_DIM, A, (7,), count=1)
    assert [tuple(leaf.shape) for leaf in tree_leaves(params)] == [
        *((1, 7, OBSERVATION_DIM + A), (1, 7)),
        *((1, 1, 7), (1, 1)),
    ]
    observations, actions = normal(B, OBSERVATION_DIM), normal(B, A, seed=1)
    assert_close(min_q(params, observations, actions), q(member(params, 0), observations, actions))


def test_a_value_is_one_number_per_observation():
    params = init_value(rng(), OBSERVATION_DIM, (7, 8))
    observations = normal(4, B, OBSERVATION_DIM)
    assert params[0][0].shape == (7, OBSERVATION_DIM)
    assert v(params, observations).shape == (4, B)
    assert_close(v(params, observations)[2, 3], v(params, observations[2, 3]))


def test_q_of_a_line_is_its_slope_times_the_action():
    critic = member(linear_critics(3.0), 0)
    assert q(critic, torch.tensor([[7.0], [-7.0]]), torch.tensor([[0.5], [2.0]])).tolist() == [
        1.5,
        6.0,
    ]


def test_the_ensembles_values_are_its_members_and_the_least_is_taken_row_by_row():
    params = init_critics(rng(), OBSERVATION_DIM, A, (7, 8), K)
    observations, actions = normal(4, B, OBSERVATION_DIM), normal(4, B, A, seed=1)
    alone = [q(member(params, k), observations, actions) for k in range(K)]
    assert_close(q_ensemble(params, observations, actions), torch.stack(alone))
    least = min_q(params, observations, actions)
    for i in range(4):
        for j in range(B):
            assert least[i, j].item() == pytest.approx(min(value[i, j].item() for value in alone))


def test_the_least_is_not_always_the_same_members():
    zeros, actions = torch.zeros(2, 1), torch.tensor([[2.0], [-2.0]])
    assert min_q(linear_critics(1.0, 3.0), zeros, actions).tolist() == [2.0, -6.0]


def test_a_target_bootstraps_from_a_row_that_does_not_end_its_episode():
    rows = batch(rewards=[1.0, 1.0, -0.5], terminations=[0.0, 1.0, 0.0])
    targets = td_target(rows, torch.tensor([2.0, 1e300, -3.0]), 0.9)
    assert_close(targets, torch.tensor([2.8, 1.0, -3.2]))


def test_the_discount_may_be_a_runs_own():
    rows = batch(rewards=[1.0], terminations=[0.0])
    targets = vmap(lambda discount: td_target(rows, torch.tensor([2.0]), discount))(
        torch.tensor([0.0, 0.5, 1.0])
    )
    assert targets.squeeze(-1).tolist() == [1.0, 2.0, 3.0]


def test_the_critics_loss_is_the_sum_over_critics_of_mean_squared_errors():
    """Q_1 = a, Q_2 = 2a at 1 and 2 against 0 and 1: errors 1, 1 and 2, 3; (1 + 1 + 4 + 9) / 2."""
    rows = batch(actions=[[1.0], [2.0]])
    _, loss = regress(network(linear_critics(1.0, 2.0)), rows, torch.tensor([0.0, 1.0]), 0.1)
    assert loss.item() == pytest.approx(7.5)


def test_each_critic_learns_as_it_would_alone():
    params = init_critics(rng(), OBSERVATION_DIM, A, (7,), K)
    columns = {"observations": normal(B, OBSERVATION_DIM), "actions": normal(B, A, seed=1)}
    rows, targets = batch(**columns), normal(B, seed=2)
    together, loss = regress(network(params), rows, targets, 0.03)
    alone = []
    for k in range(K):
        single = tree_map(lambda leaf, k=k: leaf[k : k + 1], params)
        trained, own_loss = regress(network(single), rows, targets, 0.03)
        alone.append(own_loss)
        assert_close(member(together.params, k), member(trained.params, 0))
    assert_close(loss, sum(alone))


def test_regression_ends_at_the_targets():
    critics = network(linear_critics(0.5, -1.0))
    rows = batch(actions=[[1.0], [-1.0], [0.5]])
    for update in range(900):
        rate = 0.05 if update < 600 else 0.002
        critics, loss = regress(critics, rows, torch.tensor([2.0, -2.0, 1.0]), rate)
    assert loss.item() < 1e-6
    assert_close(critics.params[0][0][:, 0, 1], torch.tensor([2.0, 2.0]), atol=1e-3, rtol=0)


def test_smoothing_noise_is_bounded_before_it_is_added_and_actions_after():
    actions = torch.tensor([0.0, 0.9]).repeat(2000, 1)
    noisy = smoothed(actions, rng(), std=0.2, clip=0.3)
    assert noisy[:, 0].abs().amax().item() == pytest.approx(0.3)
    assert noisy[:, 1].amin().item() == pytest.approx(0.6)
    assert noisy[:, 1].amax().item() == 1.0
    within = (noisy[:, 0].abs() < 0.3 - 1e-9).double().mean().item()
    assert within == pytest.approx(math.erf(1.5 / math.sqrt(2)), abs=0.03)  # 1.5 stds to the clip


def test_smoothing_noise_has_its_own_number_for_every_entry_and_update():
    zeros = torch.zeros(50, 3)
    noise = smoothed(zeros, rng(), std=0.01, clip=1.0)
    assert len(noise.unique()) == zeros.numel()
    assert_close(noise, 0.01 * rng().normal("smoothing", (50, 3)))
    assert not (noise == smoothed(zeros, rng(1), std=0.01, clip=1.0)).any()


@pytest.mark.parametrize(("std", "clip"), [(0.0, 0.5), (0.2, 0.0)])
def test_without_noise_smoothing_only_puts_actions_into_the_box(std, clip):
    actions = torch.tensor([[-1.5, 0.25, 1.5]])
    assert smoothed(actions, rng(), std, clip).tolist() == [[-1.0, 0.25, 1.0]]
