"""CQL against an independent implementation, and against numbers worked out by hand."""

import math

import oracle_cql
import pytest
import torch
from comparison import (
    ACTION_DIM,
    OBSERVATION_DIM,
    SIZE,
    Silent,
    assert_same,
    assert_same_metrics,
    members,
    rng,
    scaled,
    transitions,
    with_mistake,
)
from lom_by_hand import constant, dataset
from oracle_lom import layers_of
from test_validation import assert_refused
from torch.testing import assert_close
from torch.utils._pytree import tree_map

from lom_exp.algorithms import cql
from lom_exp.errors import ConfigError
from lom_exp.networks import network

pytestmark = pytest.mark.usefixtures("float64")

UPDATES = 5  # Adam's moments and corrections matter
BATCH, DRAWS = 4, 2


def configuration(**changes):
    settings = {
        "regularizer_weight": 0.7,
        "num_actions": DRAWS,
        "discount": 0.9,
        "tau": 0.1,
        "critic_learning_rate": 0.02,
        "policy_learning_rate": 0.03,
        "batch_size": BATCH,
        "hidden_sizes": (7, 8),
    }
    return cql.Config(**{**settings, **changes})


def initial_state(config, log_std_offset=-1.0):
    """Thrice torch's weights, and every number that starts at 0 or 1 somewhere else."""
    state = cql.init(OBSERVATION_DIM, ACTION_DIM, config, rng(phase="init"))
    critics = tree_map(lambda leaf: leaf + 0.1 * rng().normal("critics", leaf.shape), state.critics)
    layers, _, _ = state.policy.params
    layers = [(3 * weight, bias + 0.2) for weight, bias in layers]
    (weight, bias) = layers[-1]
    layers[-1] = weight + rng().normal("policy", weight.shape), bias
    return state._replace(
        critics=network(critics.params),
        target_critics=scaled(critics.params, 0.9),
        policy=network((layers, torch.tensor(1.2), torch.tensor(log_std_offset))),
        entropy_weight=network(torch.tensor(-0.4)),
        lagrange_weight=network(torch.tensor(0.3)),
    )


def assert_same_training(config, oracle_class=oracle_cql.Cql, **initial):
    """Train both; after every update compare metrics and parameters."""
    data, state = transitions(), initial_state(config, **initial)
    data = data._replace(rewards=data.rewards / 3)
    oracle = oracle_class(
        config,
        data._asdict(),
        members(state.critics.params),
        members(state.target_critics),
        *state.policy.params,
        state.entropy_weight.params,
        state.lagrange_weight.params,
    )
    draws = (config.num_actions, BATCH, ACTION_DIM)
    next_draws = draws if config.max_target_backup else draws[1:]
    [update] = cql.phases["policy"]
    for number in range(UPDATES):
        numbers = rng(number)
        state, ours = update(state, data, config, numbers)
        theirs = oracle.update(
            numbers.integers("batch", SIZE, (BATCH,)),
            numbers.normal("action", draws[1:]),
            numbers.normal("next_action", next_draws).view(-1, BATCH, ACTION_DIM),
            2 * numbers.uniform("random_actions", draws) - 1,
            numbers.normal("current_actions", draws),
            numbers.normal("following_actions", draws),
        )
        assert_same_metrics(ours, theirs)
        layers, multiplier, offset = state.policy.params
        assert_same("critics", members(state.critics.params), list(map(layers_of, oracle.critics)))
        targets = list(map(layers_of, oracle.target_critics))
        assert_same("target critics", members(state.target_critics), targets)
        assert_same("policy", layers, layers_of(oracle.policy))
        assert_same("multiplier", multiplier, oracle.multiplier.detach())
        assert_same("offset", offset, oracle.offset.detach())
        assert_same("entropy", state.entropy_weight.params, oracle.log_alpha.detach())
        assert_same("lagrange", state.lagrange_weight.params, oracle.log_lagrange.detach())
    return state, oracle


LAGRANGE = {"lagrange": True, "lagrange_gap": 0.8}


@pytest.mark.parametrize("max_target_backup", [False, True])
@pytest.mark.parametrize("lagrange", [{}, LAGRANGE], ids=["penalty", "lagrange"])
@pytest.mark.parametrize("importance_sampling", [True, False])
def test_training_equals_the_oracles(importance_sampling, lagrange, max_target_backup):
    config = configuration(
        importance_sampling=importance_sampling, max_target_backup=max_target_backup, **lagrange
    )
    assert_same_training(config)


@pytest.mark.parametrize(
    "changes", [{"num_actions": 1}, {"num_actions": 3}, {"hidden_sizes": (5, 6, 7)}], ids=str
)
def test_training_of_other_shapes_equals_the_oracles(changes):
    assert_same_training(configuration(**changes))


def test_training_equals_the_oracles_where_log_stds_reach_their_upper_bound():
    state, _ = assert_same_training(configuration(), log_std_offset=1.0)
    layers, multiplier, offset = state.policy.params
    raw = oracle_cql.build(layers)(transitions().observations)[:, ACTION_DIM:]
    above = (multiplier * raw + offset > 2).double().mean()
    assert 0.1 < above < 0.9


MISTAKES = [
    (
        "no terminal mask",
        'if self.data["terminations"][row] == 0:',
        "if True:",
        {},
    ),
    (
        "the maximum over target critics",
        "value = min(self.q(target, observation, action)",
        "value = max(self.q(target, observation, action)",
        {},
    ),
    (
        "the critics as their own targets",
        "for target in self.target_critics)",
        "for target in self.critics)",
        {},
    ),
    (
        "an entropy in the target",
        "self.settings.discount * max(values)",
        "self.settings.discount * (max(values) - self.draw(observation, noise)[1])",
        {},
    ),
    (
        "the first of several next actions",
        "self.settings.discount * max(values)",
        "self.settings.discount * values[0]",
        {"max_target_backup": True},
    ),
    (
        "the worst of several next actions",
        "self.settings.discount * max(values)",
        "self.settings.discount * min(values)",
        {"max_target_backup": True},
    ),
    (
        "next actions drawn at the observation",
        'observation = self.data["next_observations"][row]',
        'observation = self.data["observations"][row]',
        {},
    ),
    (
        "the Polyak average upside down",
        "(1 - settings.tau) * slow + settings.tau * fast",
        "settings.tau * slow + (1 - settings.tau) * fast",
        {},
    ),
    (
        "targets that never move",
        "slow.copy_(",
        "slow.clone().copy_(",
        {},
    ),
    (
        "the first critic in place of the smaller one",
        "value = min(self.q(critic, observation, drawn) for critic in self.critics)",
        "value = self.q(self.critics[0], observation, drawn)",
        {},
    ),
    (
        "target critics for the policy",
        "self.q(critic, observation, drawn) for critic in self.critics)",
        "self.q(critic, observation, drawn) for critic in self.target_critics)",
        {},
    ),
    (
        "a policy that does not pay for its certainty",
        "(entropy_weight * log_density - value) / len(rows)",
        "(entropy_weight * log_density.detach() - value) / len(rows)",
        {},
    ),
    (
        "the opposite target entropy",
        "log_density.detach() - self.action_dim",
        "log_density.detach() + self.action_dim",
        {},
    ),
    (
        "no Jacobian of tanh",
        "log_normal - torch.log(slope)",
        "log_normal",
        {},
    ),
    (
        "a Jacobian that is added",
        "log_normal - torch.log(slope)",
        "log_normal + torch.log(slope)",
        {},
    ),
    (
        "a density over [0, 1] of the random actions",
        "self.action_dim * math.log(0.5)",
        "0.0",
        {},
    ),
    (
        "densities that are added",
        "value = value - log_density\n",
        "value = value + log_density\n",
        {},
    ),
    (
        "means in place of draws for the regularizer",
        "self.draw(observation, current[n])",
        "self.draw(observation, 0 * current[n])",
        {},
    ),
    (
        "a policy of the critics after their step",
        "        self.step(self.policy_optimizer, policy_loss)\n"
        "        self.step(self.critic_optimizer, critic_loss)\n",
        "        self.step(self.critic_optimizer, critic_loss)\n"
        "        policy_loss = self.policy_losses(rows, action)[1]\n"
        "        self.step(self.policy_optimizer, policy_loss)\n",
        {},
    ),
    (
        "critics of the policy after its step",
        "        self.step(self.critic_optimizer, critic_loss)\n",
        "        critic_loss = self.critic_losses(rows, *others)[0]\n"
        "        self.step(self.critic_optimizer, critic_loss)\n",
        {},
    ),
    (
        "a policy of the entropy weight after its step",
        "        self.step(self.policy_optimizer, policy_loss)\n",
        "        policy_loss = self.policy_losses(rows, action)[1]\n"
        "        self.step(self.policy_optimizer, policy_loss)\n",
        {},
    ),
    (
        "following actions drawn at the observation",
        'self.draw(self.data["next_observations"][row], following[n])',
        "self.draw(observation, following[n])",
        {},
    ),
    (
        "the mean of the exponentials",
        "torch.log(sum(terms))",
        "torch.log(sum(terms) / len(terms))",
        LAGRANGE,
    ),
    (
        "no value of the dataset's action among the others",
        "if not self.settings.importance_sampling:",
        "if False:",
        {"importance_sampling": False},
    ),
    (
        "no value of the dataset's action to compare with",
        "torch.log(sum(terms)) - q_data",
        "torch.log(sum(terms))",
        {},
    ),
    (
        "a value of the dataset's action that does not learn",
        "torch.log(sum(terms)) - q_data",
        "torch.log(sum(terms)) - q_data.detach()",
        {},
    ),
    (
        "the regularizer's sum over the batch",
        "self.regularizer(critic, row, *samples) / size",
        "self.regularizer(critic, row, *samples)",
        {},
    ),
    (
        "the critics' summed error",
        "(value - targets[b]) ** 2 / size",
        "(value - targets[b]) ** 2",
        {},
    ),
    (
        "a Lagrange weight without its gap",
        "(regularizer - settings.lagrange_gap)",
        "regularizer",
        LAGRANGE,
    ),
    (
        "a Lagrange weight that falls where it should rise",
        "lagrange_loss - lagrange_weight * excess.detach() / 2",
        "lagrange_loss + lagrange_weight * excess.detach() / 2",
        LAGRANGE,
    ),
    (
        "a Lagrange weight that learns as fast as the policy",
        "adam([self.log_lagrange], lr=settings.critic_learning_rate)",
        "adam([self.log_lagrange], lr=settings.policy_learning_rate)",
        LAGRANGE,
    ),
    (
        "a Lagrange weight that the critics do not feel",
        "critic_loss + lagrange_weight.detach() * excess",
        "critic_loss + excess",
        LAGRANGE,
    ),
    (
        "an entropy weight that learns as fast as the critics",
        "adam([self.log_alpha], lr=settings.policy_learning_rate)",
        "adam([self.log_alpha], lr=settings.critic_learning_rate)",
        {},
    ),
    (
        "a multiplier that is not learned",
        "[*self.policy.parameters(), self.multiplier, self.offset]",
        "[*self.policy.parameters(), self.offset]",
        {},
    ),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake[0])
def test_a_planted_mistake_is_noticed(mistake):
    _, line, mistaken_line, changes = mistake
    mistaken = with_mistake(oracle_cql, line, mistaken_line)
    with pytest.raises(AssertionError, match="not close"):
        assert_same_training(configuration(**changes), mistaken.Cql)


def test_a_planted_bound_of_the_log_stds_is_noticed():
    mistaken = with_mistake(oracle_cql, "-20.0, 2.0", "-20.0, 3.0")
    with pytest.raises(AssertionError, match="not close"):
        assert_same_training(configuration(), mistaken.Cql, log_std_offset=1.0)


def test_the_squashed_mean_is_acted():
    state, oracle = assert_same_training(configuration())
    observations = transitions().next_observations[:7]
    expected = torch.stack([oracle.act(observation).detach() for observation in observations])
    assert_close(cql.act(state, observations, configuration(), rng(9)), expected)
    assert expected.abs().amax() < 1


# Numbers worked out by hand.


def hand_made(q, mean=0.0, std=1.0, action_dim=3, log_lagrange=0.0):
    """Networks that say the same whatever they are asked, of one observation dimension."""
    critics = tree_map(lambda leaf: leaf.expand(2, *leaf.shape), constant([q], 1 + action_dim))
    policy = constant([mean] * action_dim + [math.log(std)] * action_dim)
    one, zero = torch.tensor(1.0), torch.tensor(0.0)
    return cql.State(
        critics=network(critics),
        target_critics=critics,
        policy=network((policy, one, zero)),
        entropy_weight=network(zero),
        lagrange_weight=network(torch.tensor(log_lagrange)),
    )


class Still(Silent):
    """No noise, and random actions in the middle of the box."""

    def uniform(self, stream, shape):
        return torch.full(shape, 0.5)


# Of a normal whose density at its mean is 0.5, the density of random actions; and where the mean
# is 0, tanh has a slope of 1 there.
HALF = 2 / math.sqrt(2 * math.pi)


def losses(config, q=3.0, **hand):
    """The metrics of rows that end with a reward of q: the critics have no Bellman error."""
    data = dataset([[0.1, 0.2, 0.3]] * 4, rewards=[q] * 4, terminations=[1.0] * 4)
    state = hand_made(q, std=HALF, **hand)
    return cql.update(state, data, config, Still())[1]


@pytest.mark.parametrize(
    ("importance_sampling", "regularizer"), [(True, 5.480639), (False, 3.433987)]
)
@pytest.mark.parametrize("q", [0.0, -7.0, 12.0])
def test_the_regularizer_of_constant_critics_is_a_known_number(importance_sampling, regularizer, q):
    """Ten actions of each kind, every one of density 0.5^3: log 30 + 3 log 2; without, log 31."""
    config = cql.Config(importance_sampling=importance_sampling, batch_size=4)
    metrics = losses(config, q)
    assert metrics["critics/loss"].item() == pytest.approx(10 * 2 * regularizer, abs=1e-4)


def test_the_lagrange_weight_multiplies_what_exceeds_the_gap():
    """e of 5 (5.480639 - 0.8) for each of two critics."""
    config = cql.Config(lagrange=True, lagrange_gap=0.8, regularizer_weight=5.0, batch_size=4)
    metrics = losses(config, log_lagrange=1.0)
    assert metrics["critics/excess"].item() == pytest.approx(4.680639, abs=1e-6)
    assert metrics["critics/lagrange_weight"].item() == pytest.approx(math.e)
    expected = math.e * 5 * 2 * 4.680639
    assert metrics["critics/loss"].item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("gap", "direction"), [(5.0, 1), (6.0, -1)])
def test_the_lagrange_weight_rises_while_the_gap_is_exceeded(gap, direction):
    config = cql.Config(lagrange=True, lagrange_gap=gap, batch_size=4, critic_learning_rate=0.01)
    data = dataset([[0.1, 0.2, 0.3]] * 4, rewards=[3.0] * 4, terminations=[1.0] * 4)
    state, _ = cql.update(hand_made(3.0, std=HALF), data, config, Still())
    assert state.lagrange_weight.params.item() == pytest.approx(0.01 * direction)


def test_the_lagrange_weight_has_a_ceiling_of_a_million():
    config = cql.Config(lagrange=True, lagrange_gap=5.0, batch_size=4)
    metrics = losses(config, log_lagrange=20.0)
    assert metrics["critics/lagrange_weight"].item() == 1e6
    assert metrics["critics/loss"].item() == pytest.approx(1e6 * 10 * 2 * 0.480639, rel=1e-5)


def test_without_lagrange_its_weight_rests():
    state = hand_made(3.0)
    data = dataset([[0.1, 0.2, 0.3]] * 4)
    after, metrics = cql.update(state, data, cql.Config(batch_size=4), Still())
    assert after.lagrange_weight.params.item() == 0.0
    assert after.lagrange_weight.first_moment.item() == 0.0
    assert "critics/lagrange_weight" not in metrics


def test_the_policys_loss_and_the_entropy_weight_by_hand():
    """Density 0.5^3 and Q = 3; the entropy, 3 log 2, is above -3, so its weight falls."""
    config = cql.Config(batch_size=4, policy_learning_rate=0.01)
    data = dataset([[0.1, 0.2, 0.3]] * 4)
    after, metrics = cql.update(hand_made(3.0, std=HALF), data, config, Still())
    assert metrics["policy/entropy"].item() == pytest.approx(3 * math.log(2))
    assert metrics["policy/loss"].item() == pytest.approx(3 * math.log(0.5) - 3)
    assert after.entropy_weight.params.item() == pytest.approx(-0.01)
    assert after.entropy_weight.first_moment.item() == pytest.approx(0.1 * (3 * math.log(2) + 3))


def test_the_target_has_no_entropy_and_ends_with_the_episode():
    data = dataset([[0.0] * 3] * 4, rewards=[1.0, 1.0, 2.0, 2.0], terminations=[0.0, 1.0, 0.0, 1.0])
    config = cql.Config(batch_size=4, discount=0.5)
    _, metrics = cql.update(hand_made(3.0), data, config, Still())
    assert metrics["critics/target_q"].item() == pytest.approx((2.5 + 1 + 3.5 + 2) / 4)


def test_a_critic_far_above_the_rest_at_the_datasets_actions_is_not_regularized():
    """Q = 1000 a: the log of the sum is the largest of its terms, which the dataset's action is."""
    config = cql.Config(importance_sampling=False, batch_size=1, regularizer_weight=1.0)
    state = hand_made(0.0, action_dim=1)
    weight = torch.tensor([[0.0, 1000.0]]).expand(2, 1, 2)
    critics = [(weight, torch.zeros(2, 1))]
    state = state._replace(critics=network(critics), target_critics=critics)
    data = dataset([[1.0]], rewards=[1000.0], terminations=[1.0])
    _, metrics = cql.update(state, data, config, Still())
    assert metrics["critics/loss"].item() == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("slope", [50.0, -50.0])
def test_random_actions_fill_the_box(slope):
    """Q = 50 a: of 400 uniform actions e^50 is exceeded by none, and the sum is about 4 e^50."""
    config = cql.Config(importance_sampling=False, batch_size=1, num_actions=400)
    state = hand_made(0.0, std=1e-3, action_dim=1)  # the policy's and the dataset's Q are near 0
    critics = [(torch.tensor([[0.0, slope]]).expand(2, 1, 2), torch.zeros(2, 1))]
    state = state._replace(critics=network(critics), target_critics=critics)
    _, metrics = cql.update(state, dataset([[0.0]], terminations=[1.0]), config, rng())
    regularizer = metrics["critics/loss"].item() / (2 * config.regularizer_weight)
    assert regularizer == pytest.approx(math.log(4) + 50, abs=1.0)


def test_log_stds_have_bounds():
    """Entropies of normals of std e^2 at 0 and e^-20, where tanh has a slope of 1."""
    data, config = dataset([[0.0]]), cql.Config(batch_size=1)
    for log_std, bound in ((5.0, 2.0), (-30.0, -20.0), (1.5, 1.5)):
        state = hand_made(0.0, std=math.exp(log_std), action_dim=1)
        _, metrics = cql.update(state, data, config, Still())
        expected = bound + 0.5 * math.log(2 * math.pi)
        assert metrics["policy/entropy"].item() == pytest.approx(expected)


def test_the_networks_start_as_corls():
    state = cql.init(17, 6, cql.Config(), rng(phase="init"))
    layers, multiplier, offset = state.policy.params
    assert [tuple(weight.shape) for weight, _ in layers] == [
        *((256, 17), (256, 256), (256, 256)),
        (12, 256),
    ]
    assert (multiplier.item(), offset.item()) == (1.0, -1.0)
    assert (state.entropy_weight.params.item(), state.lagrange_weight.params.item()) == (0.0, 1.0)
    bound = 0.01 * math.sqrt(6 / (256 + 12))  # Xavier's
    assert 0.95 * bound < layers[-1][0].abs().amax().item() <= bound
    assert 0.95 / math.sqrt(17) < layers[0][0].abs().amax().item() <= 1 / math.sqrt(17)
    assert_close(state.target_critics, state.critics.params, rtol=0, atol=0)
    for critic in members(state.critics.params):
        (first, bias), *middle, (last, _) = critic
        assert_close(first.T @ first, 2 * torch.eye(23))
        assert all(
            torch.allclose(weight @ weight.T, 2 * torch.eye(256), atol=1e-9) for weight, _ in middle
        )
        assert (last @ last.T).item() == pytest.approx(1e-4)
        assert bias.abs().amax() == 0
    first, second = members(state.critics.params)
    assert not torch.isclose(first[1][0], second[1][0]).any()


@pytest.mark.parametrize(
    "setting",
    [
        {"num_actions": 0},
        {"regularizer_weight": -1.0},
        {"discount": 1.5},
        {"tau": 0.0},
        {"batch_size": 0},
        {"critic_learning_rate": -3e-4},
        {"policy_learning_rate": 0.0},
        {"hidden_sizes": (256, 0)},
    ],
    ids=str,
)
def test_what_cannot_be_run_is_refused(setting):
    assert_refused(cql.Config, **setting)


def test_a_lagrange_gap_and_lagrange_need_each_other():
    with pytest.raises(ConfigError, match=r"lagrange_gap=0\.8.*lagrange"):
        cql.Config(lagrange_gap=0.8)
    with pytest.raises(ConfigError, match=r"lagrange_gap=0\.0.*above 0"):
        cql.Config(lagrange=True)
    with pytest.raises(ConfigError, match=r"lagrange_gap=-0\.8"):
        cql.Config(lagrange=True, lagrange_gap=-0.8)
    assert cql.Config(lagrange=True, lagrange_gap=0.8).lagrange_gap == 0.8
