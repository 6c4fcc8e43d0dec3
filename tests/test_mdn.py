"""The mixture density network as a policy: its oracle, hand-worked numbers, and its draws."""

import math
from dataclasses import replace

import oracle_mdn
import pytest
import torch
from comparison import (
    ACTION_DIM,
    OBSERVATION_DIM,
    SIZE,
    assert_same,
    assert_same_metrics,
    rng,
    scaled,
    transitions,
    with_mistake,
)
from lom_by_hand import behavior, dataset
from oracle_lom import layers_of
from test_validation import NAN, assert_refused
from torch.testing import assert_close

from lom_exp.algorithms import mdn
from lom_exp.networks import network

pytestmark = pytest.mark.usefixtures("float64")

UPDATES = 6
BOTH_ACTIONS = ("ancestral", "best_component")


def configuration(**changes):
    """Bounds of the log-stds that bind for some components and for some not."""
    settings = {
        "num_components": 4,
        "min_log_std": -0.4,
        "max_log_std": 0.2,
        "learning_rate": 0.02,
        "batch_size": 8,
        "hidden_sizes": (9, 10),
    }
    return mdn.Config(**{**settings, **changes})


def initial_state(config):
    state = mdn.init(OBSERVATION_DIM, ACTION_DIM, config, rng(phase="init"))
    return state._replace(policy=network(scaled(state.policy.params, 2.0)))


def known(weights, means, stds):
    """A policy of these components (M), (M, A), (M, A)."""
    return mdn.State(behavior(weights, means, stds), torch.ones(len(weights)))


def assert_same_training(config, module=oracle_mdn):
    """Train both, then let them act; compare metrics, parameters and actions."""
    data, state = transitions(), initial_state(config)
    oracle = module.Mdn(config, data._asdict(), state.policy.params)
    for update in range(UPDATES):
        random = rng(update)
        state, ours = mdn.update_policy(state, data, config, random)
        rows = random.integers("policy/batch", SIZE, (config.batch_size,))
        assert_same_metrics(ours, oracle.update_policy(rows))
        assert_same("policy", state.policy.params, layers_of(oracle.policy))
        assert state.components.tolist() == [1.0] * config.num_components
    random = rng(9, "evaluation")
    actions = mdn.act(state, data.observations, config, random)
    uniforms = random.uniform("component", (SIZE,))
    noises = random.normal("action", (SIZE, ACTION_DIM))
    theirs = [oracle.act(*each) for each in zip(data.observations, uniforms, noises, strict=True)]
    assert_same("actions", actions, torch.stack(theirs))


SWITCHES = [
    {"num_components": 1},
    {"squash_means": False},
    {"min_log_std": -15.0, "max_log_std": 0.0},
]


@pytest.mark.parametrize("evaluation_action", BOTH_ACTIONS)
@pytest.mark.parametrize("changes", [{}, *SWITCHES], ids=str)
def test_training_and_actions_equal_the_oracles(changes, evaluation_action):
    assert_same_training(configuration(evaluation_action=evaluation_action, **changes))


# (what is wrong, the oracle's line, the line with the mistake, settings under which it matters)
MISTAKES = [
    (
        "means that are not squashed",
        "if settings.squash_means:",
        "if False:",
        {},
    ),
    (
        "log-stds without bounds",
        "torch.exp(clip(log_std, low, high))",
        "torch.exp(log_std)",
        {},
    ),
    (
        "weights that do not add up to one",
        "return [each / sum(exponentials) for each in exponentials], means, stds",
        "return exponentials, means, stds",
        {},
    ),
    (
        "the mean of the components' log-likelihoods",
        "density = density + product",
        "density = (density or 1.0) * product ** (1 / len(means))",
        {},
    ),
    (
        "components of equal weight",
        "product = weight\n",
        "product = 1 / self.settings.num_components\n",
        {},
    ),
    (
        "the summed loss",
        "loss = loss - torch.log(density) / len(rows)",
        "loss = loss - torch.log(density)",
        {},
    ),
    (
        "the loss averaged over action dimensions",
        "loss = loss - torch.log(density) / len(rows)",
        "loss = loss - torch.log(density) / len(rows) / self.action_dim",
        {},
    ),
    (
        "the component of smallest weight",
        "weights.index(max(weights))",
        "weights.index(min(weights))",
        {"evaluation_action": "best_component"},
    ),
    (
        "the same component for every draw",
        "while uniform >= below:",
        "while 0.5 >= below:",
        {},
    ),
    (
        "draws without noise",
        "torch.stack(means[chosen]) + torch.stack(stds[chosen]) * noise",
        "torch.stack(means[chosen])",
        {},
    ),
    (
        "actions that leave the box",
        "return clip(action, -1.0, 1.0).detach()",
        "return action.detach()",
        {},
    ),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake[0])
def test_a_planted_mistake_is_noticed(mistake):
    _, line, mistaken_line, changes = mistake
    mistaken = with_mistake(oracle_mdn, line, mistaken_line)
    with pytest.raises(AssertionError, match="not close"):
        assert_same_training(configuration(**changes), mistaken)


@pytest.mark.parametrize(("std", "action", "loss"), [(1.0, 0.0, 1.418939), (0.1, 0.9, -0.190499)])
def test_the_loss_of_two_known_components(std, action, loss):
    config = mdn.Config(num_components=2, squash_means=False)
    state = known([0.5, 0.5], [[1.0], [-1.0]], [[std], [std]])
    _, metrics = mdn.update_policy(state, dataset([[action]]), config, rng())
    assert metrics["policy/loss"].item() == pytest.approx(loss, abs=1e-6)


def test_both_modes_are_found_and_their_best_loss():
    """Actions N(0.5, 0.1^2) and N(-0.5, 0.1^2), one as often as the other: -0.190499."""
    quantiles = torch.special.ndtri((torch.arange(200) + 0.5) / 200)
    quantiles = 0.1 * quantiles / quantiles.std(correction=0)
    data = dataset(torch.cat((quantiles + 0.5, quantiles - 0.5))[:, None])
    state = known([0.4, 0.6], [[0.2], [-0.1]], [[0.4], [0.4]])
    for update in range(500):
        rate = 0.02 if update < 400 else 0.001
        config = mdn.Config(num_components=2, squash_means=False, learning_rate=rate)
        state, metrics = mdn.update_policy(state, data, config, rng(update))
    assert metrics["policy/loss"].item() == pytest.approx(-0.190499, abs=1e-4)
    drawn = mdn.act(state, torch.zeros(500, 1), config, rng())
    assert (drawn.abs() > 0.1).all()  # four stds from either mode, and none of their mean
    assert 200 < (drawn > 0).sum() < 300
    best = mdn.act(
        state, torch.zeros(1, 1), replace(config, evaluation_action="best_component"), rng()
    )
    assert best.abs().item() == pytest.approx(0.5, abs=1e-3)


WEIGHTS, MEANS = [0.2, 0.5, 0.05, 0.25], [[-0.6], [-0.2], [0.2], [0.6]]
NARROW = mdn.Config(num_components=4, squash_means=False)


def narrow():
    return known(WEIGHTS, MEANS, [[0.01]] * 4)


def test_components_are_drawn_as_often_as_they_weigh():
    """Of 40,000 draws; five standard errors of the commonest are 0.0125."""
    actions = mdn.act(narrow(), torch.zeros(40_000, 1), NARROW, rng(phase="evaluation"))
    nearest = (actions - torch.tensor(MEANS).T).abs().argmin(1)
    frequencies = nearest.bincount(minlength=4) / len(nearest)
    assert_close(frequencies, torch.tensor(WEIGHTS), atol=0.0125, rtol=0)
    errors = (actions - torch.tensor(MEANS)[nearest]) / 0.01
    assert errors.mean().item() == pytest.approx(0.0, abs=0.025)
    assert errors.std().item() == pytest.approx(1.0, abs=0.02)


def test_each_draw_is_another_and_the_best_component_always_the_same():
    observations = torch.zeros(50, 1)
    one = mdn.act(narrow(), observations, NARROW, rng(0, "evaluation"))
    other = mdn.act(narrow(), observations, NARROW, rng(1, "evaluation"))
    assert not torch.equal(one, other)
    assert len(one.unique()) == 50
    best = replace(NARROW, evaluation_action="best_component")
    for update in (0, 1):
        actions = mdn.act(narrow(), observations, best, rng(update, "evaluation"))
        assert_close(actions, torch.full((50, 1), -0.2))


class Given:
    """In place of an Rng: the same uniform number everywhere, and no noise."""

    def __init__(self, uniform):
        self.number = uniform

    def uniform(self, stream, shape):
        return torch.full(shape, self.number)

    def normal(self, stream, shape):
        return torch.zeros(shape)


@pytest.mark.parametrize(
    ("uniform", "action"),
    [(0.0, -0.6), (0.19, -0.6), (0.21, -0.2), (0.69, -0.2), (0.72, 0.2), (0.76, 0.6)],
)
def test_a_component_is_where_the_uniform_number_falls(uniform, action):
    drawn = mdn.act(narrow(), torch.zeros(2, 1), NARROW, Given(uniform))
    assert_close(drawn, torch.full((2, 1), action))


@pytest.mark.parametrize("room", [0, 2])
def test_the_largest_uniform_number_draws_a_component_though_weights_are_rounded(room):
    """In float32 a third of these weights add up to no more than the largest number below 1."""
    generator = torch.Generator().manual_seed(0)
    m = 10 + room  # beyond the ten that there are
    weight = torch.zeros(m, 3, 10)
    weight[:10, 2] = torch.eye(10)  # the logits are the observation
    bias = torch.stack((torch.arange(m) / 10, torch.full((m,), -5.0), torch.zeros(m)), -1)
    policy = network([(weight.view(3 * m, 10).float(), bias.flatten().float())])
    state = mdn.State(policy, (torch.arange(m) < 10).float())
    observations = torch.randn(50, 10, generator=generator).float()
    config = mdn.Config(num_components=10, squash_means=False)
    torch.set_default_dtype(torch.float32)  # the fixture sets it back
    drawn = mdn.act(state, observations, config, Given(1 - 2.0**-24))
    assert (observations.softmax(-1).sum(-1) < 1).any()
    assert_close(drawn, torch.full((50, 1), 0.9))


def test_actions_stay_in_the_box():
    state = known([1.0], [[5.0, -5.0]], [[1.0, 1.0]])
    for evaluation_action in BOTH_ACTIONS:
        config = mdn.Config(1, squash_means=False, evaluation_action=evaluation_action)
        actions = mdn.act(state, torch.zeros(3, 1), config, rng())
        assert_close(actions, torch.tensor([[1.0, -1.0]]).expand(3, 2))


def test_the_network_has_the_size_of_the_equations():
    """M (2 A + 1) outputs; 304,710 parameters for O 11, A 3 and M 10."""
    layers = mdn.init(11, 3, mdn.Config(num_components=10), rng(phase="init")).policy.params
    assert layers[-1][0].shape == (70, 512)
    assert sum(weight.numel() + bias.numel() for weight, bias in layers) == 304_710


def test_one_component_is_a_gaussian():
    config = mdn.Config(num_components=1, squash_means=False)
    state = known([1.0], [[0.0, 0.0]], [[1.0, 1.0]])
    _, metrics = mdn.update_policy(state, dataset([[0.6, -0.8]]), config, rng())
    assert metrics["policy/loss"].item() == pytest.approx(math.log(2 * math.pi) + 0.5)


@pytest.mark.parametrize(
    "setting",
    [
        {"num_components": 0},
        {"min_log_std": 0.0},
        {"max_log_std": NAN},
        {"evaluation_action": "best_components"},
        {"evaluation_action": "mode"},
        {"learning_rate": 0.0},
        {"learning_rate": -1e-3},
        {"batch_size": 0},
        {"hidden_sizes": ()},
    ],
    ids=str,
)
def test_what_cannot_be_run_is_refused(setting):
    assert_refused(mdn.Config, **setting)


def test_the_defaults_are_the_published_settings():
    assert mdn.Config() == mdn.Config(
        num_components=10,
        squash_means=True,
        min_log_std=-15.0,
        max_log_std=0.0,
        evaluation_action="ancestral",
        learning_rate=1e-3,
        batch_size=512,
        hidden_sizes=(512, 512),
    )
