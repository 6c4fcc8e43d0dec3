"""WCGAN against an independent implementation, and against numbers worked out by hand."""

import math

import oracle_wcgan
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
from torch import nn
from torch.testing import assert_close

from lom_exp.algorithms import wcgan
from lom_exp.batch_norm import Statistics, init_batch_norm
from lom_exp.errors import ConfigError
from lom_exp.networks import network

pytestmark = pytest.mark.usefixtures("float64")

*_, update_value = wcgan.phases["policy"]

UPDATES = 6  # three of them move the target; Adam's moments and corrections matter
BATCH, NOISE_DIM = 7, 4


def configuration(**changes):
    """Settings under which the ceiling of the weights binds on some row and on some not."""
    settings = {
        "inverse_temperature": 0.4,
        "max_weight": 2.5,
        "discount": 0.9,
        "tau": 0.1,
        "noise_dim": NOISE_DIM,
        "jitter_std": 0.1,
        "generator_learning_rate": 0.02,
        "discriminator_learning_rate": 0.03,
        "value_learning_rate": 0.04,
        "batch_size": BATCH,
        "hidden_sizes": (9, 10),
    }
    return wcgan.Config(**{**settings, **changes})


def initial_state(config, sharpness=2):
    """Twice torch's weights, an uneven discriminator, and scales and shifts of their own."""
    state = wcgan.init(OBSERVATION_DIM, ACTION_DIM, config, rng(phase="init"))
    layers, norms = state.generator.params
    norms = tuple(
        (1 + 0.3 * rng(i).normal("scale", scale.shape), rng(i).normal("shift", shift.shape))
        for i, (scale, shift) in enumerate(norms)
    )
    return state._replace(
        generator=network((scaled(layers, 2), norms)),
        discriminator=network(scaled(state.discriminator.params, sharpness)),
        value=network(scaled(state.value.params, 2)),
        target_value=scaled(state.value.params, 1.5),
    )


def assert_same_training(config, oracle_class=oracle_wcgan.Wcgan, **initial):
    """Train both; after every update compare metrics, parameters and running statistics."""
    data, state = transitions(), initial_state(config, **initial)
    oracle = oracle_class(
        config,
        data._asdict(),
        *state.generator.params,
        state.discriminator.params,
        state.value.params,
        state.target_value,
    )
    for number in range(UPDATES):
        ours, numbers = {}, rng(number)
        for update in wcgan.phases["policy"]:
            state, metrics = update(state, data, config, numbers)
            ours |= metrics
        rows = numbers.integers("batch", SIZE, (BATCH,))
        jitters = numbers.normal("jitter", (BATCH, OBSERVATION_DIM))
        next_jitters = numbers.normal("next_jitter", (BATCH, OBSERVATION_DIM))
        noises = numbers.normal("discriminator/noise", (BATCH, NOISE_DIM))
        theirs = oracle.update_discriminator(rows, jitters, next_jitters, noises)
        noises = numbers.normal("generator/noise", (BATCH, NOISE_DIM))
        theirs |= oracle.update_generator(rows, jitters, noises)
        theirs |= oracle.update_value(number, numbers.integers("value/batch", SIZE, (BATCH,)))
        assert_same_metrics(ours, theirs)
        layers, norms = state.generator.params
        assert_same("generator", layers, layers_of(oracle.generator))
        for i, module in enumerate(oracle.norms()):
            assert_same("scale and shift", norms[i], (module.weight.detach(), module.bias.detach()))
            moments = Statistics(module.running_mean, module.running_var)
            assert_same("statistics", state.generator_statistics[i], moments)
        assert_same("discriminator", state.discriminator.params, layers_of(oracle.discriminator))
        assert_same("value", state.value.params, layers_of(oracle.value))
        assert_same("target value", state.target_value, layers_of(oracle.target_value))
    return state, oracle


@pytest.mark.parametrize("fake_weight", ["mean", "one"])
@pytest.mark.parametrize("generator_loss", ["saturating", "non_saturating"])
def test_training_equals_the_oracles(fake_weight, generator_loss):
    assert_same_training(configuration(fake_weight=fake_weight, generator_loss=generator_loss))


@pytest.mark.parametrize(
    "changes",
    [
        {"target_update_period": 1},
        {"target_update_period": 4},
        {"jitter_std": 0.0},
        {"max_weight": 1e3},
        {"hidden_sizes": (6,)},
        {"hidden_sizes": (5, 6, 7)},
    ],
    ids=str,
)
def test_training_with_other_settings_equals_the_oracles(changes):
    assert_same_training(configuration(**changes))


@pytest.mark.parametrize("generator_loss", ["saturating", "non_saturating"])
def test_training_equals_the_oracles_where_the_discriminator_is_certain(generator_loss):
    config = configuration(generator_loss=generator_loss, discriminator_learning_rate=0.003)
    discriminator = oracle_wcgan.leaky(initial_state(config, sharpness=8).discriminator.params)
    data = transitions()
    realness = discriminator(torch.cat((data.observations, data.actions), -1)).sigmoid()
    assert 0.1 < ((realness < 1e-4) | (realness > 1 - 1e-4)).double().mean() < 0.9
    assert_same_training(config, sharpness=8)


MISTAKES = [
    (
        "no terminal mask in the value's target",
        'if self.data["terminations"][row] == 0:\n                with',
        "if True:\n                with",
    ),
    (
        "no terminal mask in the advantage",
        'if self.data["terminations"][row] == 0:\n            advantage',
        "if True:\n            advantage",
    ),
    (
        "the Polyak average upside down",
        "(1 - settings.tau) * slow + settings.tau * fast",
        "settings.tau * slow + (1 - settings.tau) * fast",
    ),
    (
        "a target that moves at odd updates",
        "update % settings.target_update_period == 0",
        "update % settings.target_update_period == 1",
    ),
    (
        "a target that never moves",
        "update % settings.target_update_period == 0",
        "False",
    ),
    (
        "a value that learns through its target",
        "with torch.no_grad():\n                    next_value = self.target_value(",
        "with torch.enable_grad():\n                    next_value = self.value(",
    ),
    (
        "an advantage of the target value",
        "self.settings.discount * self.value(next_observation)[0]",
        "self.settings.discount * self.target_value(next_observation)[0]",
    ),
    (
        "an advantage without jitter",
        "advantage = self.advantage(row, observations[b], next_observation)",
        'advantage = self.advantage(row, self.data["observations"][row], next_observation)',
    ),
    (
        "an advantage whose end has no jitter",
        'self.jittered("next_observations", row, next_jitters[b])',
        'self.data["next_observations"][row]',
    ),
    (
        "a temperature that divides",
        "settings.inverse_temperature * advantage",
        "advantage / settings.inverse_temperature",
    ),
    (
        "weights without a ceiling",
        "min(weight, torch.tensor(settings.max_weight))",
        "weight",
    ),
    (
        "real actions without weights",
        "loss - weights[b] * torch.log(of_data) / size",
        "loss - torch.log(of_data) / size",
    ),
    (
        "weights of the generated actions one by one",
        "fake_weight * torch.log(1 - of_generated)",
        "weights[b] * torch.log(1 - of_generated)",
    ),
    (
        "generated actions that weigh 1",
        'sum(weights) / size if settings.fake_weight == "mean" else 1.0',
        "1.0",
    ),
    (
        "the discriminator's summed loss",
        "torch.log(of_data) / size",
        "torch.log(of_data)",
    ),
    (
        "a discriminator without bounds",
        "clip(1 / (1 + torch.exp(-logit)), 1e-4, 1 - 1e-4)",
        "1 / (1 + torch.exp(-logit))",
    ),
    (
        "rectifiers that do not leak",
        "nn.LeakyReLU() if",
        "nn.ReLU() if",
    ),
    (
        "rectifiers that leak more",
        "nn.LeakyReLU() if",
        "nn.LeakyReLU(0.2) if",
    ),
    (
        "a generator without its tanh",
        "torch.tanh(self.generator(",
        "(self.generator(",
    ),
    (
        "a generator that leads the discriminator the wrong way",
        "loss + torch.log(1 - realness) / len(rows)",
        "loss - torch.log(1 - realness) / len(rows)",
    ),
    (
        "the non-saturating loss",
        'if self.settings.generator_loss == "saturating":',
        "if False:",
    ),
    (
        "batch norms that evaluate in the discriminator's step",
        "generated = self.generate(observations, noises)\n        fake_weight",
        "generated = self.act(observations, noises)\n        fake_weight",
    ),
    (
        "batch norms that evaluate in the generator's step",
        "generated = self.generate(observations, noises)\n        loss",
        "generated = self.act(observations, noises)\n        loss",
    ),
    (
        "batch norms behind the rectifiers",
        "                self.generator.append(norm)\n            self.generator.append(module)\n",
        "                self.generator.append(module)\n                module = norm\n"
        "            self.generator.append(module)\n",
    ),
    (
        "a generator that sees no jitter",
        "for b, row in enumerate(rows)\n        ]\n        generated",
        "for b, row in enumerate(rows)\n        ]\n"
        '        observations = list(self.data["observations"][rows])\n        generated',
    ),
    (
        "the values' summed error",
        "- target) ** 2 / len(rows)",
        "- target) ** 2",
    ),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake[0])
def test_a_planted_mistake_is_noticed(mistake):
    name, line, mistaken_line = mistake
    mistaken = with_mistake(oracle_wcgan, line, mistaken_line)
    initial = {"sharpness": 8} if name == "a discriminator without bounds" else {}
    with pytest.raises(AssertionError, match="not close"):
        assert_same_training(configuration(), mistaken.Wcgan, **initial)


class ValueFirst(oracle_wcgan.Wcgan):
    """The weights are of the value after its step."""

    def update_discriminator(self, *drawn):
        self.drawn = drawn
        return {}

    def update_generator(self, *drawn):
        self.drawn = self.drawn, drawn
        return {}

    def update_value(self, *drawn):
        metrics = super().update_value(*drawn)
        of_discriminator, of_generator = self.drawn
        metrics |= super().update_discriminator(*of_discriminator)
        return metrics | super().update_generator(*of_generator)


class GeneratorFirst(oracle_wcgan.Wcgan):
    """The generator learns from the discriminator before its step."""

    def update_discriminator(self, *drawn):
        self.drawn = drawn
        return {}

    def update_generator(self, *drawn):
        metrics = super().update_generator(*drawn)
        return metrics | super().update_discriminator(*self.drawn)


@pytest.mark.parametrize("oracle_class", [ValueFirst, GeneratorFirst])
def test_another_order_of_the_steps_is_noticed(oracle_class):
    with pytest.raises(AssertionError, match="not close"):
        assert_same_training(configuration(), oracle_class)


@pytest.mark.parametrize("evaluation_noise", ["zero", "random"])
def test_the_generator_acts_by_its_running_statistics(evaluation_noise):
    config = configuration(evaluation_noise=evaluation_noise)
    state, oracle = assert_same_training(config)
    observations = transitions().next_observations[:6]
    noises = torch.zeros(6, NOISE_DIM)
    if evaluation_noise == "random":
        noises = rng(9).normal("noise", (6, NOISE_DIM))
    actions = wcgan.act(state, observations, config, rng(9))
    assert_close(actions, oracle.act(observations, noises).detach())
    again = wcgan.act(state, observations, config, rng(10))
    assert torch.equal(again, actions) == (evaluation_noise == "zero")
    if evaluation_noise == "zero":  # an action does not depend on what is acted beside it
        assert_close(wcgan.act(state, observations[2:3], config, rng(9)), actions[2:3])


# Numbers worked out by hand.


def conditional_gan(config, state, data, numbers):
    """One step of each network of a plain conditional GAN, of torch's own parts alone."""
    oracle = oracle_wcgan.Wcgan(
        config,
        {},
        *state.generator.params,
        state.discriminator.params,
        state.value.params,
        state.target_value,
    )
    generator = nn.Sequential(oracle.generator, nn.Tanh())
    discriminator = nn.Sequential(oracle.discriminator, nn.Sigmoid())
    rows = numbers.integers("batch", SIZE, (BATCH,))
    observations, actions = data.observations[rows], data.actions[rows]
    entropy, losses = nn.BCELoss(), []
    ones, zeros = torch.ones(BATCH, 1), torch.zeros(BATCH, 1)

    noises = numbers.normal("discriminator/noise", (BATCH, NOISE_DIM))
    generated = generator(torch.cat((observations, noises), -1)).detach()
    real = entropy(discriminator(torch.cat((observations, actions), -1)), ones)
    losses.append(real + entropy(discriminator(torch.cat((observations, generated), -1)), zeros))
    oracle.step(oracle.discriminator_optimizer, losses[0])

    noises = numbers.normal("generator/noise", (BATCH, NOISE_DIM))
    generated = generator(torch.cat((observations, noises), -1))
    losses.append(entropy(discriminator(torch.cat((observations, generated), -1)), ones))
    oracle.step(oracle.generator_optimizer, losses[1])
    return losses, layers_of(oracle.generator), layers_of(oracle.discriminator)


@pytest.mark.parametrize("fake_weight", ["mean", "one"])
def test_where_nothing_is_to_be_gained_it_is_a_plain_conditional_gan(fake_weight):
    """Rewards and values of 0: every weight is 1."""
    config = configuration(fake_weight=fake_weight, generator_loss="non_saturating", jitter_std=0.0)
    state = initial_state(config)
    state = state._replace(value=network(scaled(state.value.params, 0)))
    data = transitions()._replace(rewards=torch.zeros(SIZE))
    losses, generator, discriminator = conditional_gan(config, state, data, rng())
    state, metrics = wcgan.update_discriminator(state, data, config, rng())
    assert metrics["discriminator/weight"].item() == 1.0
    assert_close(metrics["discriminator/loss"], losses[0].detach())
    state, metrics = wcgan.update_generator(state, data, config, rng())
    assert_close(metrics["generator/loss"], losses[1].detach())
    assert_same("discriminator", state.discriminator.params, discriminator)
    assert_same("generator", state.generator.params[0], generator)


def hand_made(generated=0.0, logit=0.0, value=0.0):
    """Networks that say the same whatever they are asked: one observation and action dimension."""
    params, statistics = init_batch_norm(2)
    layers = [(torch.zeros(2, 1 + NOISE_DIM), torch.zeros(2)), *constant([generated], inputs=2)]
    return wcgan.State(
        generator=network((layers, (params,))),
        generator_statistics=(statistics,),
        discriminator=network(constant([logit], inputs=2)),
        value=network(constant([value])),
        target_value=constant([value]),
    )


@pytest.mark.parametrize(
    ("fake_weight", "optimum", "loss"),
    [("mean", 1 / 2, 3 * 2 * math.log(2)), ("one", 3 / 4, 3 * math.log(4 / 3) + math.log(4))],
)
def test_where_densities_are_equal_the_discriminators_optimum_is_known(fake_weight, optimum, loss):
    """At weights of 3: w / (w + 3) of generated actions that weigh as much, w / (w + 1) of Eq. 39.

    The generator says what the dataset does, and the discriminator finds it out from a bad start.
    """
    data = dataset([[math.tanh(0.5)]] * 4, rewards=[math.log(3)] * 4, terminations=[1.0] * 4)
    state = hand_made(generated=0.5, logit=2.0)
    for update in range(400):
        rate = 0.03 if update < 300 else 0.003
        config = configuration(
            inverse_temperature=1.0,
            max_weight=50.0,
            fake_weight=fake_weight,
            jitter_std=0.0,
            discriminator_learning_rate=rate,
            batch_size=4,
        )
        state, metrics = wcgan.update_discriminator(state, data, config, rng(update))
    [(weight, bias)] = state.discriminator.params
    logit = bias + weight[0, 1] * math.tanh(0.5)
    assert logit.sigmoid().item() == pytest.approx(optimum, abs=1e-3)
    assert metrics["discriminator/weight"].item() == pytest.approx(3.0)
    assert metrics["discriminator/loss"].item() == pytest.approx(loss, abs=1e-3)


def test_the_weight_is_the_exponential_of_the_advantage_up_to_the_ceiling():
    """Advantages 1, 0 and 4 of r + 0.5 V(s') - V(s), V = 2, and of an end; e^2, 1 and 50.

    At a realness of 0.5 each term is log 2, and the weights' mean is that of the generated too.
    """
    data = dataset([[0.5], [0.5], [0.5]], rewards=[2.0, 1.0, 6.0], terminations=[0.0, 0.0, 1.0])
    config = configuration(inverse_temperature=2.0, max_weight=50.0, discount=0.5, batch_size=3)
    _, metrics = wcgan.update_discriminator(hand_made(value=2.0), data, config, Silent())
    mean = (math.e**2 + 1 + 50) / 3
    assert metrics["discriminator/advantage"].item() == pytest.approx(5 / 3)
    assert metrics["discriminator/weight"].item() == pytest.approx(mean)
    assert metrics["discriminator/saturated_share"].item() == pytest.approx(1 / 3)
    assert metrics["discriminator/loss"].item() == pytest.approx(2 * mean * math.log(2))


@pytest.mark.parametrize(("logit", "certainty"), [(50.0, 1 - 1e-4), (-50.0, 1e-4)])
def test_a_certain_discriminator_stays_finite(logit, certainty):
    """Beyond its bounds nothing is learned; the losses are log 1e-4 and log(1 - 1e-4)."""
    data = dataset([[0.5], [0.5]], terminations=[1.0, 1.0])
    state = hand_made(logit=logit)
    both = math.log(1e-4) + math.log(1 - 1e-4)
    config = configuration(batch_size=2)
    after, metrics = wcgan.update_discriminator(state, data, config, rng())
    assert metrics["discriminator/loss"].item() == pytest.approx(-both)
    assert_close(after.discriminator.params, state.discriminator.params, rtol=0, atol=0)
    _, metrics = wcgan.update_generator(state, data, config, rng())
    assert metrics["generator/loss"].item() == pytest.approx(math.log(1 - certainty))


def test_both_steps_of_an_update_move_the_running_statistics_a_tenth_of_the_way():
    """The first layer says s, of a mean of 2 and an unbiased variance of 8 over 0 and 4."""
    data = dataset([[0.0], [0.0]], observations=[[0.0], [4.0]], next_observations=[[0.0], [4.0]])
    state, config = hand_made(), configuration(batch_size=2, jitter_std=0.0)
    layers, norms = state.generator.params
    first = torch.zeros(2, 1 + NOISE_DIM)
    first[0, 0] = 1.0
    layers = [(first, torch.zeros(2)), *layers[1:]]
    state = state._replace(generator=network((layers, norms)))
    means, variances = [], []
    for update in (wcgan.update_discriminator, wcgan.update_generator, update_value):
        state, _ = update(state, data, config, rng())
        [statistics] = state.generator_statistics
        means.append(statistics.mean[0].item())
        variances.append(statistics.variance[0].item())
    assert means == pytest.approx([0.2, 0.38, 0.38])
    assert variances == pytest.approx([1.7, 2.33, 2.33])


def test_the_value_learns_without_jitter():
    data = dataset([[0.0]] * 2, rewards=[1.0, 1.0], terminations=[0.0, 1.0])
    state = hand_made(value=2.0)
    state = state._replace(value=network([(torch.tensor([[5.0]]), torch.tensor([2.0]))]))
    config = configuration(discount=0.5, jitter_std=100.0, batch_size=2)
    _, metrics = update_value(state, data, config, rng())
    assert metrics["value/loss"].item() == pytest.approx((0.0 + 1.0) / 2)


def test_the_networks_start_as_torchs_and_the_target_as_the_value():
    state = wcgan.init(17, 6, wcgan.Config(), rng(phase="init"))
    layers, norms = state.generator.params
    assert [tuple(weight.shape) for weight, _ in layers] == [(256, 27), (256, 256), (6, 256)]
    assert [tuple(scale.shape) for scale, _ in norms] == [(256,), (256,)]
    assert all((scale == 1).all() and (shift == 0).all() for scale, shift in norms)
    for statistics in state.generator_statistics:
        assert (statistics.mean == 0).all()
        assert (statistics.variance == 1).all()
    shapes = [tuple(weight.shape) for weight, _ in state.discriminator.params]
    assert shapes == [(256, 23), (256, 256), (1, 256)]
    assert_close(state.target_value, state.value.params, rtol=0, atol=0)


def test_a_batch_of_one_has_no_variance():
    with pytest.raises(ConfigError, match=r"batch_size=1 cannot be used: it must be (above 1|.*2)"):
        wcgan.Config(batch_size=1)
    assert wcgan.Config(batch_size=2).batch_size == 2


@pytest.mark.parametrize(
    "setting",
    [
        {"noise_dim": 0},
        {"jitter_std": -1e-4},
        {"max_weight": 0.0},
        {"inverse_temperature": 0.0},
        {"discount": 1.5},
        {"tau": 0.0},
        {"target_update_period": 0},
        {"batch_size": 0},
        {"value_learning_rate": -1e-3},
        {"generator_learning_rate": 0.0},
        {"discriminator_learning_rate": math.nan},
        {"fake_weight": "means"},
        {"generator_loss": "wasserstein"},
        {"evaluation_noise": "none"},
        {"hidden_sizes": ()},
    ],
    ids=str,
)
def test_what_cannot_be_run_is_refused(setting):
    assert_refused(wcgan.Config, **setting)
