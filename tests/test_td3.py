"""TD3 against an independent implementation, update by update, and against hand-worked numbers."""

import math

import oracle_td3
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
from torch.utils._pytree import tree_leaves

from lom_exp.algorithms import td3
from lom_exp.networks import mlp, network

pytestmark = pytest.mark.usefixtures("float64")

UPDATES = 6  # three policy steps at the default period

SETTINGS = {
    "discount": 0.9,
    "tau": 0.1,
    "smoothing_clip": 0.15,
    "critic_learning_rate": 0.03,
    "policy_learning_rate": 0.02,
    "batch_size": 8,
    "hidden_sizes": (9, 10),
}


def initial_state(algorithm, config):
    """Targets that differ from what they follow, so that a stale one shows at once."""
    state = algorithm.init(OBSERVATION_DIM, ACTION_DIM, config, rng(phase="init"))
    critics, policy = scaled(state.critics.params, 2.5), scaled(state.policy.params, 2.0)
    return state._replace(
        critics=network(critics),
        target_critics=scaled(critics, 1.2),
        policy=network(policy),
        target_policy=scaled(policy, 1.3),
    )


def assert_same_training(algorithm, config, oracle_class):
    """Train both; after every update compare metrics and parameters. Used for TD3+BC, too."""
    data, state = transitions(), initial_state(algorithm, config)
    oracle = oracle_class(
        config,
        data._asdict(),
        critics=members(state.critics.params),
        target_critics=members(state.target_critics),
        policy=state.policy.params,
        target_policy=state.target_policy,
    )
    update_critics, update_policy = algorithm.phases["policy"]
    for update in range(UPDATES):
        random = rng(update)
        rows = random.integers("batch", SIZE, (config.batch_size,))
        smoothing = random.normal("smoothing", (config.batch_size, ACTION_DIM))
        state, ours = update_critics(state, data, config, random)
        assert_same_metrics(ours, oracle.update_critics(rows, smoothing))
        state, ours = update_policy(state, data, config, random)
        assert_same_metrics(ours, oracle.update_policy(update, rows))
        for ensemble, theirs in (
            (state.critics.params, oracle.critics),
            (state.target_critics, oracle.target_critics),
        ):
            for k, critic in enumerate(members(ensemble)):
                assert_same(f"critic {k}", critic, layers_of(theirs[k]))
        assert_same("policy", state.policy.params, layers_of(oracle.policy))
        assert_same("target policy", state.target_policy, layers_of(oracle.target_policy))


SWITCHES = [{}, {"policy_period": 1}, {"policy_period": 3}, {"smoothing_std": 0.0}, {"tau": 1.0}]


@pytest.mark.parametrize("changes", SWITCHES, ids=str)
def test_training_equals_the_oracles(changes):
    config = td3.Config(**{**SETTINGS, **changes})
    assert_same_training(td3, config, oracle_td3.Td3)


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
        "the minimum over the critics instead of over their targets",
        "for target in self.target_critics\n",
        "for target in self.critics\n",
    ),
    (
        "next actions of the policy instead of its target",
        "torch.tanh(self.target_policy(next_observation))",
        "torch.tanh(self.policy(next_observation))",
    ),
    (
        "next actions of the dataset",
        "torch.tanh(self.target_policy(next_observation))",
        'self.data["next_actions"][row]',
    ),
    (
        "smoothing noise without a bound",
        "noise = clip(noise, -settings.smoothing_clip, settings.smoothing_clip)",
        "pass",
    ),
    (
        "next actions that leave the box",
        "clip(next_action + noise, -1.0, 1.0)",
        "next_action + noise",
    ),
    (
        "the critics' summed error",
        "(value - targets[b]) ** 2 / len(rows)",
        "(value - targets[b]) ** 2",
    ),
    (
        "the policy's error by the second critic",
        "loss = loss - self.q(self.critics[0], observation, action) / len(rows)",
        "loss = loss - self.q(self.critics[1], observation, action) / len(rows)",
    ),
    (
        "the policy's error by a target critic",
        "loss = loss - self.q(self.critics[0], observation, action) / len(rows)",
        "loss = loss - self.q(self.target_critics[0], observation, action) / len(rows)",
    ),
    (
        "a policy that descends Q",
        "loss = loss - self.q(self.critics[0], observation, action) / len(rows)",
        "loss = loss + self.q(self.critics[0], observation, action) / len(rows)",
    ),
    (
        "a delay that is off by one",
        "update % self.settings.policy_period == self.settings.policy_period - 1",
        "update % self.settings.policy_period == 0",
    ),
    (
        "no delay",
        "if update % self.settings.policy_period == self.settings.policy_period - 1:",
        "if True:",
    ),
    (
        "a target policy that stays",
        "self.follow(self.target_policy, self.policy)",
        "pass",
    ),
    (
        "the Polyak average upside down",
        "(1 - tau) * slow + tau * fast",
        "tau * slow + (1 - tau) * fast",
    ),
    (
        "moments that last one step",
        "step(self.policy_optimizer, loss)",
        "step(torch.optim.Adam(self.policy.parameters(), lr=0.02), loss)",
    ),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake[0])
def test_a_planted_mistake_is_noticed(mistake):
    _, line, mistaken_line = mistake
    mistaken = with_mistake(oracle_td3, line, mistaken_line)
    with pytest.raises(AssertionError, match="not close"):
        assert_same_training(td3, td3.Config(**SETTINGS), mistaken.Td3)


@pytest.mark.parametrize(("period", "moved"), [(1, [0, 1, 2, 3]), (2, [1, 3]), (3, [2])])
def test_policy_and_targets_move_together_at_every_so_manieth_update(period, moved):
    config = td3.Config(**SETTINGS, policy_period=period)
    state, data = initial_state(td3, config), transitions()
    for update in range(4):
        before = state
        for step in td3.phases["policy"]:
            state, _ = step(state, data, config, rng(update))
        assert not same(state.critics, before.critics)
        for field in ("policy", "target_policy", "target_critics"):
            assert same(getattr(state, field), getattr(before, field)) == (update not in moved)
    assert state.policy.updates.item() == len(moved)
    assert state.critics.updates.item() == 4


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(tree_leaves(one), tree_leaves(other), strict=True))


def test_the_target_ignores_what_follows_a_termination():
    config = td3.Config(**SETTINGS)
    state = td3.init(1, 1, config, rng(phase="init"))
    data = dataset([[0.3]], rewards=[1.5], next_observations=[[1e6]], terminations=[1.0])
    _, metrics = td3.update_critics(state, data, config, rng())
    assert metrics["critics/target_q"].item() == 1.5


def test_the_target_is_the_smaller_q_at_the_clipped_action_of_the_target_policy():
    """tanh(0.5) = 0.462117; the critics say a and 3 a, so 2 + 0.9 * 0.462117 = 2.415905."""
    config = td3.Config(discount=0.9, smoothing_std=0.0, hidden_sizes=(4,))
    state = td3.init(1, 1, config, rng(phase="init"))
    weight = torch.tensor([[[0.0, 1.0]], [[0.0, 3.0]]])
    state = with_critics(state, network([(weight, torch.zeros(2, 1))]))
    state = state._replace(target_policy=constant([0.5]))
    _, metrics = td3.update_critics(state, dataset([[0.0]], rewards=[2.0]), config, rng())
    assert metrics["critics/target_q"].item() == pytest.approx(2.415905, abs=1e-6)


def test_the_policys_first_step_climbs_the_first_critic():
    """d/dz of -c tanh(z) at z = 0.5 is -0.786448 c; a first moment is a tenth of the gradient."""
    config = td3.Config(hidden_sizes=(4,))
    state = with_critics(td3.init(1, 1, config, rng(phase="init")), linear_critics(3.0))
    state = state._replace(policy=network(constant([0.5])), target_policy=constant([0.5]))
    after, metrics = td3.update_policy(state, dataset([[0.0]]), config, rng(update=1))
    [(_, bias)] = after.policy.first_moment
    assert bias.item() == pytest.approx(-0.3 * 0.786448, abs=1e-6)
    assert metrics["policy/loss"].item() == pytest.approx(-3 * math.tanh(0.5))
    [(_, bias)] = after.policy.params
    assert bias.item() == pytest.approx(0.5 + config.policy_learning_rate, abs=1e-9)


def test_networks_have_the_sizes_and_targets_start_as_what_they_follow():
    state = td3.init(11, 3, td3.Config(), rng(phase="init"))
    assert [weight.shape for weight, _ in state.policy.params] == [(256, 11), (256, 256), (3, 256)]
    critic_shapes = [weight.shape for weight, _ in state.critics.params]
    assert critic_shapes == [(2, 256, 14), (2, 256, 256), (2, 1, 256)]
    assert same(state.target_critics, state.critics.params)
    assert same(state.target_policy, state.policy.params)
    first, second = members(state.critics.params)
    assert not same(first, second)


def test_the_policy_acts_within_the_box_and_without_noise():
    config = td3.Config(hidden_sizes=(6,))
    state = td3.init(3, 2, config, rng(phase="init"))
    observations = 1e3 * torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    actions = td3.act(state, observations, config, rng())
    assert actions.shape == (7, 2)
    assert_close(actions, torch.tanh(mlp(state.policy.params, observations)))
    assert (actions == td3.act(state, observations, config, rng(update=9))).all()


@pytest.mark.parametrize(
    "setting",
    [
        {"discount": 1.5},
        {"discount": -0.1},
        {"tau": 0},
        {"tau": 1.01},
        {"smoothing_std": -0.1},
        {"smoothing_clip": -0.1},
        {"policy_period": 0},
        {"critic_learning_rate": -3e-4},
        {"critic_learning_rate": INFINITY},
        {"policy_learning_rate": 0.0},
        {"policy_learning_rate": NAN},
        {"batch_size": 0},
        {"hidden_sizes": ()},
        {"hidden_sizes": (256, 0)},
    ],
    ids=str,
)
def test_what_cannot_be_run_is_refused(setting):
    assert_refused(td3.Config, **setting)


def test_the_edges_of_the_ranges_are_accepted():
    td3.Config(discount=1.0, tau=1.0, smoothing_std=0.0, smoothing_clip=0.0, policy_period=1)
    td3.Config(discount=0.0)


def test_the_defaults_are_the_published_settings():
    assert td3.Config() == td3.Config(
        discount=0.99,
        tau=0.005,
        smoothing_std=0.2,
        smoothing_clip=0.5,
        policy_period=2,
        critic_learning_rate=3e-4,
        policy_learning_rate=3e-4,
        batch_size=256,
        hidden_sizes=(256, 256),
    )
