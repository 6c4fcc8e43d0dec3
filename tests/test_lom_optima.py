"""LOM's losses have the optima they should: closed forms, fixed points and tabular values."""

import math
from dataclasses import replace

import pytest
import torch
from lom_by_hand import (
    Quadrature,
    behavior,
    constant,
    dataset,
    linear_critic,
    rng,
    state_of,
    with_critic,
)
from torch.testing import assert_close
from torch.utils._pytree import tree_map

from lom_exp.algorithms import lom
from lom_exp.networks import network

pytestmark = pytest.mark.usefixtures("float64")


def two_modes(size=300):
    """Actions of unit-variance quantiles, 0.1 wide, around 0.5 and -0.5."""
    quantiles = torch.special.ndtri((torch.arange(size) + 0.5) / size)
    quantiles = 0.1 * quantiles / quantiles.std(correction=0)
    return dataset(torch.cat((quantiles + 0.5, quantiles - 0.5))[:, None])


def fit_two_modes(component_loss, num_components):
    config = lom.Config(
        num_components=num_components,
        component_loss=component_loss,
        squash_means=False,
        behavior_learning_rate=0.02,
    )
    starts = torch.linspace(-0.2, 0.3, num_components)[:, None].tolist()
    weights = torch.linspace(1, 2, num_components)
    weights = (weights / weights.sum()).tolist()
    mixture = behavior(weights, starts, [[0.4]] * num_components)
    state, data = state_of(config, behavior=mixture), two_modes()
    for update in range(500):
        if update == 400:
            config = replace(config, behavior_learning_rate=0.001)
        state, metrics = lom.update_behavior(state, data, config, rng(update))
    logits, means, stds = lom.mixture(
        state.behavior.params, torch.zeros(1, 1), state.components, config
    )
    return metrics["behavior/loss"].item(), logits.softmax(-1)[0], means[0, :, 0], stds[0, :, 0]


def test_the_mixture_loss_finds_both_modes():
    loss, weights, means, stds = fit_two_modes("mixture", num_components=2)
    assert loss == pytest.approx(-0.190499, abs=1e-4)
    assert_close(weights, torch.tensor([0.5, 0.5]), atol=1e-3, rtol=0)
    assert_close(means.sort().values, torch.tensor([-0.5, 0.5]), atol=1e-3, rtol=0)
    assert_close(stds, torch.tensor([0.1, 0.1]), atol=1e-3, rtol=0)


def test_one_component_is_the_unimodal_gaussian():
    loss, _, means, stds = fit_two_modes("mixture", num_components=1)
    assert loss == pytest.approx(0.745402, abs=1e-5)
    assert means.item() == pytest.approx(0.0, abs=1e-4)
    assert stds.item() == pytest.approx(0.509902, abs=1e-4)


def test_the_legacy_loss_makes_every_component_the_unimodal_gaussian():
    loss, weights, means, stds = fit_two_modes("legacy_component_mean", num_components=3)
    assert loss == pytest.approx(0.745402 + math.log(3), abs=1e-4)
    assert_close(weights, torch.full((3,), 1 / 3), atol=1e-3, rtol=0)
    assert_close(means, torch.zeros(3), atol=1e-3, rtol=0)
    assert_close(stds, torch.full((3,), 0.509902), atol=1e-3, rtol=0)


def quadratic_critic(goal, low=-4.0, high=5.0, knots=181):
    """-(a - goal)^2 as a ReLU network: straight between the knots, which lie 0.05 apart."""
    a = torch.linspace(low, high, knots)
    values = -((a - goal) ** 2)
    slopes = values.diff() / a.diff()
    bends = torch.cat((slopes[:1], slopes.diff()))
    hidden = torch.stack((torch.zeros(knots - 1), torch.ones(knots - 1)), -1)  # ignores the state
    params = [(hidden, -a[:-1]), (bends[None], values[:1])]
    return tree_map(lambda leaf: leaf[None], params)  # K = 1


@pytest.mark.parametrize("hyper_critic", ["heads", "one_hot"])
def test_the_hyper_critic_learns_a_components_expected_q_and_not_its_means(hyper_critic):
    config = lom.Config(
        num_components=2,
        squash_means=False,
        hyper_critic=hyper_critic,
        hyper_critic_samples=50,
        hyper_critic_learning_rate=0.02,
        hidden_sizes=(8,),
    )
    mixture = behavior([0.5, 0.5], [[0.5], [0.0]], [[0.6], [0.1]])
    state = with_critic(state_of(config, behavior=mixture), quadratic_critic(goal=0.5))
    data = dataset(torch.zeros(10, 1))
    values = []
    for update in range(350):
        if update == 200:
            config = replace(config, hyper_critic_learning_rate=0.002)
        state, metrics = lom.update_hyper_critic(state, data, config, rng(update))
        values.append(
            lom.hyper_q(state.hyper_critic.params, data.observations, state.components, config)[0]
        )
    # -||mean - goal||^2 - std^2: the wide component around the goal is worth less
    learned = torch.stack(values[-100:]).mean(0)
    assert_close(learned, torch.tensor([-0.36, -0.26]), atol=0.01, rtol=0)
    assert metrics["hyper_critic/spread"].item() == pytest.approx(0.10, abs=0.05)

    at_means = lom.q(lom.first_critic(state), torch.zeros(2, 1), torch.tensor([[0.5], [0.0]]))
    assert at_means.argmax() == 0
    _, metrics = lom.update_policy(state, data, config, rng())
    assert metrics["policy/chosen_std"].item() == pytest.approx(0.1)


def test_both_hyper_critics_learn_the_same_table():
    tables = []
    for hyper_critic in ("heads", "one_hot"):
        config = lom.Config(
            num_components=3,
            squash_means=False,
            hyper_critic=hyper_critic,
            hyper_critic_learning_rate=0.02,
            hidden_sizes=(16,),
        )
        mixture = behavior([0.2, 0.3, 0.5], [[0.5], [0.0], [-0.7]], [[1e-6]] * 3)
        state = state_of(config, behavior=mixture, critics=linear_critic(3.0))
        data = dataset(torch.zeros(4, 1))
        for update in range(400):
            if update == 300:
                config = replace(config, hyper_critic_learning_rate=0.001)
            state, _ = lom.update_hyper_critic(state, data, config, rng(update))
        tables.append(
            lom.hyper_q(state.hyper_critic.params, data.observations, state.components, config)[0]
        )
    assert_close(tables[0], torch.tensor([1.5, 0.0, -2.1]), atol=1e-3, rtol=0)
    assert_close(tables[1], tables[0], atol=1e-3, rtol=0)


def weighted_optimum(std, exponent, max_weight, baseline, policy_loss, log_std=0.0):
    """The policy's action at which the gradient of its loss vanishes, found by bisection.

    The component is N(0, std^2), Q(a) = a, and the exponent multiplies the advantage.
    """
    config = lom.Config(
        num_components=1,
        squash_means=False,
        inverse_temperature=exponent,
        max_weight=max_weight,
        baseline=baseline,
        policy_loss=policy_loss,
    )
    data = dataset(torch.zeros(30_000, 1))
    state = state_of(
        config,
        behavior=behavior([1.0], [[0.0]], [[std]]),
        critics=linear_critic(1.0),
        hyper_critic=network(constant([0.0])),  # E Q = 0
    )

    def gradient(action):
        policy = network((constant([math.atanh(action)]), torch.tensor([log_std])))
        after, _ = lom.update_policy(state._replace(policy=policy), data, config, Quadrature())
        [(_, first_moment)], _ = after.policy.first_moment
        return first_moment.item()

    low, high = -0.2, 0.2
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if gradient(middle) > 0 else (middle, high)
    return low


# A mode N(0, 0.5^2) under exp(2 a) has its weighted mean at 2 0.5^2 = 0.5, by a ceiling of 50 at
# 0.499306 and of 1.5 at 0.234862. All lengths are a tenth here, where no action leaves the box.
@pytest.mark.parametrize("policy_loss", ["squared_error", "log_likelihood"])
@pytest.mark.parametrize("baseline", ["component_mean", "hyper_critic"])
@pytest.mark.parametrize(("max_weight", "optimum"), [(1e9, 0.5), (50.0, 0.499306), (1.5, 0.234862)])
def test_the_policy_settles_at_the_weighted_mean(max_weight, optimum, baseline, policy_loss):
    found = weighted_optimum(0.05, 20.0, max_weight, baseline, policy_loss)
    assert found == pytest.approx(0.1 * optimum, abs=1.5e-5)


@pytest.mark.parametrize("log_std", [-1.0, 0.5])
def test_the_policys_optimum_does_not_depend_on_its_std(log_std):
    found = weighted_optimum(0.05, 20.0, 50.0, "component_mean", "log_likelihood", log_std)
    assert found == pytest.approx(0.0499306, abs=1.5e-5)


def test_without_a_ceiling_the_policys_optimum_does_not_depend_on_the_baseline():
    found = weighted_optimum(0.05, 20.0, 1e9, "policy", "squared_error")
    assert found == pytest.approx(0.05, abs=1.5e-5)


# Q is a table here: states are one-hot, and a critic without a hidden layer has an entry for each.

TWO_STATE_LOOP = {
    "observations": [[1.0, 0.0], [0.0, 1.0]],
    "next_observations": [[0.0, 1.0], [1.0, 0.0]],
    "rewards": [1.0, 0.0],
}
TABULAR = lom.Config(num_components=1, discount=0.9, smoothing_std=0.0, critic_learning_rate=0.05)


def table(*values):
    weight = torch.tensor([[[*values, 0.0]]])  # (K, out, in); the action counts for nothing
    return [(weight, torch.zeros(1, 1))]


@pytest.mark.parametrize(
    ("terminations", "values"),
    [([0.0, 0.0], [1 / (1 - 0.81), 0.9 / (1 - 0.81)]), ([1.0, 1.0], [1.0, 0.0])],
)
def test_the_critics_fixed_point_is_the_value_of_the_behavior(terminations, values):
    data = dataset([[0.0], [0.0]], **TWO_STATE_LOOP, terminations=terminations)
    state = with_critic(state_of(TABULAR, observation_dim=2), table(*values))
    after, metrics = lom.update_critics(state, data, TABULAR, rng())
    assert metrics["critics/loss"].item() == pytest.approx(0, abs=1e-28)
    assert_close(after.critics.params, state.critics.params, rtol=0, atol=1e-9)
    assert_close(after.target_critics, state.target_critics, rtol=0, atol=1e-9)


def test_the_critics_converge_to_the_fixed_point():
    config = replace(TABULAR, tau=0.5, target_update_period=1)
    data = dataset([[0.0], [0.0]], **TWO_STATE_LOOP)
    state = with_critic(state_of(config, observation_dim=2), table(0.0, 0.0))
    for update in range(900):
        if update == 700:
            config = replace(config, critic_learning_rate=0.005)
        state, _ = lom.update_critics(state, data, config, rng(update))
    q = lom.q(lom.first_critic(state), data.observations, data.actions)
    assert_close(q, torch.tensor([5.263158, 4.736842]), atol=1e-3, rtol=0)
