"""OneStep RL against an independent implementation, and against hand-worked numbers."""

import oracle_onestep
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
    member,
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

from lom_exp.algorithms import onestep
from lom_exp.networks import mlp, network

pytestmark = pytest.mark.usefixtures("float64")

UPDATES = 5  # of each phase; three of them move the target


def configuration(**changes):
    """Bounds of the log-stds near enough to bend them, and a ceiling that some rows reach."""
    settings = {
        "discount": 0.9,
        "tau": 0.1,
        "inverse_temperature": 0.9,
        "max_weight": 1.7,
        "num_value_samples": 4,
        "min_log_std": -1.5,
        "max_log_std": 0.1,
        "behavior_learning_rate": 0.02,
        "critic_learning_rate": 0.03,
        "policy_learning_rate": 0.04,
        "batch_size": 8,
        "hidden_sizes": (9, 10),
    }
    return onestep.Config(**{**settings, **changes})


def initial_state(config):
    state = onestep.init(OBSERVATION_DIM, ACTION_DIM, config, rng(phase="init"))
    behavior, critics = scaled(state.behavior.params, 2.0), scaled(state.critics.params, 2.5)
    return state._replace(
        behavior=network(behavior),
        critics=network(critics),
        target_critics=scaled(critics, 1.2),
        policy=network(behavior),
    )


def assert_same_training(config, module=oracle_onestep):
    """Train both through the three phases; after every update compare metrics and parameters."""
    data, state = transitions(), initial_state(config)
    oracle = module.OneStep(
        config,
        data._asdict(),
        behavior=state.behavior.params,
        critic=member(state.critics.params, 0),
        target_critic=member(state.target_critics, 0),
        policy=state.policy.params,
    )
    assert list(onestep.phases) == ["behavior", "critics", "policy"]
    for phase, (our_update,) in onestep.phases.items():
        for update in range(UPDATES):
            random = rng(update, phase)
            rows = random.integers("batch", SIZE, (config.batch_size,))
            state, ours = our_update(state, data, config, random)
            if phase == "behavior":
                theirs = oracle.update_behavior(rows)
            elif phase == "critics":
                theirs = oracle.update_critics(update, rows)
            else:
                shape = (config.num_value_samples, config.batch_size, ACTION_DIM)
                theirs = oracle.update_policy(rows, random.normal("value_actions", shape))
            assert_same_metrics(ours, theirs)
            assert_same("behavior", state.behavior.params, layers_of(oracle.behavior))
            assert_same("critic", member(state.critics.params, 0), layers_of(oracle.critic))
            target = layers_of(oracle.target_critic)
            assert_same("target critic", member(state.target_critics, 0), target)
            assert_same("policy", state.policy.params, layers_of(oracle.policy))
    return theirs


SWITCHES = [
    {},
    {"num_value_samples": 1},
    {"target_update_period": 1},
    {"target_update_period": 3},
    {"max_weight": 1e9},
    {"min_log_std": -5.0, "max_log_std": 0.0},
]


@pytest.mark.parametrize("changes", SWITCHES, ids=str)
def test_training_equals_the_oracles(changes):
    assert_same_training(configuration(**changes))


def test_some_rows_of_the_comparison_reach_the_ceiling_and_some_do_not():
    assert 0 < assert_same_training(configuration())["policy/saturated_share"] < 1


# (what is wrong, the oracle's line, the line with the mistake)
MISTAKES = [
    (
        "a mean that is not squashed",
        "means.append(torch.tanh(outputs[j]))",
        "means.append(outputs[j])",
    ),
    (
        "log-stds that are clipped to their bounds",
        "stds.append(torch.exp(low + (high - low) * share))",
        "stds.append(torch.exp(clip(outputs[self.action_dim + j], low, high)))",
    ),
    (
        "the likelihood of one action dimension",
        "total = total + exponent",
        "total = exponent",
    ),
    (
        "a policy that keeps its own start",
        "self.policy.load_state_dict(self.behavior.state_dict())",
        "pass",
    ),
    (
        "the behavior's summed error",
        "- self.log_likelihood(self.behavior, observation, action) / len(rows)",
        "- self.log_likelihood(self.behavior, observation, action)",
    ),
    (
        "no terminal mask",
        'if self.data["terminations"][row] == 0:',
        "if True:",
    ),
    (
        "the action instead of the next action",
        'next_action = self.data["next_actions"][row]',
        'next_action = self.data["actions"][row]',
    ),
    (
        "a target of the critic itself",
        "next_q = self.q(self.target_critic, next_observation, next_action)",
        "next_q = self.q(self.critic, next_observation, next_action)",
    ),
    (
        "no discount",
        "target + settings.discount * next_q",
        "target + next_q",
    ),
    (
        "the critic's summed error",
        "(value - target) ** 2 / len(rows)",
        "(value - target) ** 2",
    ),
    (
        "a target that moves at odd updates",
        "update % settings.target_update_period == 0",
        "update % settings.target_update_period == 1",
    ),
    (
        "a target that moves at every update",
        "if update % settings.target_update_period == 0:",
        "if True:",
    ),
    (
        "the Polyak average upside down",
        "(1 - settings.tau) * slow + settings.tau * fast",
        "settings.tau * slow + (1 - settings.tau) * fast",
    ),
    (
        "a baseline of the policy's actions",
        "means, stds = self.gaussian(self.behavior, observation)",
        "means, stds = self.gaussian(self.policy, observation)",
    ),
    (
        "a baseline of actions in the box",
        "drawn = torch.stack(means) + torch.stack(stds) * noise",
        "drawn = clip(torch.stack(means) + torch.stack(stds) * noise, -1.0, 1.0)",
    ),
    (
        "a summed baseline",
        "self.q(self.critic, observation, drawn) / len(noises)",
        "self.q(self.critic, observation, drawn)",
    ),
    (
        "a baseline of the target critic",
        "self.q(self.critic, observation, drawn) / len(noises)",
        "self.q(self.target_critic, observation, drawn) / len(noises)",
    ),
    (
        "an exponent that is divided",
        "settings.inverse_temperature * advantage",
        "advantage / settings.inverse_temperature",
    ),
    (
        "weights without a ceiling",
        "weight = min(weight, torch.tensor(settings.max_weight))",
        "pass",
    ),
    (
        "the likelihood of actions at the very edge",
        "reachable = clip(action, -LARGEST_ACTION, LARGEST_ACTION)",
        "reachable = action",
    ),
    (
        "the policy's summed error",
        "loss = loss - weight * likelihood / len(rows)",
        "loss = loss - weight * likelihood",
    ),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake[0])
def test_a_planted_mistake_is_noticed(mistake):
    _, line, mistaken_line = mistake
    mistaken = with_mistake(oracle_onestep, line, mistaken_line)
    with pytest.raises(AssertionError, match="not close"):
        assert_same_training(configuration(), mistaken)


def untouched(one, other):
    return all(torch.equal(a, b) for a, b in zip(tree_leaves(one), tree_leaves(other), strict=True))


def test_each_stage_trains_its_own_network_and_the_first_sets_where_the_policy_starts():
    config, data = configuration(), transitions()
    state = initial_state(config)
    changed = {}
    for phase, (update,) in onestep.phases.items():
        after, _ = update(state, data, config, rng(phase=phase))
        changed[phase] = [
            field
            for field in state._fields
            if not untouched(getattr(state, field), getattr(after, field))
        ]
        if phase == "behavior":
            assert untouched(after.policy.params, after.behavior.params)
            assert after.policy.updates.item() == 0
            assert not any(leaf.any() for leaf in tree_leaves(after.policy.first_moment))
            assert not any(leaf.any() for leaf in tree_leaves(after.policy.second_moment))
        state = after
    assert changed == {
        "behavior": ["behavior", "policy"],
        "critics": ["critics", "target_critics"],
        "policy": ["policy"],
    }


@pytest.mark.parametrize(("period", "moved"), [(1, [0, 1, 2, 3]), (2, [0, 2]), (3, [0, 3])])
def test_the_target_moves_at_the_first_and_every_so_manieth_update(period, moved):
    config, data = configuration(target_update_period=period), transitions()
    state = initial_state(config)
    for update in range(4):
        before = state
        state, _ = onestep.update_critics(state, data, config, rng(update))
        assert untouched(state.target_critics, before.target_critics) == (update not in moved)


def loop(**columns):
    """Two observations that follow each other forever, rewarded by 1 and 0."""
    data = dataset(torch.zeros(2, 1), observations=torch.eye(2), rewards=[1.0, 0.0], **columns)
    return data._replace(next_observations=torch.eye(2).flip(0))


def learned_q(data):
    config = onestep.Config(discount=0.9, hidden_sizes=(4,))
    state = onestep.init(2, 1, config, rng(phase="init"))
    table = network([(torch.zeros(1, 1, 3), torch.zeros(1, 1))])
    state = with_critics(state, table)
    for update in range(800):
        config = onestep.Config(
            discount=0.9,
            tau=0.5,
            target_update_period=1,
            critic_learning_rate=0.1 if update < 600 else 0.005,
        )
        state, _ = onestep.update_critics(state, data, config, rng(update))
    [(weight, bias)] = state.critics.params
    return (weight[0, 0, :2] + bias[0]).tolist()


def test_the_critic_finds_the_fixed_point_of_a_loop():
    """1 / (1 - 0.81) and 0.9 / (1 - 0.81)."""
    assert learned_q(loop()) == pytest.approx([5.263158, 4.736842], abs=2e-3)


def test_where_every_row_ends_its_episode_q_is_the_reward():
    assert learned_q(loop(terminations=torch.ones(2))) == pytest.approx([1.0, 0.0], abs=2e-3)


@pytest.mark.parametrize("behavior_mean", [-0.3, 0.0, 0.4])
def test_the_unclipped_optimum_does_not_depend_on_the_baseline(behavior_mean):
    """Actions N(0, 0.25^2) weighted by exp(4 (a - b)): mean 4 * 0.25^2, whatever b; same std."""
    slices = torch.special.ndtri((torch.arange(200) + 0.5) / 200)
    data = dataset((0.25 * slices / slices.std(correction=0))[:, None])
    state = onestep.init(1, 1, onestep.Config(hidden_sizes=(4,)), rng(phase="init"))
    state = with_critics(state, linear_critics(2.0, count=1))
    state = state._replace(
        behavior=network(constant([behavior_mean, 0.0])), policy=network(constant([0.1, 0.3]))
    )
    for update in range(500):
        rate = 0.02 if update < 350 else 0.001
        config = onestep.Config(
            inverse_temperature=2.0, num_value_samples=1, policy_learning_rate=rate
        )
        state, metrics = onestep.update_policy(state, data, config, Silent())
    mean, log_std = mlp(state.policy.params, torch.zeros(1))
    weights = (4 * data.actions).exp()
    weights = weights / weights.sum()
    expected = (weights * data.actions).sum()
    assert expected.item() == pytest.approx(0.25, abs=5e-3)  # but for the slices' coarseness
    assert torch.tanh(mean).item() == pytest.approx(expected.item(), abs=1e-3)
    deviation = (weights * (data.actions - expected) ** 2).sum().sqrt().item()
    std = (-5 + 2.5 * (torch.tanh(log_std) + 1)).exp().item()
    assert std == pytest.approx(deviation, abs=1e-3)
    assert metrics["policy/loss"].isfinite()


def test_log_likelihoods_are_summed_over_action_dimensions():
    """The network says 0: mean 0 and std e^-2.5; log N(0) is 2.5 - 0.918939 in each of six."""
    config = onestep.Config(hidden_sizes=(4,))
    state = onestep.init(1, 6, config, rng(phase="init"))
    state = state._replace(behavior=network(constant([0.0] * 12)))
    _, metrics = onestep.update_behavior(state, dataset(torch.zeros(3, 6)), config, rng())
    assert metrics["behavior/loss"].item() == pytest.approx(-9.486369, abs=1e-6)


def test_weights_beyond_the_range_of_floats_stop_at_the_ceiling():
    """The behavior's mean is 0, Q there 0; the action 0.5 is worth 5e5."""
    config = onestep.Config(hidden_sizes=(4,), min_log_std=-1e-9, max_log_std=1e-9)
    state = onestep.init(1, 1, config, rng(phase="init"))
    state = with_critics(state, linear_critics(1e6, count=1))
    state = state._replace(
        behavior=network(constant([0.0, 0.0])), policy=network(constant([0.0, 0.0]))
    )
    after, metrics = onestep.update_policy(state, dataset([[0.5]]), config, Silent())
    assert metrics["policy/loss"].item() == pytest.approx(100 * (0.918939 + 0.125), abs=1e-4)
    assert all(leaf.isfinite().all() for leaf in tree_leaves(after.policy))


def test_policy_and_behavior_start_the_same_and_the_target_as_the_critic():
    state = onestep.init(11, 3, onestep.Config(), rng(phase="init"))
    shapes = [weight.shape for weight, _ in state.policy.params]
    assert shapes == [(1024, 11), (1024, 1024), (6, 1024)]
    assert [weight.shape for weight, _ in state.critics.params] == [
        (1, 1024, 14),
        (1, 1024, 1024),
        (1, 1, 1024),
    ]
    assert untouched(state.policy.params, state.behavior.params)
    assert untouched(state.target_critics, state.critics.params)


def test_the_policy_acts_within_the_box_and_without_noise():
    config = onestep.Config(hidden_sizes=(6,))
    state = onestep.init(3, 2, config, rng(phase="init"))
    state = state._replace(policy=network(scaled(state.policy.params, 1.5)))  # not the behavior
    observations = 10 * torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    actions = onestep.act(state, observations, config, rng())
    assert actions.shape == (7, 2)
    assert_close(actions, torch.tanh(mlp(state.policy.params, observations)[:, :2]))
    assert (actions == onestep.act(state, observations, config, rng(update=9))).all()


@pytest.mark.parametrize(
    "setting",
    [
        {"discount": 1.5},
        {"tau": 0},
        {"target_update_period": 0},
        {"inverse_temperature": -1.0},
        {"inverse_temperature": INFINITY},
        {"max_weight": 0.0},
        {"num_value_samples": 0},
        {"min_log_std": 0.0},
        {"max_log_std": NAN},
        {"behavior_learning_rate": 0.0},
        {"critic_learning_rate": -1e-4},
        {"policy_learning_rate": NAN},
        {"batch_size": 0},
        {"hidden_sizes": (0,)},
    ],
    ids=str,
)
def test_what_cannot_be_run_is_refused(setting):
    assert_refused(onestep.Config, **setting)


def test_the_defaults_are_the_published_settings():
    assert onestep.Config() == onestep.Config(
        discount=0.99,
        tau=0.005,
        target_update_period=2,
        inverse_temperature=1.0,
        max_weight=100.0,
        num_value_samples=10,
        min_log_std=-5.0,
        max_log_std=0.0,
        behavior_learning_rate=1e-4,
        critic_learning_rate=1e-4,
        policy_learning_rate=1e-4,
        batch_size=512,
        hidden_sizes=(1024, 1024),
    )
