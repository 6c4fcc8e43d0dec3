"""LOM's updates against an independent implementation, update by update, in float64."""

import types
from pathlib import Path

import oracle_lom
import pytest
import torch
from torch.testing import assert_close
from torch.utils._pytree import tree_map

from lom_exp.algorithms import lom
from lom_exp.random import Rng
from lom_exp.types import Transitions

pytestmark = pytest.mark.usefixtures("float64")

# Every axis has a length of its own: K 3, A 4, O 5, M 7, and N 23.
OBSERVATION_DIM, ACTION_DIM, SIZE, SEED = 5, 4, 23, 3
UPDATES = 5  # three of them move the targets; Adam's moments and corrections matter


def configuration(**changes):
    """Settings under which every bound binds on some row and on some it does not."""
    settings = {
        "num_components": 7,
        "num_critics": 3,
        "min_log_std": -0.8,
        "max_log_std": 0.1,
        "tau": 0.1,
        "smoothing_std": 0.2,
        "smoothing_clip": 0.15,
        "inverse_temperature": 1.5,
        "max_weight": 1.7,
        "behavior_batch_size": 10,
        "critic_batch_size": 6,
        "hyper_critic_batch_size": 9,
        "policy_batch_size": 8,
        "behavior_learning_rate": 0.02,
        "critic_learning_rate": 0.03,
        "hyper_critic_learning_rate": 0.04,
        "policy_learning_rate": 0.05,
        "hidden_sizes": (11, 12),
        "behavior_hidden_sizes": (13, 14),
    }
    return lom.Config(**{**settings, **changes})


def transitions():
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    return Transitions(
        observations=normal(SIZE, OBSERVATION_DIM),
        actions=normal(SIZE, ACTION_DIM).clamp(-1, 1),
        rewards=3 * normal(SIZE),
        next_observations=normal(SIZE, OBSERVATION_DIM),
        next_actions=normal(SIZE, ACTION_DIM).clamp(-1, 1),
        terminations=(torch.arange(SIZE) % 3 == 0).double(),
    )


def initial_state(config):
    """Twice torch's weights, so that the mixture is uneven and the bounds are reached."""
    rng = Rng.of(torch.tensor(SEED), "init", torch.tensor(0))
    state = tree_map(lambda leaf: 2 * leaf, lom.init(OBSERVATION_DIM, ACTION_DIM, config, rng))
    layers, _ = state.policy.params
    log_std = torch.linspace(-0.3, 0.2, ACTION_DIM)
    return state._replace(policy=state.policy._replace(params=(layers, log_std)))


def member(layers, k):
    return [(weight[k], bias[k]) for weight, bias in layers]


def assert_same_parameters(state, oracle, config):
    def same(name, ours, theirs):
        assert_close(ours, theirs, rtol=1e-8, atol=1e-8, msg=lambda text: f"{name}: {text}")

    layers, log_std = state.policy.params
    same("behavior", state.behavior.params, oracle_lom.layers_of(oracle.behavior))
    same("hyper_critic", state.hyper_critic.params, oracle_lom.layers_of(oracle.hyper_critic))
    same("policy", layers, oracle_lom.layers_of(oracle.policy))
    same("log_std", log_std, oracle.log_std.detach())
    for k in range(config.num_critics):
        critic = oracle_lom.layers_of(oracle.critics[k])
        target = oracle_lom.layers_of(oracle.target_critics[k])
        same(f"critic {k}", member(state.critics.params, k), critic)
        same(f"target critic {k}", member(state.target_critics, k), target)


def assert_same_training(config, oracle_class=oracle_lom.Lom):
    """Train both through both phases; after every update compare metrics and parameters."""
    data, state = transitions(), initial_state(config)
    oracle = oracle_class(
        config,
        data._asdict(),
        behavior=state.behavior.params,
        critics=[member(state.critics.params, k) for k in range(config.num_critics)],
        hyper_critic=state.hyper_critic.params,
        policy=state.policy.params[0],
        log_std=state.policy.params[1],
    )
    behavior_size, critic_size = config.behavior_batch_size, config.critic_batch_size
    hyper_critic_size, policy_size = config.hyper_critic_batch_size, config.policy_batch_size
    samples = (config.hyper_critic_samples, hyper_critic_size, config.num_components, ACTION_DIM)

    for phase, updates in lom.phases.items():
        for number in range(UPDATES):
            rng = Rng.of(torch.tensor(SEED), phase, torch.tensor(number))
            ours = {}
            for update in updates:
                state, metrics = update(state, data, config, rng)
                ours |= metrics
            if phase == "behavior":
                theirs = oracle.update_behavior(rng.integers("behavior/batch", SIZE, (behavior_size,)))
            else:
                theirs = (
                    oracle.update_critics(
                        number,
                        rng.integers("critics/batch", SIZE, (critic_size,)),
                        rng.normal("smoothing", (critic_size, ACTION_DIM)),
                    )
                    | oracle.update_hyper_critic(
                        rng.integers("hyper_critic/batch", SIZE, (hyper_critic_size,)),
                        rng.normal("components", samples),
                    )
                    | oracle.update_policy(
                        rng.integers("policy/batch", SIZE, (policy_size,)),
                        rng.normal("mode", (policy_size, ACTION_DIM)),
                        rng.normal("action_noise", (policy_size, ACTION_DIM)),
                    )
                )
            theirs = {name: value.detach() for name, value in theirs.items()}
            assert_close(ours, theirs, rtol=1e-8, atol=1e-8)
            assert_same_parameters(state, oracle, config)


POLICY_SWITCHES = [
    {"hyper_critic": hyper_critic, "baseline": baseline, "policy_loss": policy_loss}
    for hyper_critic in ("heads", "one_hot")
    for baseline in ("policy", "component_mean", "hyper_critic")
    for policy_loss in ("squared_error", "log_likelihood")
]
OTHER_SWITCHES = [
    {"num_components": 1},
    {"num_critics": 1},
    {"component_loss": "legacy_component_mean"},
    {"squash_means": False},
    {"squash_means": False, "component_loss": "legacy_component_mean"},
    {"smoothing_std": 0.0},
    {"action_noise_std": 0.4},
    {"hyper_critic_samples": 2},
    {"hyper_critic_samples": 2, "hyper_critic": "one_hot"},
    {"min_component_weight": 0.2},
    {"min_component_weight": 1.0},
    {"target_update_period": 1},
    {"target_update_period": 3},
]
PAPER = {
    "num_critics": 1,
    "smoothing_std": 0.0,
    "inverse_temperature": 0.2,
    "baseline": "component_mean",
    "policy_loss": "log_likelihood",
}
EVERYTHING = {
    "component_loss": "legacy_component_mean",
    "squash_means": False,
    "min_component_weight": 0.2,
    "hyper_critic": "one_hot",
    "hyper_critic_samples": 2,
    "baseline": "hyper_critic",
    "policy_loss": "log_likelihood",
    "action_noise_std": 0.4,
}


@pytest.mark.parametrize("changes", [*POLICY_SWITCHES, *OTHER_SWITCHES, PAPER, EVERYTHING], ids=str)
def test_training_equals_the_oracles(changes):
    assert_same_training(configuration(**changes))


# (what is wrong, the oracle's line, the line with the mistake, settings under which it matters)
MISTAKES = [
    (
        "no terminal mask",
        'if self.data["terminations"][row] == 0:',
        "if True:",
        {},
    ),
    (
        "a terminal mask that is upside down",
        'if self.data["terminations"][row] == 0:',
        'if self.data["terminations"][row] == 1:',
        {},
    ),
    (
        "the maximum over critics",
        "next_q = min(",
        "next_q = max(",
        {},
    ),
    (
        "the minimum over the critics instead of over their targets",
        "for target in self.target_critics\n",
        "for target in self.critics\n",
        {},
    ),
    (
        "the action instead of the next action",
        'self.data["next_actions"][row] + noise',
        'self.data["actions"][row] + noise',
        {},
    ),
    (
        "the observation instead of the next observation",
        'next_observation = self.data["next_observations"][row]',
        'next_observation = self.data["observations"][row]',
        {},
    ),
    (
        "no discount",
        "target + settings.discount * next_q",
        "target + next_q",
        {},
    ),
    (
        "smoothing noise without a bound",
        "noise = clip(noise, -settings.smoothing_clip, settings.smoothing_clip)",
        "pass",
        {},
    ),
    (
        "next actions that leave the box",
        'clip(self.data["next_actions"][row] + noise, -1.0, 1.0)',
        'self.data["next_actions"][row] + noise',
        {},
    ),
    (
        "the Polyak average upside down",
        "(1 - settings.tau) * slow + settings.tau * fast",
        "settings.tau * slow + (1 - settings.tau) * fast",
        {},
    ),
    (
        "targets that move at odd updates",
        "update % settings.target_update_period == 0",
        "update % settings.target_update_period == 1",
        {},
    ),
    (
        "targets that move at every update",
        "update % settings.target_update_period == 0",
        "True",
        {},
    ),
    (
        "the critics' summed error",
        "(value - targets[b]) ** 2 / len(rows)",
        "(value - targets[b]) ** 2",
        {},
    ),
    (
        "labels from another critic than the first",
        "self.q(self.critics[0], observation, action) / len(noises)",
        "self.q(self.critics[1], observation, action) / len(noises)",
        {},
    ),
    (
        "labels from a target critic",
        "self.q(self.critics[0], observation, action) / len(noises)",
        "self.q(self.target_critics[0], observation, action) / len(noises)",
        {},
    ),
    (
        "labels at the components' means",
        "means[u] + stds[u] * sample[b, u]",
        "means[u]",
        {},
    ),
    (
        "labels of clipped actions",
        "action = means[u] + stds[u] * sample[b, u]",
        "action = clip(means[u] + stds[u] * sample[b, u], -1.0, 1.0)",
        {},
    ),
    (
        "the first sample alone",
        "for sample in noises:",
        "for sample in [noises[0]] * len(noises):",
        {"hyper_critic_samples": 2},
    ),
    (
        "the hyper-critic's error summed over components",
        "/ (len(rows) * len(labels))",
        "/ len(rows)",
        {},
    ),
    (
        "the component of lowest hyper-Q",
        "return max(candidates",
        "return min(candidates",
        {},
    ),
    (
        "the component of largest mixing weight",
        "key=lambda u: hyper_qs[u].item()",
        "key=lambda u: weights[u].item()",
        {},
    ),
    (
        "light components that may be chosen",
        "if weights[u] >= self.settings.min_component_weight or weights[u] == max(weights)",
        "if True",
        {"min_component_weight": 0.2},
    ),
    (
        "the component's mean imitated",
        "means[u] + stds[u] * noises[b]",
        "means[u]",
        {},
    ),
    (
        "an imitated action that leaves the box",
        "clip(means[u] + stds[u] * noises[b], -1.0, 1.0)",
        "means[u] + stds[u] * noises[b]",
        {},
    ),
    (
        "an imitated action clipped after its noise",
        "action = action + settings.action_noise_std * action_noises[b]",
        "action = clip(action + settings.action_noise_std * action_noises[b], -1.0, 1.0)",
        {"action_noise_std": 0.4},
    ),
    (
        "the baseline of the imitated action's component instead of the policy's action",
        "reference = self.policy_action(observation)",
        "reference = means[u]",
        {},
    ),
    (
        "the baseline of the policy's action before its tanh",
        "reference = self.policy_action(observation)",
        "reference = self.policy(observation)",
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
        "the policy's summed error",
        "weight * cost / len(rows)",
        "weight * cost",
        {},
    ),
    (
        "the policy's error summed over action dimensions",
        "sum((imitated - action) ** 2) / self.action_dim",
        "sum((imitated - action) ** 2)",
        {},
    ),
    (
        "the policy's error without weights",
        "weight * cost / len(rows)",
        "cost / len(rows)",
        {},
    ),
    (
        "the likelihood of one component after another without their mixing weights",
        "[weight * density for",
        "[density for",
        {},
    ),
    (
        "the legacy component loss in place of the mixture's",
        'if self.settings.component_loss == "mixture":',
        "if False:",
        {},
    ),
    (
        "log-stds without bounds",
        "log_std = clip(log_std, self.settings.min_log_std, self.settings.max_log_std)",
        "pass",
        {},
    ),
    (
        "means that are not squashed",
        "if self.settings.squash_means:",
        "if False:",
        {},
    ),
]


def test_every_planted_mistake_is_found_only_by_its_line():
    source = Path(oracle_lom.__file__).read_text()
    for name, line, _, _ in MISTAKES:
        assert source.count(line) == 1, name


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake[0])
def test_a_planted_mistake_is_noticed(mistake):
    _, line, mistaken_line, changes = mistake
    source = Path(oracle_lom.__file__).read_text().replace(line, mistaken_line)
    mistaken = types.ModuleType("mistaken_oracle")
    exec(compile(source, "mistaken_oracle", "exec"), mistaken.__dict__)
    with pytest.raises(AssertionError, match="not close|not equal|differ"):
        assert_same_training(configuration(**changes), mistaken.Lom)
