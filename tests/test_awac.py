"""AWAC against an independent implementation, update by update, and against hand-worked numbers."""

import math

import oracle_awac
import pytest
import torch
from comparison import (
    ACTION_DIM,
    OBSERVATION_DIM,
    SIZE,
    Silent,
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

from lom_exp.algorithms import awac
from lom_exp.networks import mlp, network

pytestmark = pytest.mark.usefixtures("float64")

UPDATES = 5


def configuration(**changes):
    """Log-stds whose bounds bind in one dimension each, and a ceiling that some rows reach."""
    settings = {
        "temperature": 0.8,
        "max_weight": 1.3,
        "discount": 0.9,
        "tau": 0.1,
        "min_log_std": -0.7,
        "max_log_std": 0.2,
        "critic_learning_rate": 0.03,
        "policy_learning_rate": 0.02,
        "batch_size": 8,
        "hidden_sizes": (9, 10),
    }
    return awac.Config(**{**settings, **changes})


def initial_state(config):
    state = awac.init(OBSERVATION_DIM, ACTION_DIM, config, rng(phase="init"))
    critics = scaled(state.critics.params, 2.5)
    layers, _ = state.policy.params
    return state._replace(
        critics=network(critics),
        target_critics=scaled(critics, 1.2),
        policy=network((scaled(layers, 2.0), torch.tensor([-0.9, 0.1, 0.4]))),
    )


def assert_same_training(config, oracle_class=oracle_awac.Awac):
    """Train both; after every update compare metrics and parameters; returns the last metrics."""
    data, state = transitions(), initial_state(config)
    oracle = oracle_class(
        config,
        data._asdict(),
        critics=members(state.critics.params),
        target_critics=members(state.target_critics),
        policy=state.policy.params[0],
        log_std=state.policy.params[1],
    )
    for update in range(UPDATES):
        random, size = rng(update), config.batch_size
        rows = random.integers("batch", SIZE, (size,))
        state, ours = awac.update_critics(state, data, config, random)
        theirs = oracle.update_critics(rows, random.normal("next_action", (size, ACTION_DIM)))
        assert_same_metrics(ours, theirs)
        state, ours = awac.update_policy(state, data, config, random)
        theirs = oracle.update_policy(rows, random.normal("action", (size, ACTION_DIM)))
        assert_same_metrics(ours, theirs)
        for ensemble, other in (
            (state.critics.params, oracle.critics),
            (state.target_critics, oracle.target_critics),
        ):
            for k, critic in enumerate(members(ensemble)):
                assert_same(f"critic {k}", critic, layers_of(other[k]))
        layers, log_std = state.policy.params
        assert_same("policy", layers, layers_of(oracle.policy))
        assert_same("log_std", log_std, oracle.log_std.detach())
    return theirs


@pytest.mark.parametrize(
    "changes",
    [{}, {"temperature": 3.0}, {"max_weight": 1e9}, {"min_log_std": -20.0, "max_log_std": 2.0}],
    ids=str,
)
def test_training_equals_the_oracles(changes):
    assert_same_training(configuration(**changes))


def test_some_rows_of_the_comparison_reach_the_ceiling_and_some_do_not():
    assert 0 < assert_same_training(configuration())["policy/saturated_share"] < 1


# (what is wrong, the oracle's line, the line with the mistake)
MISTAKES = [
    (
        "no terminal mask",
        'if self.data["terminations"][row] == 0:',
        "if True:",
    ),
    (
        "the maximum over critics",
        "next_q = min(",
        "next_q = max(",
    ),
    (
        "targets of the critics themselves",
        "for target in self.target_critics\n",
        "for target in self.critics\n",
    ),
    (
        "the dataset's next action",
        "next_action = self.draw(next_observation, next_noises[b])",
        'next_action = self.data["next_actions"][row]',
    ),
    (
        "a next action without noise",
        "next_action = self.draw(next_observation, next_noises[b])",
        "next_action = self.draw(next_observation, 0)",
    ),
    (
        "actions that leave the box",
        "return clip(self.policy(observation) + self.std() * noise, -1.0, 1.0)",
        "return self.policy(observation) + self.std() * noise",
    ),
    (
        "a squashed mean",
        "return clip(self.policy(observation) + self.std() * noise, -1.0, 1.0)",
        "return clip(torch.tanh(self.policy(observation)) + self.std() * noise, -1.0, 1.0)",
    ),
    (
        "a squashed mean in the likelihood",
        "mean, std = self.policy(observation), self.std()",
        "mean, std = torch.tanh(self.policy(observation)), self.std()",
    ),
    (
        "the critics' summed error",
        "(value - targets[b]) ** 2 / len(rows)",
        "(value - targets[b]) ** 2",
    ),
    (
        "the Polyak average upside down",
        "(1 - settings.tau) * slow + settings.tau * fast",
        "settings.tau * slow + (1 - settings.tau) * fast",
    ),
    (
        "an advantage of the target critics",
        "value = min(self.q(critic, observation, action) for critic in self.critics)",
        "value = min(self.q(critic, observation, action) for critic in self.target_critics)",
    ),
    (
        "a baseline of the first critic alone",
        "baseline = min(self.q(critic, observation, own_action) for critic in self.critics)",
        "baseline = self.q(self.critics[0], observation, own_action)",
    ),
    (
        "a baseline of the mean action",
        "own_action = self.draw(observation, noises[b])",
        "own_action = self.draw(observation, 0)",
    ),
    (
        "a temperature that multiplies",
        "torch.exp(advantage / settings.temperature)",
        "torch.exp(advantage * settings.temperature)",
    ),
    (
        "weights without a ceiling",
        "weight = min(weight, torch.tensor(settings.max_weight))",
        "pass",
    ),
    (
        "log-stds without bounds",
        "log_std = clip(self.log_std, self.settings.min_log_std, self.settings.max_log_std)",
        "log_std = self.log_std",
    ),
    (
        "the policy's summed error",
        "loss = loss - weight * log_likelihood / len(rows)",
        "loss = loss - weight * log_likelihood",
    ),
    (
        "the likelihood averaged over action dimensions",
        "loss = loss - weight * log_likelihood / len(rows)",
        "loss = loss - weight * log_likelihood / len(rows) / len(action)",
    ),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake[0])
def test_a_planted_mistake_is_noticed(mistake):
    _, line, mistaken_line = mistake
    mistaken = with_mistake(oracle_awac, line, mistaken_line)
    with pytest.raises(AssertionError, match="not close"):
        assert_same_training(configuration(), mistaken.Awac)


def test_the_order_of_the_updates_is_critics_then_policy():
    assert awac.phases == {"policy": (awac.update_critics, awac.update_policy)}


def by_hand(config, slope=1.0, mean=0.0, log_std=0.0):
    """One observation, one action dimension, critics that say slope a."""
    state = with_critics(awac.init(1, 1, config, rng(phase="init")), linear_critics(slope))
    return state._replace(policy=network((constant([mean]), torch.tensor([log_std]))))


def test_an_infinite_temperature_leaves_the_likelihood():
    """Mean 0, std 1, actions 0.6 and -0.8: log(2 pi) / 2 + (0.36 + 0.64) / 4 = 1.168939."""
    config = awac.Config(temperature=1e12, hidden_sizes=(4,))
    state, data = by_hand(config, slope=100.0), dataset([[0.6], [-0.8]])
    _, metrics = awac.update_policy(state, data, config, rng())
    assert metrics["policy/loss"].item() == pytest.approx(1.168939, abs=1e-6)


def test_at_a_temperature_of_one_the_weights_of_two_actions_have_the_ratio_e():
    """Q is 1 and 0, the own action 0.5 in both rows: e^0.5 and e^-0.5."""
    config = awac.Config(temperature=1.0, hidden_sizes=(4,))
    state = by_hand(config, mean=0.5)
    losses = []
    for action in (1.0, 0.0):  # as far from the mean, so that the losses are as the weights
        _, metrics = awac.update_policy(state, dataset([[action]]), config, Silent())
        losses.append(metrics["policy/loss"].item())
    assert losses[0] / losses[1] == pytest.approx(math.e)
    assert losses[0] == pytest.approx(math.exp(0.5) * (0.918939 + 0.125), abs=1e-5)


def test_the_mean_of_two_actions_is_drawn_towards_the_better_by_e_to_1():
    """Weights in the ratio e : 1, so e / (e + 1) = 0.731059, whatever the std became."""
    data = dataset([[1.0], [0.0]])
    state = by_hand(awac.Config(), mean=0.3)
    for update in range(500):
        rate = 0.02 if update < 350 else 0.001
        config = awac.Config(temperature=1.0, policy_learning_rate=rate)
        state, _ = awac.update_policy(state, data, config, Silent())
    layers, log_std = state.policy.params
    mean = mlp(layers, torch.zeros(1)).item()
    assert mean == pytest.approx(0.731059, abs=1e-3)
    variance = mean * (1 - mean)  # of the weighted actions
    assert log_std.exp().item() == pytest.approx(variance**0.5, abs=1e-3)


def test_next_actions_stay_in_the_box_and_the_target_ignores_what_follows_an_end():
    """The mean is 5, its nearest action 1, Q there 4: 2 + 0.5 * 4."""
    config = awac.Config(discount=0.5, hidden_sizes=(4,))
    state = by_hand(config, slope=4.0, mean=5.0, log_std=-9.0)
    data = dataset([[0.0]], rewards=[2.0])
    _, metrics = awac.update_critics(state, data, config, rng())
    assert metrics["critics/target_q"].item() == pytest.approx(4.0)
    ended = data._replace(terminations=torch.ones(1))
    _, metrics = awac.update_critics(state, ended, config, rng())
    assert metrics["critics/target_q"].item() == 2.0


def test_the_policy_acts_with_its_mean_clipped_to_the_box():
    config = awac.Config(hidden_sizes=(6,))
    state = awac.init(3, 2, config, rng(phase="init"))
    observations = 10 * torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    actions = awac.act(state, observations, config, rng())
    means = mlp(state.policy.params[0], observations)
    assert_close(actions, means.clamp(-1, 1))
    assert means.abs().amax() > 1 > means.abs().amin()
    assert (actions == awac.act(state, observations, config, rng(update=9))).all()


def test_networks_have_three_layers_of_256_and_the_policy_a_std_of_one():
    state = awac.init(11, 3, awac.Config(), rng(phase="init"))
    layers, log_std = state.policy.params
    assert [weight.shape for weight, _ in layers] == [(256, 11), (256, 256), (256, 256), (3, 256)]
    assert state.critics.params[-1][0].shape == (2, 1, 256)
    assert len(state.critics.params) == 4
    assert log_std.tolist() == [0.0, 0.0, 0.0]
    assert_close(state.target_critics, state.critics.params, rtol=0, atol=0)


@pytest.mark.parametrize(
    "setting",
    [
        {"temperature": 0.0},
        {"temperature": -1.0},
        {"temperature": INFINITY},
        {"max_weight": 0.0},
        {"discount": 1.5},
        {"tau": 0},
        {"min_log_std": 2.0},
        {"max_log_std": NAN},
        {"critic_learning_rate": 0.0},
        {"policy_learning_rate": -3e-4},
        {"batch_size": 0},
        {"hidden_sizes": ()},
    ],
    ids=str,
)
def test_what_cannot_be_run_is_refused(setting):
    assert_refused(awac.Config, **setting)


def test_the_defaults_are_the_published_settings():
    assert awac.Config() == awac.Config(
        temperature=1 / 3,
        max_weight=100.0,
        discount=0.99,
        tau=0.005,
        min_log_std=-20.0,
        max_log_std=2.0,
        critic_learning_rate=3e-4,
        policy_learning_rate=3e-4,
        batch_size=256,
        hidden_sizes=(256, 256, 256),
    )
