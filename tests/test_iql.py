"""IQL against an independent implementation, update by update, and against hand-worked numbers."""

import math

import oracle_iql
import pytest
import torch
from comparison import (
    ACTION_DIM,
    OBSERVATION_DIM,
    SIZE,
    assert_same,
    assert_same_metrics,
    linear_critics,
    members,
    rng,
    scaled,
    transitions,
    with_critics,
    with_mistake,
)
from lom_by_hand import constant, dataset
from oracle_lom import layers_of
from test_validation import INFINITY, NAN, assert_refused
from torch.testing import assert_close

from lom_exp.algorithms import iql
from lom_exp.networks import mlp, network

pytestmark = pytest.mark.usefixtures("float64")

UPDATES = 5


def configuration(**changes):
    """Log-stds whose bounds bind in one dimension each, and a ceiling that some rows reach."""
    settings = {
        "expectile": 0.7,
        "inverse_temperature": 0.9,
        "max_weight": 1.7,
        "discount": 0.9,
        "tau": 0.1,
        "min_log_std": -0.7,
        "max_log_std": 0.2,
        "value_learning_rate": 0.04,
        "critic_learning_rate": 0.03,
        "policy_learning_rate": 0.02,
        "policy_decay_updates": 40,
        "batch_size": 8,
        "hidden_sizes": (9, 10),
    }
    return iql.Config(**{**settings, **changes})


def initial_state(config):
    state = iql.init(OBSERVATION_DIM, ACTION_DIM, config, rng(phase="init"))
    critics = scaled(state.critics.params, 2.5)
    layers, _ = state.policy.params
    return state._replace(
        value=network(scaled(state.value.params, 1.5)),
        critics=network(critics),
        target_critics=scaled(critics, 1.2),
        policy=network((scaled(layers, 2.0), torch.tensor([-0.9, 0.1, 0.4]))),
    )


def assert_same_training(config, oracle_class=oracle_iql.Iql):
    """Train both; after every update compare metrics and parameters; returns the last metrics."""
    data, state = transitions(), initial_state(config)
    oracle = oracle_class(
        config,
        data._asdict(),
        value=state.value.params,
        critics=members(state.critics.params),
        target_critics=members(state.target_critics),
        policy=state.policy.params[0],
        log_std=state.policy.params[1],
    )
    measured = {}
    for update in range(UPDATES):
        random = rng(update)
        rows = random.integers("batch", SIZE, (config.batch_size,))
        for our_update, their_update in zip(
            iql.phases["policy"],
            (
                lambda rows, update: oracle.update_value(rows),
                lambda rows, update: oracle.update_policy(update, rows),
                lambda rows, update: oracle.update_critics(rows),
            ),
            strict=True,
        ):
            state, ours = our_update(state, data, config, random)
            theirs = their_update(rows, update)
            assert_same_metrics(ours, theirs)
            measured |= theirs
        assert_same("value", state.value.params, layers_of(oracle.value))
        for ensemble, other in (
            (state.critics.params, oracle.critics),
            (state.target_critics, oracle.target_critics),
        ):
            for k, critic in enumerate(members(ensemble)):
                assert_same(f"critic {k}", critic, layers_of(other[k]))
        layers, log_std = state.policy.params
        assert_same("policy", layers, layers_of(oracle.policy))
        assert_same("log_std", log_std, oracle.log_std.detach())
    return measured


SWITCHES = [
    {"policy_loss": policy_loss, "policy_decay_updates": decay}
    for policy_loss in ("log_likelihood", "squared_error")
    for decay in (0, 3, 40)  # never, over before the last update, not over by then
]
OTHERS = [{"expectile": 0.5}, {"expectile": 0.95}, {"max_weight": 1e9}]
WIDE = {"min_log_std": -20.0, "max_log_std": 2.0}


@pytest.mark.parametrize("changes", [*SWITCHES, *OTHERS, WIDE], ids=str)
def test_training_equals_the_oracles(changes):
    assert_same_training(configuration(**changes))


def test_some_rows_of_the_comparison_reach_the_ceiling_and_some_do_not():
    assert 0 < assert_same_training(configuration())["policy/saturated_share"] < 1


# (what is wrong, the oracle's line, the line with the mistake, settings under which it matters)
MISTAKES = [
    (
        "an expectile upside down",
        "if residual > 0 else",
        "if residual < 0 else",
        {},
    ),
    (
        "the absolute residual",
        "share * residual**2 / len(rows)",
        "share * abs(residual) / len(rows)",
        {},
    ),
    (
        "the summed residuals",
        "share * residual**2 / len(rows)",
        "share * residual**2",
        {},
    ),
    (
        "advantages of the critics instead of their targets",
        "target_q = min(self.q(target, observation, action) for target in self.target_critics)",
        "target_q = min(self.q(target, observation, action) for target in self.critics)",
        {},
    ),
    (
        "the maximum over critics",
        "target_q = min(",
        "target_q = max(",
        {},
    ),
    (
        "an advantage that is differentiated",
        "advantage = self.advantage(row).detach()",
        "advantage = self.advantage(row); advantage = advantage.detach() + self.policy("
        "observation).sum() - self.policy(observation).sum().detach()",
        {},
    ),
    (
        "an exponent that is divided",
        "settings.inverse_temperature * advantage",
        "advantage / settings.inverse_temperature",
        {},
    ),
    (
        "weights without a ceiling",
        "weight = min(weight, torch.tensor(settings.max_weight))",
        "pass",
        {},
    ),
    (
        "a mean that is not squashed",
        "mean = torch.tanh(self.policy(observation))",
        "mean = self.policy(observation)",
        {},
    ),
    (
        "log-stds without bounds",
        "log_std = clip(self.log_std, settings.min_log_std, settings.max_log_std)",
        "log_std = self.log_std",
        {},
    ),
    (
        "the policy's summed error",
        "loss = loss + weight * cost / len(rows)",
        "loss = loss + weight * cost",
        {},
    ),
    (
        "the squared error averaged over action dimensions",
        "cost = cost + error**2\n",
        "cost = cost + error**2 / len(action)\n",
        {"policy_loss": "squared_error"},
    ),
    (
        "a policy that keeps its rate",
        "return settings.policy_learning_rate * (1 + math.cos(math.pi * progress)) / 2",
        "return settings.policy_learning_rate",
        {},
    ),
    (
        "a rate that falls before the first step",
        "progress = min(update / settings",
        "progress = min((update + 1) / settings",
        {},
    ),
    (
        "a rate that rises again",
        "progress = min(update / settings.policy_decay_updates, 1.0)",
        "progress = update / settings.policy_decay_updates",
        {"policy_decay_updates": 3},
    ),
    (
        "a rate that falls in a straight line",
        "return settings.policy_learning_rate * (1 + math.cos(math.pi * progress)) / 2",
        "return settings.policy_learning_rate * (1 - progress)",
        {},
    ),
    (
        "no terminal mask",
        'if self.data["terminations"][row] == 0:',
        "if True:",
        {},
    ),
    (
        "the value of the observation itself",
        'next_value = self.value(self.data["next_observations"][row])[0]',
        'next_value = self.value(self.data["observations"][row])[0]',
        {},
    ),
    (
        "no discount",
        "target + settings.discount * next_value",
        "target + next_value",
        {},
    ),
    (
        "the critics' summed error",
        "(value - target) ** 2 / len(rows)",
        "(value - target) ** 2",
        {},
    ),
    (
        "the Polyak average upside down",
        "(1 - settings.tau) * slow + settings.tau * fast",
        "settings.tau * slow + (1 - settings.tau) * fast",
        {},
    ),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake[0])
def test_a_planted_mistake_is_noticed(mistake):
    _, line, mistaken_line, changes = mistake
    mistaken = with_mistake(oracle_iql, line, mistaken_line)
    with pytest.raises(AssertionError, match="not close"):
        assert_same_training(configuration(**changes), mistaken.Iql)


def test_another_order_of_the_updates_is_noticed():
    """The policy and the critics see V after its step, the policy the targets before theirs."""
    value, policy, critics = iql.phases["policy"]
    for order in ((policy, value, critics), (value, critics, policy), (critics, value, policy)):
        config, data = configuration(), transitions()
        ours, theirs = initial_state(config), initial_state(config)
        for update in iql.phases["policy"]:
            ours, _ = update(ours, data, config, rng())
        for update in order:
            theirs, _ = update(theirs, data, config, rng())
        with pytest.raises(AssertionError, match="not close"):
            assert_same("state", ours, theirs)


def by_hand(config, slope=1.0, value=0.0, mean=0.0):
    """One observation, one action dimension, critics that say slope a and a V that is constant."""
    state = with_critics(iql.init(1, 1, config, rng(phase="init")), linear_critics(slope))
    policy = network((constant([mean]), torch.zeros(1)))
    return state._replace(value=network(constant([value])), policy=policy)


def value_loss(expectile, qs):
    config = iql.Config(expectile=expectile, hidden_sizes=(4,))
    data = dataset(torch.tensor(qs)[:, None])
    return iql.update_value(by_hand(config), data, config, rng())[1]["value/loss"].item()


def test_the_expectile_loss_of_known_residuals():
    """Where V is too low by 2 and too high by 1: 0.9 * 4 = 3.6 and 0.1 * 1 = 0.1."""
    assert value_loss(0.9, [2.0]) == pytest.approx(3.6)
    assert value_loss(0.9, [-1.0]) == pytest.approx(0.1)
    assert value_loss(0.9, [2.0, -1.0]) == pytest.approx(3.7 / 2)
    assert value_loss(0.5, [2.0, -1.0]) == pytest.approx(5 / 4)


def learned_value(expectile, qs):
    data, state = dataset(torch.tensor(qs)[:, None]), by_hand(iql.Config(), value=0.4)
    for update in range(400):
        rate = 0.02 if update < 250 else 0.001
        config = iql.Config(expectile=expectile, value_learning_rate=rate)
        state, _ = iql.update_value(state, data, config, rng(update))
    [(_, bias)] = state.value.params
    return bias.item()


@pytest.mark.parametrize("expectile", [0.5, 0.7, 0.9])
def test_the_expectile_of_a_fair_coin_is_itself(expectile):
    assert learned_value(expectile, [0.0, 1.0]) == pytest.approx(expectile, abs=1e-3)


@pytest.mark.parametrize(("expectile", "value"), [(0.5, 0.25), (0.9, 0.75), (0.99, 0.970588)])
def test_from_the_mean_the_value_rises_towards_the_best_action_and_never_beyond(expectile, value):
    """One 1 among three 0: expectile (1 - v) = (1 - expectile) 3 v."""
    assert learned_value(expectile, [0.0, 0.0, 0.0, 1.0]) == pytest.approx(value, abs=1e-3)
    assert value < 1


def test_the_critics_learn_the_reward_and_the_discounted_next_value():
    """V is 4: 2 + 0.5 * 4, or at an end 2; the two critics' errors from Q = 0 add up."""
    config = iql.Config(discount=0.5, hidden_sizes=(4,))
    state, data = by_hand(config, slope=0.0, value=4.0), dataset([[0.3]], rewards=[2.0])
    _, metrics = iql.update_critics(state, data, config, rng())
    assert metrics["critics/loss"].item() == pytest.approx(2 * 4.0**2)
    ended = data._replace(terminations=torch.ones(1), next_observations=torch.tensor([[1e6]]))
    _, metrics = iql.update_critics(state, ended, config, rng())
    assert metrics["critics/loss"].item() == pytest.approx(2 * 2.0**2)


@pytest.mark.parametrize(
    ("policy_loss", "cost"),
    [("log_likelihood", 0.918939 + 0.5 * 0.36), ("squared_error", 0.36)],
)
def test_the_policys_loss_of_one_action(policy_loss, cost):
    """Q 0.6 and V 0.1: a weight of e^(2 * 0.5); the action is 0.6 from the mean."""
    config = iql.Config(inverse_temperature=2.0, policy_loss=policy_loss, hidden_sizes=(4,))
    state = by_hand(config, value=0.1)
    _, metrics = iql.update_policy(state, dataset([[0.6]]), config, rng())
    assert metrics["policy/loss"].item() == pytest.approx(math.e * cost, abs=1e-5)


def test_weights_beyond_the_range_of_floats_stop_at_the_ceiling():
    config = iql.Config(policy_loss="squared_error", hidden_sizes=(4,))
    state = by_hand(config, slope=1e6)
    after, metrics = iql.update_policy(state, dataset([[0.6]]), config, rng())
    assert metrics["policy/loss"].item() == pytest.approx(100 * 0.36)
    assert after.policy.params[0][0][1].isfinite().all()


@pytest.mark.parametrize(("update", "share"), [(0, 1.0), (25, 0.853553), (50, 0.5), (100, 0.0)])
def test_the_policys_first_step_is_its_rate_at_that_update(update, share):
    """(1 + cos(pi update / 100)) / 2; Adam's first step is the rate whatever the gradient."""
    config = iql.Config(policy_decay_updates=100, policy_learning_rate=0.01, hidden_sizes=(4,))
    state, data = by_hand(config), dataset([[0.6]])
    after, _ = iql.update_policy(state, data, config, rng(update))
    [(_, bias)] = after.policy.params[0]
    assert bias.item() == pytest.approx(0.01 * share, abs=1e-8)
    constant_rate = iql.Config(policy_decay_updates=0, policy_learning_rate=0.01, hidden_sizes=(4,))
    after, _ = iql.update_policy(state, data, constant_rate, rng(update))
    assert after.policy.params[0][0][1].item() == pytest.approx(0.01, abs=1e-8)


def test_after_the_decay_the_policy_stays():
    config = iql.Config(policy_decay_updates=100, hidden_sizes=(4,))
    state = by_hand(config)
    for update in (100, 101, 150, 200):
        after, _ = iql.update_policy(state, dataset([[0.6]]), config, rng(update))
        assert_close(after.policy.params, state.policy.params, rtol=0, atol=1e-12)


def test_the_policy_acts_within_the_box_and_without_noise():
    config = iql.Config(hidden_sizes=(6,))
    state = iql.init(3, 2, config, rng(phase="init"))
    observations = 1e3 * torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    actions = iql.act(state, observations, config, rng())
    assert actions.shape == (7, 2)
    assert_close(actions, torch.tanh(mlp(state.policy.params[0], observations)))
    assert (actions == iql.act(state, observations, config, rng(update=9))).all()


def test_networks_have_two_layers_of_256_and_the_policy_a_std_of_one():
    state = iql.init(11, 3, iql.Config(), rng(phase="init"))
    layers, log_std = state.policy.params
    assert [weight.shape for weight, _ in layers] == [(256, 11), (256, 256), (3, 256)]
    value_shapes = [weight.shape for weight, _ in state.value.params]
    assert value_shapes == [(256, 11), (256, 256), (1, 256)]
    assert state.critics.params[0][0].shape == (2, 256, 14)
    assert log_std.tolist() == [0.0, 0.0, 0.0]
    assert_close(state.target_critics, state.critics.params, rtol=0, atol=0)


@pytest.mark.parametrize(
    "setting",
    [
        {"expectile": 1.1},
        {"expectile": -0.1},
        {"inverse_temperature": -3.0},
        {"inverse_temperature": INFINITY},
        {"max_weight": 0.0},
        {"discount": 1.5},
        {"tau": 0},
        {"min_log_std": 2.0},
        {"max_log_std": NAN},
        {"policy_loss": "squared_errors"},
        {"value_learning_rate": 0.0},
        {"critic_learning_rate": -3e-4},
        {"policy_learning_rate": NAN},
        {"policy_decay_updates": -1},
        {"batch_size": 0},
        {"hidden_sizes": ()},
    ],
    ids=str,
)
def test_what_cannot_be_run_is_refused(setting):
    assert_refused(iql.Config, **setting)


def test_the_defaults_are_the_published_settings():
    assert iql.Config() == iql.Config(
        expectile=0.7,
        inverse_temperature=3.0,
        max_weight=100.0,
        discount=0.99,
        tau=0.005,
        min_log_std=-20.0,
        max_log_std=2.0,
        policy_loss="log_likelihood",
        value_learning_rate=3e-4,
        critic_learning_rate=3e-4,
        policy_learning_rate=3e-4,
        policy_decay_updates=1_000_000,
        batch_size=256,
        hidden_sizes=(256, 256),
    )
