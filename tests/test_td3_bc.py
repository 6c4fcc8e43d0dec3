"""TD3+BC against an independent implementation, update by update, and hand-worked numbers."""

import math

import oracle_td3
import pytest
import torch
from comparison import ACTION_DIM, linear_critics, rng, scaled, with_critics, with_mistake
from lom_by_hand import constant, dataset
from test_td3 import SETTINGS, SWITCHES, assert_same_training, initial_state
from test_validation import NAN, assert_refused
from torch.testing import assert_close

from lom_exp.algorithms import bc, td3, td3_bc
from lom_exp.networks import network

pytestmark = pytest.mark.usefixtures("float64")


def configuration(**changes):
    return td3_bc.Config(**{**SETTINGS, **changes})


@pytest.mark.parametrize("changes", [*SWITCHES, {"q_weight": 0.0}, {"q_weight": 9.0}], ids=str)
def test_training_equals_the_oracles(changes):
    assert_same_training(td3_bc, configuration(**changes), oracle_td3.Td3Bc)


# (what is wrong, the oracle's line, the line with the mistake)
MISTAKES = [
    (
        "a scale of Q that is differentiated",
        "self.settings.q_weight / magnitude.detach()",
        "self.settings.q_weight / magnitude",
    ),
    (
        "the magnitude of the mean instead of the mean magnitude",
        "magnitude = sum(abs(value) for value in values) / len(values)",
        "magnitude = abs(sum(values)) / len(values)",
    ),
    (
        "the summed magnitude",
        "magnitude = sum(abs(value) for value in values) / len(values)",
        "magnitude = sum(abs(value) for value in values)",
    ),
    (
        "a weight on the imitation",
        "loss = imitation - scale * mean_q",
        "loss = scale * imitation - mean_q",
    ),
    (
        "imitation summed over action dimensions",
        "errors.append(sum(error) / len(error))",
        "errors.append(sum(error))",
    ),
    (
        "the values of the second critic",
        "values.append(self.q(self.critics[0], observation, action))",
        "values.append(self.q(self.critics[1], observation, action))",
    ),
    (
        "values of the dataset's actions in the scale",
        "magnitude = sum(abs(value) for value in values) / len(values)",
        'magnitude = sum(abs(self.q(self.critics[0], self.data["observations"][row], '
        'self.data["actions"][row])) for row in rows) / len(rows)',
    ),
    (
        "no terminal mask",
        'if self.data["terminations"][row] == 0:',
        "if True:",
    ),
    (
        "the Polyak average upside down",
        "(1 - tau) * slow + tau * fast",
        "tau * slow + (1 - tau) * fast",
    ),
    (
        "a delay that is off by one",
        "update % self.settings.policy_period == self.settings.policy_period - 1",
        "update % self.settings.policy_period == 0",
    ),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake[0])
def test_a_planted_mistake_is_noticed(mistake):
    _, line, mistaken_line = mistake
    mistaken = with_mistake(oracle_td3, line, mistaken_line)
    with pytest.raises(AssertionError, match="not close"):
        assert_same_training(td3_bc, configuration(), mistaken.Td3Bc)


def policy_gradient(config, critics_factor):
    """The policy's first moment, a tenth of its first gradient."""
    state = initial_state(td3_bc, config)
    critics = state.critics.params
    *hidden, (weight, bias) = critics
    critics = [*hidden, (critics_factor * weight, critics_factor * bias)]
    state = state._replace(critics=network(critics))
    data = dataset(torch.linspace(-1, 1, 4 * ACTION_DIM).view(4, ACTION_DIM))
    data = data._replace(observations=torch.linspace(-2, 3, 20).view(4, 5).sin())
    _, update_policy = td3_bc.phases["policy"]
    state, _ = update_policy(state, data, config, rng(update=1))
    return state.policy.first_moment


@pytest.mark.parametrize("factor", [1e-3, 7.0, 1e4])
def test_the_policys_gradient_does_not_know_the_scale_of_q(factor):
    config = configuration()
    one, scaled_up = policy_gradient(config, 1.0), policy_gradient(config, factor)
    assert_close(one, scaled_up, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(one[0][0], policy_gradient(configuration(q_weight=0.5), 1.0)[0][0])


def test_the_gradient_of_a_hand_made_batch():
    """Q = 3 a, policy tanh(0.5) = 0.462117, actions 0.2 and 0.6, so the errors' mean is 0.062117.

    lambda = 2.5 / (3 * 0.462117) = 1.803295, and d tanh = 0.786448:
    (-3 * 1.803295 + 2 * 0.062117) 0.786448 = -4.156887.
    """
    config = td3_bc.Config(hidden_sizes=(4,))
    state = with_critics(td3_bc.init(1, 1, config, rng(phase="init")), linear_critics(3.0))
    state = state._replace(policy=network(constant([0.5])), target_policy=constant([0.5]))
    _, update_policy = td3_bc.phases["policy"]
    after, metrics = update_policy(state, dataset([[0.2], [0.6]]), config, rng(update=1))
    [(_, bias)] = after.policy.first_moment
    assert 10 * bias.item() == pytest.approx(-4.156887, abs=1e-6)
    a = math.tanh(0.5)
    expected = -2.5 + ((a - 0.2) ** 2 + (a - 0.6) ** 2) / 2  # lambda Q is q_weight where Q > 0
    assert metrics["policy/loss"].item() == pytest.approx(expected)


def test_without_a_weight_on_q_it_is_behavior_cloning():
    config = configuration(q_weight=0.0, policy_period=1)
    state = initial_state(td3_bc, config)
    data = dataset(torch.linspace(-1, 1, 4 * ACTION_DIM).view(4, ACTION_DIM))
    data = data._replace(observations=torch.linspace(-2, 3, 20).view(4, 5).sin())
    imitation = bc.Config("squared_error", learning_rate=config.policy_learning_rate)
    clone = bc.State(network((state.policy.params, torch.zeros(ACTION_DIM))))
    _, update_policy = td3_bc.phases["policy"]
    for update in range(4):
        state, ours = update_policy(state, data, config, rng(update))
        clone, theirs = bc.update_policy(clone, data, imitation, rng(update))
        assert_close(ours["policy/loss"], theirs["policy/loss"], rtol=1e-9, atol=0)
        assert_close(state.policy.params, clone.policy.params[0], rtol=1e-9, atol=1e-12)


def test_the_critics_are_td3s():
    config = configuration()
    state, data = initial_state(td3_bc, config), dataset([[0.5] * ACTION_DIM])
    data = data._replace(observations=torch.ones(1, 5), next_observations=torch.ones(1, 5))
    ours, _ = td3_bc.phases["policy"][0](state, data, config, rng())
    theirs, _ = td3.update_critics(state, data, config, rng())
    assert_close(ours.critics, theirs.critics, rtol=0, atol=0)


def test_the_scale_of_q_is_taken_from_each_batch():
    """Half the Q, twice the lambda: the loss of a positive Q is -q_weight plus the imitation's."""
    config = td3_bc.Config(hidden_sizes=(4,))
    state = td3_bc.init(1, 1, config, rng(phase="init"))
    state = state._replace(policy=network(constant([0.5])), target_policy=constant([0.5]))
    _, update_policy = td3_bc.phases["policy"]
    imitation = (math.tanh(0.5) - 0.1) ** 2
    for slope in (0.01, 3.0):
        state = with_critics(state, network(scaled(linear_critics(1.0).params, slope)))
        _, metrics = update_policy(state, dataset([[0.1]]), config, rng(update=1))
        assert metrics["policy/loss"].item() == pytest.approx(-2.5 + imitation)


@pytest.mark.parametrize(
    "setting",
    [
        {"q_weight": -0.1},
        {"q_weight": NAN},
        {"discount": 1.5},
        {"tau": 0},
        {"policy_period": 0},
        {"policy_learning_rate": -1.0},
        {"batch_size": 0},
    ],
    ids=str,
)
def test_what_cannot_be_run_is_refused(setting):
    assert_refused(td3_bc.Config, **setting)


def test_no_weight_on_q_is_accepted():
    assert td3_bc.Config(q_weight=0.0).q_weight == 0


def test_the_defaults_are_the_published_settings():
    assert td3_bc.Config() == td3_bc.Config(
        discount=0.99,
        tau=0.005,
        smoothing_std=0.2,
        smoothing_clip=0.5,
        policy_period=2,
        critic_learning_rate=3e-4,
        policy_learning_rate=3e-4,
        batch_size=256,
        hidden_sizes=(256, 256),
        q_weight=2.5,
    )
