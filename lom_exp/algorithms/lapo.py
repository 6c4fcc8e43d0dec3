"""LAPO: latent-variable advantage-weighted policy optimization (Chen et al., NeurIPS 2022).

A conditional autoencoder imitates the dataset's actions, those of positive advantage most, and a
deterministic policy chooses in its latent space, within a bounded box, what the critics value most.

The method and its defaults are those of the authors' released code for locomotion; the paper was
not consulted. The code's advantage weight has two values, `expectile` for a positive advantage and
1 - `expectile` for any other. Departures from the code:

- Standard deviations of observations and actions have 1e-3 added before dividing, not 1e-6.
- Rewards over their greatest (preprocessing.rewards=max) need one above 0; the code does not check.
- Evaluation clips actions to the box; the code leaves that to the environment.
- V's targets are bounded by the extreme rewards over 1 - `discount`, as in the code for all but
  AntMaze, where it has constants. These are bounds for episodes without an end: where no reward is
  below 0, V of the last states cannot come down to what they are worth.

As in the code, Q learns from the online V, and V from the target critics at the target policy; only
the policy's latents are bounded, and their smoothed versions may leave that box; the decoder's
actions and the encoder's log-variances have no bound.

Shapes: B batch, O observation, A action, L latent, K critics. This file sees one run.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lom_exp import validation
from lom_exp.autoencoders import decode, encode, init_autoencoder, kl_divergence
from lom_exp.critics import (
    init_critics,
    init_value,
    member,
    q,
    q_ensemble,
    regress,
    td_target,
    v,
)
from lom_exp.errors import ConfigError
from lom_exp.networks import Network, Params, descend, init_mlp, network, polyak
from lom_exp.policies import tanh_action
from lom_exp.random import Rng
from lom_exp.types import Metrics, Phases, Transitions


@dataclass(frozen=True)
class Config:
    """Hyperparameters of LAPO, those of its authors' code for locomotion."""

    discount: float = 0.99
    tau: float = 0.005  # Polyak rate of all targets
    expectile: float = 0.9  # imitation's weight where the advantage is positive
    kl_weight: float = 1.0  # of the latent's divergence against the squared error
    pessimism: float = (
        1.0  # share of the critics' minimum in their value, the maximum's is the rest
    )
    latent_bound: float = 2.0  # of the policy's latents, in standard deviations of their prior
    latents_per_action: int = 2  # L / A
    smoothing_std: float = 0.1  # of the noise on the latents of V's target, 0 for none
    smoothing_clip: float = 0.2  # bound of that noise
    critic_learning_rate: float = 2e-4  # also V's
    autoencoder_learning_rate: float = 2e-4
    policy_learning_rate: float = 2e-4
    batch_size: int = 512
    hidden_sizes: tuple[int, ...] = (256, 256, 256)

    def __post_init__(self) -> None:
        validation.unit_interval(self, "discount", "expectile", "pessimism")
        validation.fraction(self, "tau")
        validation.positive(self, "latent_bound", "latents_per_action", "batch_size")
        validation.positive(self, "critic_learning_rate", "autoencoder_learning_rate")
        validation.positive(self, "policy_learning_rate")
        validation.non_negative(self, "kl_weight", "smoothing_std", "smoothing_clip")
        validation.layer_sizes(self, "hidden_sizes")
        if self.discount == 1:
            raise ConfigError(
                f"discount={self.discount!r} cannot be used: it must be below 1, because values "
                "are bounded by rewards over 1 - discount"
            )


class State(NamedTuple):
    critics: Network  # every leaf leads with K
    target_critics: Params
    value: Network
    autoencoder: Network  # of (encoder, decoder)
    target_autoencoder: Params
    policy: Network  # O -> L
    target_policy: Params


Updated = tuple[State, Metrics]


def init(observation_dim: int, action_dim: int, config: Config, rng: Rng) -> State:
    """Networks with torch's default initialization; targets start as what they follow."""
    o, a, hidden = observation_dim, action_dim, config.hidden_sizes
    latent_dim = config.latents_per_action * a
    critics = init_critics(rng, o, a, hidden)
    autoencoder = init_autoencoder(rng, o, a, latent_dim, hidden)
    policy = init_mlp(rng, "policy", [o, *hidden, latent_dim])
    return State(
        critics=network(critics),
        target_critics=critics,
        value=network(init_value(rng, o, hidden)),
        autoencoder=network(autoencoder),
        target_autoencoder=autoencoder,
        policy=network(policy),
        target_policy=policy,
    )


def latents(policy: Params, observations: Tensor, config: Config) -> Tensor:
    """The policy's latents (..., L), within the box."""
    return config.latent_bound * tanh_action(policy, observations)


def target_q(state: State, observations: Tensor, chosen: Tensor, config: Config) -> Tensor:
    """Target critics' value (B,) of what the target decoder makes of latents (B, L)."""
    actions = decode(state.target_autoencoder, observations, chosen)
    qs = q_ensemble(state.target_critics, observations, actions)
    return config.pessimism * qs.amin(0) + (1 - config.pessimism) * qs.amax(0)


def update_critics(state: State, data: Transitions, config: Config, rng: Rng) -> Updated:
    """Regress Q onto a step and V, and V onto the target networks' Q of the target policy."""
    batch = data.sample(rng, "batch", config.batch_size)
    q_targets = td_target(batch, v(state.value.params, batch.next_observations), config.discount)

    chosen = latents(state.target_policy, batch.observations, config)
    noise = config.smoothing_std * rng.normal("smoothing", chosen.shape)
    smoothed = chosen + noise.clamp(-config.smoothing_clip, config.smoothing_clip)
    lowest, highest = torch.aminmax(data.rewards)  # of the whole dataset
    v_targets = target_q(state, batch.observations, smoothed, config).clamp(
        lowest / (1 - config.discount), highest / (1 - config.discount)
    )

    def squared_error(params: Params) -> Tensor:
        return ((v(params, batch.observations) - v_targets) ** 2).mean()

    critics, critic_loss = regress(state.critics, batch, q_targets, config.critic_learning_rate)
    value, value_loss = descend(state.value, squared_error, config.critic_learning_rate)
    metrics = {
        "critics/loss": critic_loss,
        "critics/target_q": q_targets.mean(),
        "value/loss": value_loss,
    }
    return state._replace(critics=critics, value=value), metrics


def update_autoencoder(state: State, data: Transitions, config: Config, rng: Rng) -> Updated:
    """Imitate the dataset's actions, weighted by the sign of their advantage."""
    batch = data.sample(rng, "batch", config.batch_size)
    chosen = latents(state.target_policy, batch.next_observations, config)
    next_q = target_q(state, batch.next_observations, chosen, config)
    advantages = td_target(batch, next_q, config.discount) - v(
        state.value.params, batch.observations
    )
    weights = torch.where(advantages > 0, config.expectile, 1 - config.expectile)
    noise = rng.normal("latent", chosen.shape)

    def weighted_imitation(params: Params) -> Tensor:
        means, log_variances = encode(params, batch.observations, batch.actions)
        drawn = means + (log_variances / 2).exp() * noise
        errors = ((decode(params, batch.observations, drawn) - batch.actions) ** 2).sum(-1)
        return (weights * (errors + config.kl_weight * kl_divergence(means, log_variances))).mean()

    autoencoder, loss = descend(
        state.autoencoder, weighted_imitation, config.autoencoder_learning_rate
    )
    metrics = {
        "autoencoder/loss": loss,
        "autoencoder/advantage": advantages.mean(),
        "autoencoder/weight": weights.mean(),
    }
    return state._replace(autoencoder=autoencoder), metrics


def update_policy(state: State, data: Transitions, config: Config, rng: Rng) -> Updated:
    """Choose the latents whose actions the first critic values most; then all targets follow."""
    observations = data.sample(rng, "batch", config.batch_size).observations

    def negative_q(params: Params) -> Tensor:
        actions = decode(
            state.target_autoencoder, observations, latents(params, observations, config)
        )
        return -q(member(state.critics.params, 0), observations, actions).mean()

    policy, loss = descend(state.policy, negative_q, config.policy_learning_rate)
    state = state._replace(
        target_critics=polyak(state.target_critics, state.critics.params, config.tau),
        target_autoencoder=polyak(state.target_autoencoder, state.autoencoder.params, config.tau),
        policy=policy,
        target_policy=polyak(state.target_policy, policy.params, config.tau),
    )
    return state, {"policy/loss": loss}


def act(state: State, observations: Tensor, config: Config, rng: Rng) -> Tensor:
    """What the target decoder makes of the policy's latents, which nothing bounds."""
    chosen = latents(state.policy.params, observations, config)
    return decode(state.target_autoencoder, observations, chosen)


phases: Phases = {"policy": (update_critics, update_autoencoder, update_policy)}
