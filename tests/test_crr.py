"""CRR against an independent implementation, against hand-worked numbers, and in its guide."""

import math
import re
from pathlib import Path

import oracle_crr
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

from lom_exp.algorithms import crr
from lom_exp.networks import network
from lom_exp.random import Rng

pytestmark = pytest.mark.usefixtures("float64")

UPDATES = 6  # the targets move after the third and the sixth


def configuration(**changes):
    """A ceiling that some rows reach, and targets that lag behind."""
    settings = {
        "temperature": 0.8,
        "max_weight": 1.3,
        "num_value_samples": 4,
        "discount": 0.9,
        "target_update_period": 3,
        "min_log_std": -2.0,
        "max_log_std": 0.5,
        "critic_learning_rate": 0.03,
        "policy_learning_rate": 0.02,
        "batch_size": 8,
        "hidden_sizes": (9, 10),
    }
    return crr.Config(**{**settings, **changes})


def initial_state(config):
    """Larger weights than torch's, and targets of their own."""
    state = crr.init(OBSERVATION_DIM, ACTION_DIM, config, rng(phase="init"))
    critics, policy = scaled(state.critics.params, 2.5), scaled(state.policy.params, 2.0)
    return crr.State(network(critics), scaled(critics, 1.2), network(policy), scaled(policy, 0.7))


def assert_same_training(config, oracle_class=oracle_crr.Crr):
    """Train both; after every update compare metrics and parameters; returns all metrics."""
    data, state = transitions(), initial_state(config)
    oracle = oracle_class(
        config,
        data._asdict(),
        critic=members(state.critics.params)[0],
        target_critic=members(state.target_critics)[0],
        policy=state.policy.params,
        target_policy=state.target_policy,
    )
    history = []
    for update in range(UPDATES):
        random, shape = rng(update), (config.batch_size, ACTION_DIM)
        rows = random.integers("batch", SIZE, shape[:1])
        noises = random.normal("actions", (config.num_value_samples, *shape))
        theirs = oracle.update_policy(rows, noises)
        theirs |= oracle.update_critic(rows, random.normal("next_action", shape))
        oracle.update_targets(update)
        ours = {}
        for one_of_them in crr.phases["policy"]:
            state, metrics = one_of_them(state, data, config, random)
            ours |= metrics
        assert_same_metrics(ours, theirs)
        assert_same("critic", members(state.critics.params)[0], layers_of(oracle.critic))
        assert_same("target", members(state.target_critics)[0], layers_of(oracle.target_critic))
        assert_same("policy", state.policy.params, layers_of(oracle.policy))
        assert_same("target policy", state.target_policy, layers_of(oracle.target_policy))
        history.append(ours)
    return history


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"weighting": "binary"},
        {"baseline": "max"},
        {"weighting": "binary", "baseline": "max"},
        {"max_weight": 1e9, "num_value_samples": 1},
    ],
    ids=str,
)
def test_training_equals_the_oracles(changes):
    assert_same_training(configuration(**changes))


def test_of_the_compared_rows_some_pass_the_binary_filter_and_some_do_not():
    shares = [
        metrics["policy/weight"]
        for metrics in assert_same_training(configuration(weighting="binary"))
    ]
    assert min(shares) > 0
    assert max(shares) < 1


# (what is wrong, the oracle's line, the line with the mistake, settings under which it matters)
MISTAKES = [
    (
        "targets that follow one update early",
        "(update + 1) % self.settings.target_update_period == 0",
        "update % self.settings.target_update_period == 0",
        {},
    ),
    (
        "no terminal mask",
        'if not self.data["terminations"][row]:',
        "if True:",
        {},
    ),
    (
        "no discount",
        "target += self.settings.discount * next_q",
        "target += next_q",
        {},
    ),
    (
        "the next action of the policy itself",
        "self.sample(self.target_policy, following, next_noises[b])",
        "self.sample(self.policy, following, next_noises[b])",
        {},
    ),
    (
        "the mean next action",
        "self.sample(self.target_policy, following, next_noises[b])",
        "self.sample(self.target_policy, following, 0 * next_noises[b])",
        {},
    ),
    (
        "the dataset's next action",
        "self.sample(self.target_policy, following, next_noises[b])",
        'self.data["next_actions"][row]',
        {},
    ),
    (
        "targets of the critic itself",
        "self.q(self.target_critic, following, next_action)",
        "self.q(self.critic, following, next_action)",
        {},
    ),
    (
        "a critic's loss summed over rows",
        "loss = sum(errors) / len(errors)",
        "loss = sum(errors)",
        {},
    ),
    (
        "a target critic that stays",
        "self.target_critic.load_state_dict(self.critic.state_dict())",
        "pass",
        {},
    ),
    (
        "a target policy that stays",
        "self.target_policy.load_state_dict(self.policy.state_dict())",
        "pass",
        {},
    ),
    (
        "a baseline of the mean action",
        "self.sample(self.policy, observation, noise)",
        "self.sample(self.policy, observation, 0 * noise)",
        {},
    ),
    (
        "a baseline of the target policy's actions",
        "self.sample(self.policy, observation, noise)",
        "self.sample(self.target_policy, observation, noise)",
        {},
    ),
    (
        "a baseline of the target critic",
        "self.q(self.critic, observation, own_action)",
        "self.q(self.target_critic, observation, own_action)",
        {},
    ),
    (
        "drawn actions that leave the box",
        "clip(torch.stack(action), -1.0, 1.0)",
        "torch.stack(action)",
        {},
    ),
    (
        "the sum of the drawn values",
        "baseline = sum(values) / len(values)",
        "baseline = sum(values)",
        {},
    ),
    (
        "the mean in place of the maximum",
        "baseline = max(values)",
        "pass",
        {"baseline": "max"},
    ),
    (
        "an advantage of the target critic",
        "self.q(self.critic, observation, action) - baseline, baseline",
        "self.q(self.target_critic, observation, action) - baseline, baseline",
        {},
    ),
    (
        "an indicator upside down",
        "if advantage > 0 else",
        "if advantage < 0 else",
        {"weighting": "binary"},
    ),
    (
        "a temperature that multiplies",
        "torch.exp(advantage / self.settings.temperature)",
        "torch.exp(advantage * self.settings.temperature)",
        {},
    ),
    (
        "weights without a ceiling",
        "min(weight, torch.tensor(self.settings.max_weight))",
        "weight",
        {},
    ),
    (
        "a mean that no tanh bounds",
        "means.append(torch.tanh(outputs[j]))",
        "means.append(outputs[j])",
        {},
    ),
    (
        "stds that are clipped in place of squashed",
        "low + (high - low) * position",
        "clip(outputs[self.action_dim + j], low, high)",
        {},
    ),
    (
        "an unweighted policy",
        "-weight * self.log_pi(observation, action)",
        "-self.log_pi(observation, action)",
        {},
    ),
    (
        "weights that are learned through",
        "with torch.no_grad():\n                advantage,",
        "with torch.enable_grad():\n                advantage,",
        {},
    ),
    (
        "a policy loss summed over rows",
        "loss = sum(losses) / len(losses)",
        "loss = sum(losses)",
        {},
    ),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake[0])
def test_a_planted_mistake_is_noticed(mistake):
    _, line, mistaken_line, changes = mistake
    mistaken = with_mistake(oracle_crr, line, mistaken_line)
    with pytest.raises(AssertionError, match="not close"):
        assert_same_training(configuration(**changes), mistaken.Crr)


class Handed(Rng):
    """Normal noises as given, (S, 1, 1), for each of the rows; all else is drawn."""

    noises = torch.zeros(1, 1, 1)

    def normal(self, stream, shape):
        return self.noises.expand(shape)


def handed(*noises):
    random = Handed(*rng())
    random.noises = torch.tensor(noises)[:, None, None]
    return random


def by_hand(slope=1.0, mean=0.0, **settings):
    """One observation and one action dimension, a critic that says slope a, and a std of 1."""
    bounds = {"min_log_std": -1.0, "max_log_std": 1.0, "hidden_sizes": (4,)}
    config = crr.Config(**{**bounds, **settings})
    state = with_critics(crr.init(1, 1, config, rng(phase="init")), linear_critics(slope, count=1))
    policy = constant([math.atanh(mean), 0.0])
    return state._replace(policy=network(policy), target_policy=policy), config


def policy_loss(random, actions, **settings):
    state, config = by_hand(**settings)
    return crr.update_policy(state, dataset(actions), config, random)[1]["policy/loss"].item()


def test_the_binary_filter_imitates_only_what_is_better_than_the_policys_own_action():
    """The own action is 0.5: 1 passes, 0 does not. (log(2 pi) / 2 + 0.125) / 2 = 0.521969."""
    loss = policy_loss(Silent(), [[1.0], [0.0]], mean=0.5, weighting="binary")
    assert loss == pytest.approx(0.521969, abs=1e-6)


def test_an_action_as_good_as_the_policys_own_does_not_pass_the_binary_filter():
    assert policy_loss(Silent(), [[0.5]], slope=0.0, weighting="binary") == 0


def test_the_exponential_filter_weighs_by_e_to_the_advantage_over_temperature_up_to_its_ceiling():
    """The own action is 0, advantages are 4 and -4 in units of the temperature."""
    for action, weight in ((1.0, 20.0), (-1.0, math.exp(-4))):
        loss = policy_loss(Silent(), [[action]], slope=2.0, temperature=0.5)
        assert loss == pytest.approx(weight * (0.918939 + 0.5), rel=1e-5)


def test_the_value_is_the_mean_or_the_maximum_over_the_drawn_actions():
    """Actions -1, 1 and 1 are drawn, with values of as much: 1/3 or 1. The action is worth 0.5."""
    random, settings = handed(-1.0, 1.0, 7.0), {"num_value_samples": 3, "weighting": "binary"}
    assert policy_loss(random, [[0.5]], baseline="mean", **settings) > 0
    assert policy_loss(random, [[0.5]], baseline="max", **settings) == 0


def test_the_targets_are_copied_in_every_hundredth_update():
    state, config = by_hand(mean=0.5)
    state = state._replace(target_policy=scaled(state.target_policy, 3.0))
    for update, moved in ((0, False), (98, False), (99, True), (100, False), (199, True)):
        after, _ = crr.update_targets(state, transitions(), config, rng(update))
        assert torch.equal(after.target_policy[0][1], state.policy.params[0][1]) == moved


def test_the_target_ignores_what_follows_an_end():
    """The next action is 0.5 and worth 2: 1 + 0.9 * 2 where the episode goes on."""
    state, config = by_hand(slope=4.0, mean=0.5, discount=0.9)
    data = dataset([[0.0], [0.0]])._replace(rewards=torch.ones(2))
    for terminations, expected in (([0.0, 0.0], 2.8), ([1.0, 1.0], 1.0)):
        ended = data._replace(terminations=torch.tensor(terminations))
        _, metrics = crr.update_critics(state, ended, config, Silent())
        assert metrics["critics/target_q"].item() == pytest.approx(expected)


def test_a_critic_weighted_action_is_drawn_by_its_share_of_the_exponential_values():
    """Of actions -1 and 1 worth -0.5 and 0.5, e / (1 + e) = 0.731059 choose the latter."""
    state, config = by_hand(slope=0.5, num_value_samples=2, evaluation_action="critic_weighted")
    actions = crr.act(state, torch.zeros(5000, 1), config, handed(-1.0, 1.0))
    assert actions.shape == (5000, 1)
    assert set(actions.flatten().tolist()) == {-1.0, 1.0}
    share = (actions > 0).double().mean().item()
    assert share == pytest.approx(0.731059, abs=0.025)  # four standard errors


def test_by_default_the_mean_is_played_whatever_the_random_numbers():
    state, config = by_hand(mean=0.5)
    for update in (0, 1):
        action = crr.act(state, torch.zeros(1, 1), config, rng(update))
        assert action.item() == pytest.approx(0.5)


def learned(**settings):
    """The action for the one observation of a bandit whose action 0.7 pays 1 and -0.7 nothing."""
    data = dataset([[0.7], [-0.7]] * 8, rewards=[1.0, 0.0] * 8, terminations=[1.0] * 16)
    rates = {"critic_learning_rate": 0.02, "policy_learning_rate": 0.02}
    config = crr.Config(**settings, **rates, hidden_sizes=(8,))
    state = crr.init(1, 1, config, rng(phase="init"))
    for update in range(200):
        for one_of_them in crr.phases["policy"]:
            state, _ = one_of_them(state, data, config, rng(update))
    return crr.act(state, torch.zeros(1, 1), config, rng()).item()


def test_of_two_actions_the_better_one_is_learned_and_without_a_critic_their_mean():
    assert learned(weighting="binary") > 0.5
    assert learned(temperature=0.1) > 0.5
    assert learned(temperature=1e6) == pytest.approx(0, abs=0.05)


ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "adding-an-algorithm.md").read_text()
FILES = re.findall(r"`((?:lom_exp|conf|tests|docs|benchmarks)/[\w./-]*)`", GUIDE)


def excerpts(language):
    """The guide's blocks of code, cut where lines are left out."""
    blocks = re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    return [part for block in blocks for part in re.split(r"^ *\.\.\.,?\n", block, flags=re.M)]


def test_the_guide_names_files_that_exist():
    assert len(FILES) > 15
    assert [name for name in FILES if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(
    "excerpt", excerpts("python") + excerpts("yaml"), ids=lambda text: text[:40]
)
def test_an_excerpt_of_the_guide_is_what_a_file_of_crr_says(excerpt):
    written = [ROOT / name for name in FILES if "crr" in name]
    assert any(excerpt in path.read_text() for path in written)


def test_the_guides_commands_choose_what_exists():
    commands = " ".join(excerpts("bash")).replace("\\\n", " ")
    chosen = re.findall(r"(algo|env|network)=(\S+)", commands)
    assert chosen
    for group, options in chosen:
        for option in options.split(","):
            assert (ROOT / "conf" / group / f"{option}.yaml").is_file()
    for name in re.findall(r"(?:tests|benchmarks)/\w+\.py", commands):
        assert (ROOT / name).is_file()
