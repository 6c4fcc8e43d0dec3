"""WCVAE against an independent implementation, and against numbers worked out by hand."""

import dataclasses

import oracle_wcvae
import pytest
import torch
from comparison import (
    ACTION_DIM,
    OBSERVATION_DIM,
    SIZE,
    Silent,
    assert_same,
    assert_same_metrics,
    rng,
    scaled,
    transitions,
    with_mistake,
)
from lom_by_hand import constant, dataset
from oracle_lom import layers_of
from test_validation import assert_refused
from torch.testing import assert_close
from torch.utils._pytree import tree_leaves

from lom_exp.algorithms import wcvae
from lom_exp.errors import ConfigError
from lom_exp.networks import network

pytestmark = pytest.mark.usefixtures("float64")

*_, update_value = wcvae.phases["policy"]

UPDATES = 6  # three of them move the target; Adam's moments and corrections matter
BATCH = 8


def configuration(**changes):
    """Settings under which the ceiling of the weights binds on some row and on some not."""
    settings = {
        "inverse_temperature": 0.4,
        "max_weight": 2.5,
        "discount": 0.9,
        "tau": 0.1,
        "kl_weight": 0.3,
        "autoencoder_learning_rate": 0.02,
        "value_learning_rate": 0.03,
        "batch_size": BATCH,
        "hidden_sizes": (11, 12),
    }
    return wcvae.Config(**{**settings, **changes})


def initial_state(config, clamped=False):
    """Twice torch's weights; `clamped` puts a log-variance on each side of its bounds."""
    state = scaled(wcvae.init(OBSERVATION_DIM, ACTION_DIM, config, rng(phase="init")), 2)
    if clamped:
        encoder, decoder = state.autoencoder.params
        (*hidden, (weight, bias)), latent_dim = encoder, len(encoder[-1][1]) // 2
        spread = torch.cat((torch.zeros(latent_dim), torch.linspace(-8, 8, latent_dim)))
        encoder = [*hidden, (weight, bias + spread)]
        (weight, bias), *rest = decoder
        calm = torch.ones(weight.shape[1])
        calm[OBSERVATION_DIM:] = 0.02  # else latents of a std of 50 would saturate the tanh
        state = state._replace(autoencoder=network((encoder, [(weight * calm, bias), *rest])))
    return state


def assert_same_training(config, oracle_class=oracle_wcvae.Wcvae, clamped=False):
    """Train both; after every update compare metrics and parameters."""
    data, state = transitions(), initial_state(config, clamped)
    encoder, decoder = state.autoencoder.params
    oracle = oracle_class(config, data._asdict(), encoder, decoder, state.value.params)
    latent_dim = config.latents_per_action * ACTION_DIM
    for number in range(UPDATES):
        ours, numbers = {}, rng(number)
        for update in wcvae.phases["policy"]:
            state, metrics = update(state, data, config, numbers)
            ours |= metrics
        theirs = oracle.update_autoencoder(
            numbers.integers("batch", SIZE, (BATCH,)), numbers.normal("latent", (BATCH, latent_dim))
        ) | oracle.update_value(number, numbers.integers("value/batch", SIZE, (BATCH,)))
        assert_same_metrics(ours, theirs)
        encoder, decoder = state.autoencoder.params
        assert_same("encoder", encoder, layers_of(oracle.encoder))
        assert_same("decoder", decoder, layers_of(oracle.decoder))
        assert_same("value", state.value.params, layers_of(oracle.value))
        assert_same("target value", state.target_value, layers_of(oracle.target_value))
    return state, oracle


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"target_update_period": 1},
        {"target_update_period": 4},
        {"latents_per_action": 1},
        {"kl_weight": 0.0},
        {"max_weight": 1e3},
        {"hidden_sizes": (7,)},
    ],
    ids=str,
)
def test_training_equals_the_oracles(changes):
    assert_same_training(configuration(**changes))


def test_training_equals_the_oracles_where_log_variances_leave_their_bounds():
    config = configuration()
    encoder, _ = initial_state(config, clamped=True).autoencoder.params
    data = transitions()
    inputs = torch.cat((data.observations, data.actions), -1)
    log_variances = oracle_wcvae.build(encoder)(inputs)[:, 2 * ACTION_DIM :]
    assert (log_variances < -8).double().mean() > 0.02
    assert (log_variances > 8).double().mean() > 0.02
    assert_same_training(config, clamped=True)


MISTAKES = [
    (
        "no terminal mask in the value's target",
        'if self.data["terminations"][row] == 0:\n                with',
        "if True:\n                with",
    ),
    (
        "no terminal mask in the advantage",
        'if self.data["terminations"][row] == 0:\n            next_value',
        "if True:\n            next_value",
    ),
    (
        "the Polyak average upside down",
        "(1 - settings.tau) * slow + settings.tau * fast",
        "settings.tau * slow + (1 - settings.tau) * fast",
    ),
    (
        "a target that never moves",
        "update % settings.target_update_period == 0",
        "False",
    ),
    (
        "a target that moves at odd updates",
        "update % settings.target_update_period == 0",
        "update % settings.target_update_period == 1",
    ),
    (
        "a value that is its own target",
        'self.target_value(self.data["next_observations"][row])',
        'self.value(self.data["next_observations"][row])',
    ),
    (
        "a value that learns through its target",
        'with torch.no_grad():\n                    next_value = self.target_value(self.data["next',
        'with torch.enable_grad():\n                    next_value = self.value(self.data["next',
    ),
    (
        "an advantage of the target value",
        'next_value = self.value(self.data["next_observations"][row])',
        'next_value = self.target_value(self.data["next_observations"][row])',
    ),
    (
        "an advantage without the value of where it starts",
        'self.data["rewards"][row] - self.value(self.data["observations"][row])[0]',
        'self.data["rewards"][row]',
    ),
    (
        "a temperature that divides",
        "settings.inverse_temperature * advantage",
        "advantage / settings.inverse_temperature",
    ),
    (
        "weights without a ceiling",
        "weight = min(weight, torch.tensor(settings.max_weight))",
        "pass",
    ),
    (
        "a divergence that is not weighted",
        "weight * cost / len(rows)",
        "(weight * distance + settings.kl_weight * divergence) / len(rows)",
    ),
    (
        "a sum over the batch",
        "weight * cost / len(rows)",
        "weight * cost",
    ),
    (
        "a mean over action dimensions",
        "sum((reconstructed - action) ** 2)",
        "sum((reconstructed - action) ** 2) / len(action)",
    ),
    (
        "a decoder without its tanh",
        "torch.tanh(self.decoder(",
        "(self.decoder(",
    ),
    (
        "the variance in place of the standard deviation",
        "std = torch.sqrt(torch.exp(log_variance))",
        "std = torch.exp(log_variance)",
    ),
    (
        "the latent's mean decoded",
        "mean + std * noises[b]",
        "mean",
    ),
    (
        "the values' summed error",
        "- target) ** 2 / len(rows)",
        "- target) ** 2",
    ),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake[0])
def test_a_planted_mistake_is_noticed(mistake):
    _, line, mistaken_line = mistake
    mistaken = with_mistake(oracle_wcvae, line, mistaken_line)
    with pytest.raises(AssertionError, match="not close"):
        assert_same_training(configuration(), mistaken.Wcvae)


@pytest.mark.parametrize("bounds", ["-8.0, 80.0", "-80.0, 8.0", "-7.5, 8.0"])
def test_a_planted_bound_of_the_log_variances_is_noticed(bounds):
    mistaken = with_mistake(oracle_wcvae, "-8.0, 8.0", bounds)
    with pytest.raises(AssertionError, match="not close"):
        assert_same_training(configuration(), mistaken.Wcvae, clamped=True)


@pytest.mark.parametrize("evaluation_latent", ["zero", "random"])
def test_the_decoded_latent_is_acted(evaluation_latent):
    config = configuration(evaluation_latent=evaluation_latent)
    state, oracle = assert_same_training(config)
    observations = transitions().next_observations[:7]
    latents = torch.zeros(7, 2 * ACTION_DIM)
    if evaluation_latent == "random":
        latents = rng(9).normal("latent", (7, 2 * ACTION_DIM))
    expected = [oracle.act(*row).detach() for row in zip(observations, latents, strict=True)]
    assert_close(wcvae.act(state, observations, config, rng(9)), torch.stack(expected))
    again = wcvae.act(state, observations, config, rng(10))
    assert torch.equal(again, wcvae.act(state, observations, config, rng(9))) == (
        evaluation_latent == "zero"
    )


# Numbers worked out by hand.


def hand_made(latent_mean=0.0, log_variance=0.0, decoded=0.0, value=0.0, latent_dim=2):
    """Networks that say the same whatever they are asked: one observation and action dimension."""
    encoder = constant([latent_mean] * latent_dim + [log_variance] * latent_dim, inputs=2)
    decoder = constant([decoded], inputs=1 + latent_dim)
    return wcvae.State(
        autoencoder=network((encoder, decoder)),
        value=network(constant([value])),
        target_value=constant([value]),
    )


def test_the_weight_is_the_exponential_of_the_advantage_up_to_the_ceiling():
    """Advantages 1, 0 and 4 of r + 0.5 V(s') - V(s), V = 2, and of an end; e^2, 1 and 50."""
    data = dataset([[0.5], [0.5], [0.5]], rewards=[2.0, 1.0, 6.0], terminations=[0.0, 0.0, 1.0])
    config = configuration(
        inverse_temperature=2.0, max_weight=50.0, discount=0.5, batch_size=len(data.rewards)
    )
    _, metrics = wcvae.update_autoencoder(hand_made(value=2.0), data, config, Silent())
    assert metrics["autoencoder/advantage"].item() == pytest.approx(5 / 3)
    assert metrics["autoencoder/weight"].item() == pytest.approx((7.389056 + 1 + 50) / 3)
    assert metrics["autoencoder/saturated_share"].item() == pytest.approx(1 / 3)
    assert metrics["autoencoder/loss"].item() == pytest.approx(0.25 * (7.389056 + 1 + 50) / 3)


@pytest.mark.parametrize(
    ("latent_mean", "log_variance", "nats"),
    [(0.0, 0.0, 0.0), (1.0, 0.0, 6.0), (0.0, 1.0, 12 * 0.359141), (0.0, 20.0, 17831.748)],
)
def test_the_divergence_of_twelve_latents(latent_mean, log_variance, nats):
    """12 (mean^2 + variance - log variance - 1) / 2; the log-variance of 20 counts as 8."""
    data = dataset([[0.0]])
    config = configuration(kl_weight=1.0, latents_per_action=12, batch_size=1)
    state = hand_made(latent_mean, log_variance, latent_dim=12)
    _, metrics = wcvae.update_autoencoder(state, data, config, Silent())
    assert metrics["autoencoder/loss"].item() == pytest.approx(nats, abs=1e-3)


def test_a_constant_weight_scales_the_gradients_of_a_plain_autoencoder():
    """Rewards of 0 and V = 0 weigh 1; at a log-weight of 1 everywhere the weight is e."""
    config = configuration(inverse_temperature=1.0, max_weight=50.0)
    data, state = transitions(), initial_state(config)
    state = state._replace(value=network(scaled(state.value.params, 0)))

    def gradients(reward):
        rewards = torch.full_like(data.rewards, reward)
        after, _ = wcvae.update_autoencoder(state, data._replace(rewards=rewards), config, rng())
        return tree_leaves(after.autoencoder.first_moment)

    for plain, weighted in zip(gradients(0.0), gradients(1.0), strict=True):
        assert plain.abs().amax() > 0
        assert_close(weighted, torch.e * plain)


def test_the_value_learns_the_return_of_a_chain():
    """0 -> 1 -> end with the rewards 1 and 3: V(1) = 3 and V(0) = 1 + 0.5 V(1) = 2.5."""
    data = dataset(
        [[0.0], [0.0]],
        rewards=[1.0, 3.0],
        observations=[[0.0], [1.0]],
        next_observations=[[1.0], [7.0]],
        terminations=[0.0, 1.0],
    )
    state = hand_made()
    for update in range(600):
        rate = 0.05 if update < 400 else 0.005
        config = configuration(discount=0.5, tau=0.3, value_learning_rate=rate)
        state, _ = update_value(state, data, config, rng(update))
    [(slope, intercept)] = state.value.params
    assert intercept.item() == pytest.approx(2.5, abs=1e-2)
    assert (slope + intercept).item() == pytest.approx(3.0, abs=1e-2)
    [(target_slope, target_intercept)] = state.target_value
    assert (target_slope + target_intercept).item() == pytest.approx(3.0, abs=1e-2)


def test_the_heavier_of_two_actions_takes_the_constant_decoder_along():
    """Weights 1 and 3 of the actions -0.5 and 0.5: their weighted mean is 0.25."""
    data = dataset([[-0.5], [0.5]], rewards=[0.0, 1.0986123], terminations=[1.0, 1.0])
    state = hand_made()
    for update in range(500):
        rate = 0.02 if update < 400 else 0.002
        config = configuration(
            inverse_temperature=1.0,
            max_weight=50.0,
            autoencoder_learning_rate=rate,
            latents_per_action=2,
            batch_size=2,
        )
        state, _ = wcvae.update_autoencoder(state, data, config, Silent())
    action = wcvae.act(state, torch.zeros(1, 1), config, rng())
    assert action.item() == pytest.approx(0.25, abs=1e-3)


def test_the_target_starts_as_the_value_and_the_latent_has_two_numbers_per_action():
    state = wcvae.init(17, 6, wcvae.Config(), rng(phase="init"))
    encoder, decoder = state.autoencoder.params
    assert [tuple(weight.shape) for weight, _ in encoder] == [(256, 23), (256, 256), (24, 256)]
    assert [tuple(weight.shape) for weight, _ in decoder] == [(256, 29), (256, 256), (6, 256)]
    assert_close(state.target_value, state.value.params, rtol=0, atol=0)


@pytest.mark.parametrize(
    "setting",
    [
        {"latents_per_action": 0},
        {"kl_weight": -0.1},
        {"max_weight": 0.0},
        {"inverse_temperature": 0.0},
        {"discount": 1.5},
        {"tau": 0.0},
        {"target_update_period": 0},
        {"batch_size": 0},
        {"value_learning_rate": -1e-3},
        {"autoencoder_learning_rate": 0.0},
        {"evaluation_latent": "zeros"},
        {"hidden_sizes": ()},
    ],
    ids=str,
)
def test_what_cannot_be_run_is_refused(setting):
    assert_refused(wcvae.Config, **setting)


def test_every_choice_is_named_when_none_is_recognized():
    with pytest.raises(ConfigError, match=r"zero, random|random, zero"):
        dataclasses.replace(wcvae.Config(), evaluation_latent="mode")
