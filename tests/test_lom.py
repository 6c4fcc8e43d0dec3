"""LOM's updates against an independent implementation, update by update, in float64."""

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
    policy = state.policy._replace(params=(layers, log_std))
    return state._replace(policy=policy, components=torch.ones(config.num_components))


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
    assert state.components.tolist() == [1.0] * config.num_components


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
    samples = (config.num_components, config.hyper_critic_samples, hyper_critic_size, ACTION_DIM)

    for phase, updates in lom.phases.items():
        for number in range(UPDATES):
            rng = Rng.of(torch.tensor(SEED), phase, torch.tensor(number))
            ours = {}
            for update in updates:
                state, metrics = update(state, data, config, rng)
                ours |= metrics
            if phase == "behavior":
                theirs = oracle.update_behavior(
                    rng.integers("behavior/batch", SIZE, (behavior_size,))
                )
            else:
                theirs = (
                    oracle.update_critics(
                        number,
                        rng.integers("critics/batch", SIZE, (critic_size,)),
                        rng.normal("smoothing", (critic_size, ACTION_DIM)),
                    )
                    | oracle.update_hyper_critic(
                        rng.integers("hyper_critic/batch", SIZE, (hyper_critic_size,)),
                        rng.normal("components", samples).movedim(0, 2),
                    )
                    | oracle.update_policy(
                        rng.integers("policy/batch", SIZE, (policy_size,)),
                        rng.normal("mode", (policy_size, ACTION_DIM)),
                        rng.normal("action_noise", (policy_size, ACTION_DIM)),
                        rng.uniform("choice", (config.num_components, policy_size)).mT,
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
CHOICES = [
    {"component_choice": choice, "baseline": baseline, "min_component_weight": least}
    for choice in ("critic", "heaviest", "first", "random", "all")
    for baseline, least in (("policy", 0.0), ("component_mean", 0.1), ("hyper_critic", 0.1))
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


@pytest.mark.parametrize(
    "changes", [*POLICY_SWITCHES, *CHOICES, *OTHER_SWITCHES, PAPER, EVERYTHING], ids=str
)
def test_training_equals_the_oracles(changes):
    assert_same_training(configuration(**changes))
