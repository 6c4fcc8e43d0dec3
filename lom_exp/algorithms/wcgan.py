"""WCGAN: a conditional generative adversarial network weighted by advantage (LOM's Eq. 39).

A baseline of LOM (Wang, Jin and Montana, ICLR 2025, Appendix C.1). The discriminator sees the
dataset's actions weighted by advantage, so that the generator's distribution follows weight times
behavior; the state value behind the advantage is learned beside them (wcvae.update_value).

The defaults follow the LOM authors' code as it was while it had a WCGAN (July to November 2024).
Departures, each a field where both readings are worth having:

- `inverse_temperature` multiplies the advantage, as in the code; the paper divides by its beta.
- `fake_weight`: the discriminator's term of generated actions times the batch's mean weight (code),
  or as it stands (Eq. 39). The generator has the same optimum; the factor keeps the terms even.
- `generator_loss`: the log(1 - D) of Eq. 39 and of the code, or -log D, whose gradient does not
  vanish where the discriminator wins.
- `evaluation_noise`: zero noise (code), which need not be a likely action of a generator of several
  modes, or a sample. Batch normalization then uses its running statistics.
- `jitter_std`: as in the code, observations of the adversarial updates are jittered; the value's
  are not. The paper does not mention it.

Shapes: B batch, O observation, A action, Z noise. This file sees one run.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu, linear

from lom_exp import validation
from lom_exp.algorithms import wcvae
from lom_exp.batch_norm import Statistics, init_batch_norm, normalize, normalize_batch
from lom_exp.critics import init_value
from lom_exp.errors import ConfigError
from lom_exp.networks import Network, Params, descend, descend_with, init_mlp, network
from lom_exp.random import Rng
from lom_exp.types import Metrics, Phases, Transitions

MIN_PROBABILITY = 1e-4  # the discriminator's outputs keep this distance from 0 and 1


@dataclass(frozen=True)
class Config:
    """Hyperparameters of WCGAN, those of the LOM authors' code."""

    inverse_temperature: float = 2.0  # multiplies the advantage, in 1/return
    max_weight: float = 50.0  # ceiling of exp(advantage)
    discount: float = 0.99
    tau: float = 0.005  # Polyak rate of the target value
    target_update_period: int = 2  # updates from one Polyak step to the next
    noise_dim: int = 10  # Z
    jitter_std: float = 1e-4  # of the noise on observations, 0 for none
    fake_weight: str = "mean"  # or one
    generator_loss: str = "saturating"  # or non_saturating
    evaluation_noise: str = "zero"  # or random
    generator_learning_rate: float = 1e-4
    discriminator_learning_rate: float = 1e-4
    value_learning_rate: float = 1e-3
    batch_size: int = 512  # of the adversarial updates and, drawn anew, of the value
    hidden_sizes: tuple[int, ...] = (256, 256)

    def __post_init__(self) -> None:
        validation.positive(self, "inverse_temperature", "max_weight", "target_update_period")
        validation.positive(self, "noise_dim", "batch_size", "generator_learning_rate")
        validation.positive(self, "discriminator_learning_rate", "value_learning_rate")
        validation.non_negative(self, "jitter_std")
        validation.unit_interval(self, "discount")
        validation.fraction(self, "tau")
        validation.layer_sizes(self, "hidden_sizes")
        validation.one_of(self, "fake_weight", ("mean", "one"))
        validation.one_of(self, "generator_loss", ("saturating", "non_saturating"))
        validation.one_of(self, "evaluation_noise", ("zero", "random"))
        if self.batch_size == 1:
            raise ConfigError(
                "batch_size=1 cannot be used: it must be above 1, for batch normalization takes "
                "the variance of a batch"
            )


class State(NamedTuple):
    generator: Network  # of (layers, scale and shift of each hidden layer's normalization)
    generator_statistics: tuple[Statistics, ...]  # of each hidden layer
    discriminator: Network
    value: Network
    target_value: Params


Updated = tuple[State, Metrics]


def generate(
    params: Params,
    statistics: tuple[Statistics, ...],
    observations: Tensor,
    noise: Tensor,
    *,
    training: bool,
) -> tuple[Tensor, tuple[Statistics, ...]]:
    """Actions (B, A) in [-1, 1] for noise (B, Z), and the statistics: in training, moved."""
    (*hidden, last), norms = params
    features, after = torch.cat((observations, noise), -1), []
    for layer, norm, running in zip(hidden, norms, statistics, strict=True):
        features = linear(features, *layer)
        if training:
            features, moved = normalize_batch(norm, running, features)
        else:
            features, moved = normalize(norm, running, features), running
        features = torch.relu(features)
        after.append(moved)
    return torch.tanh(linear(features, *last)), tuple(after)


def discriminate(params: Params, observations: Tensor, actions: Tensor) -> Tensor:
    """The probability (B,) that actions (B, A) are the dataset's."""
    *hidden, last = params
    features = torch.cat((observations, actions), -1)
    for layer in hidden:
        features = leaky_relu(linear(features, *layer))
    probabilities = torch.sigmoid(linear(features, *last)).squeeze(-1)
    return probabilities.clamp(MIN_PROBABILITY, 1 - MIN_PROBABILITY)


def init(observation_dim: int, action_dim: int, config: Config, rng: Rng) -> State:
    """Networks with torch's default initialization; the target starts as the value."""
    hidden = config.hidden_sizes
    layers = init_mlp(rng, "generator", [observation_dim + config.noise_dim, *hidden, action_dim])
    norms, statistics = zip(*map(init_batch_norm, hidden), strict=True)
    discriminator = init_mlp(rng, "discriminator", [observation_dim + action_dim, *hidden, 1])
    value = init_value(rng, observation_dim, hidden)
    return State(
        generator=network((layers, norms)),
        generator_statistics=statistics,
        discriminator=network(discriminator),
        value=network(value),
        target_value=value,
    )


def jittered_batch(data: Transitions, config: Config, rng: Rng) -> Transitions:
    """The batch of both adversarial updates, with noise on its observations."""
    batch = data.sample(rng, "batch", config.batch_size)
    jitter = rng.normal("jitter", batch.observations.shape)
    next_jitter = rng.normal("next_jitter", batch.observations.shape)
    return batch._replace(
        observations=batch.observations + config.jitter_std * jitter,
        next_observations=batch.next_observations + config.jitter_std * next_jitter,
    )


def update_discriminator(state: State, data: Transitions, config: Config, rng: Rng) -> Updated:
    """Tell the dataset's actions, weighted by advantage, from generated ones (Eq. 39)."""
    batch = jittered_batch(data, config, rng)
    value = state.value.params
    advantages = wcvae.td_errors(value, value, batch, config.discount)
    weights = (config.inverse_temperature * advantages).exp().clamp(max=config.max_weight)
    fake_weight = weights.mean() if config.fake_weight == "mean" else 1.0
    noise = rng.normal("discriminator/noise", (config.batch_size, config.noise_dim))
    generated, statistics = generate(
        state.generator.params, state.generator_statistics, batch.observations, noise, training=True
    )

    def weighted_cross_entropy(params: Params) -> Tensor:
        real = discriminate(params, batch.observations, batch.actions)
        fake = discriminate(params, batch.observations, generated)
        return -(weights * real.log()).mean() - fake_weight * (1 - fake).log().mean()

    discriminator, loss = descend(
        state.discriminator, weighted_cross_entropy, config.discriminator_learning_rate
    )
    metrics = {
        "discriminator/loss": loss,
        "discriminator/advantage": advantages.mean(),
        "discriminator/weight": weights.mean(),
        "discriminator/saturated_share": (weights >= config.max_weight).to(weights.dtype).mean(),
    }
    state = state._replace(discriminator=discriminator, generator_statistics=statistics)
    return state, metrics


def update_generator(state: State, data: Transitions, config: Config, rng: Rng) -> Updated:
    """Generate what the discriminator takes for the dataset's (Eq. 39)."""
    observations = jittered_batch(data, config, rng).observations
    noise = rng.normal("generator/noise", (config.batch_size, config.noise_dim))

    def adversarial_loss(params: Params) -> tuple[Tensor, tuple[Statistics, ...]]:
        generated, moved = generate(
            params, state.generator_statistics, observations, noise, training=True
        )
        fake = discriminate(state.discriminator.params, observations, generated)
        saturating = config.generator_loss == "saturating"
        return ((1 - fake).log().mean() if saturating else -fake.log().mean()), moved

    generator, loss, statistics = descend_with(
        state.generator, adversarial_loss, config.generator_learning_rate
    )
    state = state._replace(generator=generator, generator_statistics=statistics)
    return state, {"generator/loss": loss}


def act(state: State, observations: Tensor, config: Config, rng: Rng) -> Tensor:
    """The generator's action for zero noise, or for a sample of it."""
    shape = len(observations), config.noise_dim
    if config.evaluation_noise == "zero":
        noise = torch.zeros(shape, device=observations.device)
    else:
        noise = rng.normal("noise", shape)
    actions, _ = generate(
        state.generator.params, state.generator_statistics, observations, noise, training=False
    )
    return actions


phases: Phases = {"policy": (update_discriminator, update_generator, wcvae.update_value)}
