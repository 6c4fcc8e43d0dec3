"""LOM against numbers worked out by hand: sizes, likelihoods, targets, choices and weights."""

import math
from dataclasses import replace

import pytest
import torch
from lom_by_hand import Quadrature, behavior, constant, dataset, linear_critic, rng, state_of
from torch.testing import assert_close
from torch.utils._pytree import tree_leaves

from lom_exp.algorithms import lom
from lom_exp.networks import mlp, network

pytestmark = pytest.mark.usefixtures("float64")


def test_networks_have_the_sizes_of_the_equations():
    config = lom.Config(num_components=10)
    state = lom.init(11, 3, config, rng())
    assert state.behavior.params[-1][0].shape == (10 * (2 * 3 + 1), 512)
    assert state.policy.params[0][-1][0].shape == (3, 256)
    assert state.policy.params[1].shape == (3,)
    assert state.critics.params[0][0].shape == (1, 256, 11 + 3)
    assert state.hyper_critic.params[-1][0].shape == (10, 256)

    one_hot = lom.init(11, 3, replace(config, hyper_critic="one_hot"), rng())
    assert one_hot.hyper_critic.params[0][0].shape == (256, 11 + 10)
    assert one_hot.hyper_critic.params[-1][0].shape == (1, 256)


def test_the_policy_starts_with_a_std_of_one_and_the_targets_as_the_critics():
    state = lom.init(11, 3, lom.Config(num_critics=2), rng())
    assert state.policy.params[1].exp().tolist() == [1.0, 1.0, 1.0]
    assert_close(state.target_critics, state.critics.params, rtol=0, atol=0)


def test_networks_at_the_papers_width_have_its_parameter_counts():
    config = lom.Config(hidden_sizes=(512, 512), behavior_hidden_sizes=(512, 512))
    state = lom.init(11, 3, config, rng())

    def count(params):
        return sum(leaf.numel() for leaf in tree_leaves(params))

    assert count(state.behavior.params) == 304_710
    assert count(state.policy.params[0]) == 270_339
    assert count(state.critics.params) == 270_849
    assert count(state.hyper_critic.params) == 273_930


def test_the_mixture_reads_of_each_component_its_mean_then_log_stds_then_logit():
    config = lom.Config(num_components=3, min_log_std=-2.0, max_log_std=0.0)
    params = constant(
        [
            *(0.1, 0.2, -1.0, -3.0, 7.0),
            *(0.3, 0.4, 0.5, -0.5, 8.0),
            *(9.0, -9.0, 0.0, -2.0, 9.0),
        ]
    )
    logits, means, stds = lom.mixture(params, torch.zeros(4, 1), torch.ones(3), config)
    assert logits.shape == (4, 3)
    assert means.shape == stds.shape == (4, 3, 2)
    assert logits[1].tolist() == [7.0, 8.0, 9.0]
    expected = [[math.tanh(0.1), math.tanh(0.2)], [math.tanh(0.3), math.tanh(0.4)]]
    assert_close(means[2], torch.tensor([*expected, [0.9999, -0.9999]]))
    assert_close(stds[3].log(), torch.tensor([[-1.0, -2.0], [0.0, -0.5], [0.0, -2.0]]))


def test_means_that_are_not_squashed_are_the_networks_own():
    config = lom.Config(num_components=1, squash_means=False)
    _, means, _ = lom.mixture(constant([3.0, 0.0, 0.0]), torch.zeros(1, 1), torch.ones(1), config)
    assert means.item() == 3.0


@pytest.mark.parametrize(
    ("component_loss", "std", "action", "loss"),
    [
        ("mixture", 1.0, 0.0, 1.418939),
        ("mixture", 0.1, 0.9, -0.190499),
        ("legacy_component_mean", 0.1, 0.9, 89.80950),
    ],
)
def test_the_behavior_loss_of_two_known_components(component_loss, std, action, loss):
    config = lom.Config(num_components=2, component_loss=component_loss, squash_means=False)
    mixture = behavior([0.5, 0.5], [[1.0], [-1.0]], [[std], [std]])
    state = state_of(config, behavior=mixture)
    _, metrics = lom.update_behavior(state, dataset([[action]]), config, rng())
    assert metrics["behavior/loss"].item() == pytest.approx(loss, abs=6e-6)


def test_weights_beyond_the_range_of_floats_stop_at_the_ceiling():
    config = lom.Config(num_components=1, inverse_temperature=1e6, baseline="component_mean")
    critics = linear_critic(1e6)
    state = state_of(config, behavior=behavior([1.0], [[0.0]], [[0.3]]), critics=critics)
    after, metrics = lom.update_policy(state, dataset(torch.zeros(40, 1)), config, rng())
    assert 0 < metrics["policy/saturated_share"].item() < 1
    assert_close(metrics["policy/weight"], 50 * metrics["policy/saturated_share"])
    assert all(leaf.isfinite().all() for leaf in tree_leaves(after))


def test_saturated_and_vanished_weights_are_counted():
    """log w is N(0, 10^2): 50 is 0.391 standard deviations above its mean, 0.001 0.691 below."""
    config = lom.Config(num_components=1, inverse_temperature=200.0, baseline="component_mean")
    mixture = behavior([1.0], [[0.0]], [[0.05]])
    state = state_of(config, behavior=mixture, critics=linear_critic(1.0))
    _, metrics = lom.update_policy(state, dataset(torch.zeros(10_000, 1)), config, Quadrature())
    assert metrics["policy/saturated_share"].item() == pytest.approx(0.3478, abs=2e-4)
    assert metrics["policy/vanished_share"].item() == pytest.approx(0.2449, abs=2e-4)


def test_the_target_ignores_what_follows_a_termination():
    config = lom.Config(num_critics=2)
    data = dataset([[0.3]], rewards=[1.5], next_observations=[[1e6]], terminations=[1.0])
    _, metrics = lom.update_critics(state_of(config), data, config, rng())
    assert metrics["critics/target_q"].item() == 1.5
    bootstrapped = data._replace(terminations=torch.tensor([0.0]))
    _, metrics = lom.update_critics(state_of(config), bootstrapped, config, rng())
    assert abs(metrics["critics/target_q"].item()) > 1e3


def test_a_component_below_the_smallest_weight_is_not_chosen_but_the_heaviest_may_be():
    hyper_qs = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    logits = torch.tensor([[0.05, 0.25, 0.70], [0.05, 0.25, 0.70]]).log()

    def choice(min_component_weight):
        config = lom.Config(num_components=3, min_component_weight=min_component_weight)
        chosen, weights = lom.choose_component(hyper_qs, logits, config)
        return chosen.tolist(), weights

    assert choice(0.0)[0] == [0, 2]
    assert choice(0.1)[0] == [1, 2]
    assert choice(0.3)[0] == [2, 2]
    assert choice(1.0)[0] == [2, 2]
    assert_close(choice(0.1)[1], torch.tensor([0.25, 0.70]))


ABSENT = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)  # the last of three is not there


@pytest.mark.parametrize(
    ("component_loss", "loss"), [("mixture", -0.190499), ("legacy_component_mean", 89.80950)]
)
def test_a_component_that_is_not_there_has_no_part_in_the_behavior_loss(component_loss, loss):
    """The numbers of the two components above, and no step for the third one's outputs."""
    config = lom.Config(num_components=3, component_loss=component_loss, squash_means=False)
    mixture = behavior([0.5, 0.5, 0.9], [[1.0], [-1.0], [0.9]], [[0.1], [0.1], [0.2]])
    state = state_of(config, behavior=mixture, components=ABSENT)
    after, metrics = lom.update_behavior(state, dataset([[0.9]]), config, rng())
    assert metrics["behavior/loss"].item() == pytest.approx(loss, abs=6e-6)
    moved = after.behavior.params[0][1] - mixture.params[0][1]
    assert moved[0] < 0  # the first component's mean, towards the action
    assert moved[6:].tolist() == [0.0, 0.0, 0.0]


def test_a_component_that_is_not_there_has_no_part_in_the_hyper_critics_loss():
    """Labels 1.5 and 0, guesses of 0: (1.5^2 + 0) / 2."""
    config = lom.Config(num_components=3, squash_means=False)
    mixture = behavior([0.2, 0.3, 0.5], [[0.5], [0.0], [-7.0]], [[1e-6]] * 3)
    state = state_of(
        config,
        behavior=mixture,
        critics=linear_critic(3.0),
        hyper_critic=network(constant([0.0, 0.0, 0.4])),
        components=ABSENT,
    )
    after, metrics = lom.update_hyper_critic(state, dataset([[0.0]]), config, rng())
    assert metrics["hyper_critic/loss"].item() == pytest.approx(1.125, abs=1e-4)
    assert metrics["hyper_critic/spread"].item() == pytest.approx(1.5, abs=1e-4)
    [(_, outputs)] = after.hyper_critic.params
    assert outputs[0] > 0
    assert outputs[2].item() == 0.4


# Of hyper-Qs 1 and 2 and mixing weights 0.4 and 0.6; over 2000 rows, within five standard errors.
@pytest.mark.parametrize(
    ("choice", "hyper_q", "weight", "within"),
    [
        ("hyper_critic", 2.0, 0.6, 1e-9),
        ("critic", 2.0, 0.6, 1e-9),
        ("heaviest", 2.0, 0.6, 1e-9),
        ("first", 1.0, 0.4, 1e-9),
        ("random", 1.5, 0.5, 0.06),
        ("all", 1.6, 0.52, 0.06),
    ],
)
def test_a_component_that_is_not_there_is_never_chosen(choice, hyper_q, weight, within):
    """Though it is the best by Q and hyper-Q, its output the largest, and no weight too small."""
    config = lom.Config(num_components=3, squash_means=False, component_choice=choice)
    mixture = behavior([0.2, 0.3, 0.9], [[0.1], [0.2], [0.9]], [[0.3], [0.3], [0.7]])
    state = state_of(
        config,
        behavior=mixture,
        critics=linear_critic(1.0),
        hyper_critic=network(constant([1.0, 2.0, 9.0])),
        components=ABSENT,
    )
    _, metrics = lom.update_policy(state, dataset(torch.zeros(2000, 1)), config, rng())
    assert metrics["policy/chosen_std"].item() == pytest.approx(0.3)
    assert metrics["policy/chosen_hyper_q"].item() == pytest.approx(hyper_q, abs=within)
    assert metrics["policy/chosen_mixing_weight"].item() == pytest.approx(weight, abs=within / 5)


def test_the_policy_acts_within_the_box_and_without_noise():
    config = lom.Config(num_components=2, hidden_sizes=(6,))
    state = lom.init(3, 2, config, rng())
    observations = 1e3 * torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    actions = lom.act(state, observations, config, rng())
    assert actions.shape == (7, 2)
    assert actions.abs().amax() <= 1
    assert_close(actions, torch.tanh(mlp(state.policy.params[0], observations)))
    assert (actions == lom.act(state, observations, config, rng(update=9))).all()
