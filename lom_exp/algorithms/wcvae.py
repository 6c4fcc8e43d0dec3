"""WCVAE: a conditional variational autoencoder weighted by advantage (LOM's Appendix C.1, Eq. 40).

A baseline of LOM (Wang, Jin and Montana, ICLR 2025). The advantage is the one-step temporal
difference of a state value learned beside the autoencoder on the dataset's transitions.

No code of it was published, and the paper prints the objective only. What is chosen here:

- The decoder is a Gaussian of fixed variance, so that its log-likelihood is a squared error, summed
  over actions; `kl_weight` sets the divergence against it. The decoder's mean goes through tanh,
  and the log-variance of the latent is clamped to [-8, 8].
- Weights and value are those of the LOM authors' code for WCGAN, when it had one: the weight is
  exp(inverse_temperature times advantage) with a ceiling, where the paper divides by its beta.
- Eq. 40's prior does not depend on the state: a standard normal.
- `evaluation_latent`: decode the prior's mean, or a sample of it.

Shapes: B batch, O observation, A action, L latent. This file sees one run.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lom_exp import validation
from lom_exp.autoencoders import decode, encode, init_autoencoder, kl_divergence
from lom_exp.critics import init_value, td_target, v
from lom_exp.networks import Network, Params, descend, network, polyak, select
from lom_exp.random import Rng
from lom_exp.types import Metrics, Phases, Transitions

LOG_VARIANCE_BOUND = 8.0


@dataclass(frozen=True)
class Config:
    """Hyperparameters of WCVAE; weights and value as in WCGAN, the rest chosen here."""

    inverse_temperature: float = 2.0  # multiplies the advantage, in 1/return
    max_weight: float = 50.0  # ceiling of exp(advantage)
    discount: float = 0.99
    tau: float = 0.005  # Polyak rate of the target value
    target_update_period: int = 2  # updates from one Polyak step to the next
    latents_per_action: int = 2  # L / A
    kl_weight: float = 0.1  # of the latent's divergence against the squared error
    evaluation_latent: str = "zero"  # or random
    autoencoder_learning_rate: float = 1e-3
    value_learning_rate: float = 1e-3
    batch_size: int = 512  # of the autoencoder and, drawn anew, of the value
    hidden_sizes: tuple[int, ...] = (256, 256)

    def __post_init__(self) -> None:
        validation.positive(self, "inverse_temperature", "max_weight", "target_update_period")
        validation.positive(self, "latents_per_action", "batch_size")
        validation.positive(self, "autoencoder_learning_rate", "value_learning_rate")
        validation.non_negative(self, "kl_weight")
        validation.unit_interval(self, "discount")
        validation.fraction(self, "tau")
        validation.layer_sizes(self, "hidden_sizes")
        validation.one_of(self, "evaluation_latent", ("zero", "random"))


class State(NamedTuple):
    autoencoder: Network  # of (encoder's layers, decoder's layers)
    value: Network
    target_value: Params


Updated = tuple[State, Metrics]


def reconstruct(params: Params, observations: Tensor, latents: Tensor) -> Tensor:
    """The decoder's action: (..., O), (..., L) -> (..., A) in [-1, 1]."""
    return torch.tanh(decode(params, observations, latents))


def td_errors(
    params: Params, next_params: Params, batch: Transitions, discount: float | Tensor
) -> Tensor:
    """r + discount (1 - termination) V(s') - V(s): (B,), with V(s') of the second parameters."""
    next_values = v(next_params, batch.next_observations)
    return td_target(batch, next_values, discount) - v(params, batch.observations)


def init(observation_dim: int, action_dim: int, config: Config, rng: Rng) -> State:
    """Networks with torch's default initialization; the target starts as the value."""
    latent_dim = config.latents_per_action * action_dim
    autoencoder = init_autoencoder(
        rng, observation_dim, action_dim, latent_dim, config.hidden_sizes
    )
    value = init_value(rng, observation_dim, config.hidden_sizes)
    return State(autoencoder=network(autoencoder), value=network(value), target_value=value)


def update_autoencoder(state: State, data: Transitions, config: Config, rng: Rng) -> Updated:
    """Reconstruct actions, weighted by advantage (Eq. 40)."""
    batch = data.sample(rng, "batch", config.batch_size)
    advantages = td_errors(state.value.params, state.value.params, batch, config.discount)
    weights = (config.inverse_temperature * advantages).exp().clamp(max=config.max_weight)
    latent_dim = config.latents_per_action * batch.actions.shape[-1]
    noise = rng.normal("latent", (config.batch_size, latent_dim))

    def weighted_autoencoding(params: Params) -> Tensor:
        means, log_variances = encode(params, batch.observations, batch.actions)
        log_variances = log_variances.clamp(-LOG_VARIANCE_BOUND, LOG_VARIANCE_BOUND)
        latents = means + (0.5 * log_variances).exp() * noise
        errors = reconstruct(params, batch.observations, latents) - batch.actions
        divergence = kl_divergence(means, log_variances)
        return (weights * ((errors**2).sum(-1) + config.kl_weight * divergence)).mean()

    autoencoder, loss = descend(
        state.autoencoder, weighted_autoencoding, config.autoencoder_learning_rate
    )
    metrics = {
        "autoencoder/loss": loss,
        "autoencoder/advantage": advantages.mean(),
        "autoencoder/weight": weights.mean(),
        "autoencoder/saturated_share": (weights >= config.max_weight).to(weights.dtype).mean(),
    }
    return state._replace(autoencoder=autoencoder), metrics


def update_value(state: State, data: Transitions, config: Config, rng: Rng) -> Updated:
    """TD(0) of the dataset's behavior; WCGAN's, too, whose State and Config have the same names."""
    batch = data.sample(rng, "value/batch", config.batch_size)

    def squared_error(params: Params) -> Tensor:
        return (td_errors(params, state.target_value, batch, config.discount) ** 2).mean()

    value, loss = descend(state.value, squared_error, config.value_learning_rate)
    target_value = select(
        rng.update % config.target_update_period == 0,
        polyak(state.target_value, value.params, config.tau),
        state.target_value,
    )
    return state._replace(value=value, target_value=target_value), {"value/loss": loss}


def act(state: State, observations: Tensor, config: Config, rng: Rng) -> Tensor:
    """The decoder's action for the prior's mean, or for a sample of the prior."""
    _, decoder = state.autoencoder.params
    action_dim = len(decoder[-1][1])  # as many as its last layer's biases
    shape = len(observations), config.latents_per_action * action_dim
    if config.evaluation_latent == "zero":
        latents = torch.zeros(shape, device=observations.device)
    else:
        latents = rng.normal("latent", shape)
    return reconstruct(state.autoencoder.params, observations, latents)


phases: Phases = {"policy": (update_autoencoder, update_value)}
