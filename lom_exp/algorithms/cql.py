"""CQL: conservative Q-learning (Kumar, Zhou, Tucker and Levine, NeurIPS 2020) on soft actor-critic.

SAC whose critics also learn to value the policy's and random actions below the dataset's, so that
the policy finds nothing to exploit where there are no data.

The defaults are CORL's for locomotion, whose configs differ in the scale of the rewards only.
Departures from the paper and from CORL:

- `importance_sampling` (the paper's estimate of Eq. 4, App. F) subtracts each action's log-density
  from its Q; without it the dataset's action joins the sum, as in CORL. Neither divides the sum by
  the number of its actions, as the paper does; without `lagrange` no gradient would notice.
- To random actions and the policy's the paper's and CORL's code add the policy's at the next
  observations, ends of episodes included. No target sees these: they are only compared.
- `lagrange` multiplies `regularizer_weight` by a learned weight that holds the regularizer at
  `lagrange_gap`, as CORL does on AntMaze; the paper learns the one weight there is. CORL clips the
  regularizer from below there; here it is never clipped.
- Targets have no entropy, as in CORL; the policy's loss has.
- All networks learn from the state before the update, as in CORL.
- CORL gives its second critic three hidden layers, whatever the first has; here both have all.
- Output layers start near 0 as CORL's do: critics orthogonal, the policy's Xavier, gain 0.01.

Shapes: B batch, O observation, A action, K critics, N sampled actions. This file sees one run.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from lom_exp import validation
from lom_exp.critics import min_q, q_ensemble, td_target
from lom_exp.distributions import tanh_gaussian_log_prob
from lom_exp.errors import ConfigError
from lom_exp.networks import (
    Network,
    Params,
    descend,
    descend_with,
    init_mlp,
    init_orthogonal,
    mlp,
    network,
    polyak,
)
from lom_exp.random import Rng
from lom_exp.types import Metrics, Phases, Transitions

NUM_CRITICS = 2
OUTPUT_GAIN = 0.01  # of every network's last layer, at first
MIN_LOG_STD, MAX_LOG_STD = -20.0, 2.0  # of the policy, before tanh
MAX_LAGRANGE_WEIGHT = 1e6


@dataclass(frozen=True)
class Config:
    """Hyperparameters of CQL, those of CORL for locomotion."""

    regularizer_weight: float = 10.0  # of the regularizer in each critic's loss
    num_actions: int = 10  # N: random, of the policy, and of the policy at the next state, each
    importance_sampling: bool = True
    lagrange: bool = False
    lagrange_gap: float = 0.0  # what the regularizer is held at, in units of Q; only for lagrange
    max_target_backup: bool = False  # bootstrap from the best of N next actions, not from one
    discount: float = 0.99
    tau: float = 0.005  # Polyak rate of the target critics
    critic_learning_rate: float = 3e-4  # also of the Lagrange weight
    policy_learning_rate: float = 3e-5  # also of the entropy weight
    batch_size: int = 256
    hidden_sizes: tuple[int, ...] = (256, 256, 256)

    def __post_init__(self) -> None:
        validation.positive(self, "num_actions", "batch_size")
        validation.positive(self, "critic_learning_rate", "policy_learning_rate")
        validation.non_negative(self, "regularizer_weight")
        validation.unit_interval(self, "discount")
        validation.fraction(self, "tau")
        validation.layer_sizes(self, "hidden_sizes")
        if self.lagrange:
            validation.positive(self, "lagrange_gap")
        elif self.lagrange_gap != 0:
            raise ConfigError(
                f"lagrange_gap={self.lagrange_gap!r} cannot be used: without lagrange=true nothing "
                "reads it, and it must be 0"
            )


class State(NamedTuple):
    critics: Network  # every leaf leads with K
    target_critics: Params
    policy: Network  # of (layers O -> 2 A, multiplier 0-d and offset 0-d of the log-std)
    entropy_weight: Network  # of its logarithm, 0-d
    lagrange_weight: Network  # of its logarithm, 0-d; not updated without lagrange


def init(observation_dim: int, action_dim: int, config: Config, rng: Rng) -> State:
    """Critics orthogonal, the policy torch's default; all outputs near 0, the std near 1 / e."""
    sizes = [observation_dim + action_dim, *config.hidden_sizes, 1]
    members = [
        init_orthogonal(rng, f"critics/{i}", sizes, gain=2**0.5, last_gain=OUTPUT_GAIN)
        for i in range(NUM_CRITICS)
    ]
    critics = tree_map(lambda *leaves: torch.stack(leaves), *members)

    fan_in, fan_out = config.hidden_sizes[-1], 2 * action_dim
    *hidden, (weight, bias) = init_mlp(
        rng, "policy", [observation_dim, *config.hidden_sizes, fan_out]
    )
    xavier = OUTPUT_GAIN * (6 * fan_in / (fan_in + fan_out)) ** 0.5  # over init_mlp's bound
    layers = [*hidden, (xavier * weight, torch.zeros_like(bias))]
    return State(
        critics=network(critics),
        target_critics=critics,
        policy=network((layers, torch.ones(()), -torch.ones(()))),
        entropy_weight=network(torch.zeros(())),
        lagrange_weight=network(torch.ones(())),
    )


def gaussian(params: Params, observations: Tensor) -> tuple[Tensor, Tensor]:
    """Means and standard deviations (..., A) of the policy before tanh."""
    layers, multiplier, offset = params
    means, outputs = mlp(layers, observations).chunk(2, -1)
    return means, (multiplier * outputs + offset).clamp(MIN_LOG_STD, MAX_LOG_STD).exp()


def sample(means: Tensor, stds: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Actions (..., A) for standard normal noise (..., A), and their log-densities (...)."""
    unsquashed = means + stds * noise
    return torch.tanh(unsquashed), tanh_gaussian_log_prob(unsquashed, means, stds)


def at(observations: Tensor, actions: Tensor) -> Tensor:
    """Observations (B, O) once for each of several actions (..., B, A): (..., B, O)."""
    return observations.expand(*actions.shape[:-1], -1)


def bootstrap(
    state: State, batch: Transitions, mean: Tensor, std: Tensor, config: Config, rng: Rng
) -> Tensor:
    """Target critics' value (B,) of the policy N(mean, std) at the next observations."""
    several = (config.num_actions,) if config.max_target_backup else ()
    actions, _ = sample(mean, std, rng.normal("next_action", (*several, *mean.shape)))
    next_q = min_q(state.target_critics, at(batch.next_observations, actions), actions)
    return next_q.amax(0) if config.max_target_backup else next_q


def candidates(means: Tensor, stds: Tensor, config: Config, rng: Rng) -> tuple[Tensor, Tensor]:
    """The regularizer's actions (3 N, B, A) and their log-densities (3 N, B).

    Random ones, then those of the policy N(means, stds), each (2, B, A): at the observations and
    at the next observations.
    """
    shape = (config.num_actions, *means.shape[1:])
    random = 2 * rng.uniform("random_actions", shape) - 1
    streams = ("current_actions", "following_actions")
    noise = torch.stack([rng.normal(stream, shape) for stream in streams])
    drawn, log_probs = sample(means[:, None], stds[:, None], noise)
    uniform = torch.full(shape[:-1], -shape[-1] * math.log(2), device=means.device)
    return torch.cat((random, *drawn.unbind())), torch.cat((uniform, *log_probs.unbind()))


def regularizers(qs: Tensor, log_densities: Tensor, config: Config) -> Tensor:
    """Soft maximum of Q over actions less the dataset's Q, for each critic: (K,).

    qs (K, 1 + 3 N, B) are of the dataset's action and of `candidates`.
    """
    compared = qs[:, 1:] - log_densities if config.importance_sampling else qs
    return (compared.logsumexp(1) - qs[:, 0]).mean(-1)


def improve_critics(
    state: State, batch: Transitions, means: Tensor, stds: Tensor, config: Config, rng: Rng
) -> tuple[State, Metrics]:
    """One step of the critics, their targets and the Lagrange weight."""
    next_q = bootstrap(state, batch, means[1], stds[1], config, rng)
    target_q = td_target(batch, next_q, config.discount)
    sampled, log_densities = candidates(means, stds, config, rng)
    # All are valued at the observations, those of the next ones too: one pass for all.
    actions = torch.cat((batch.actions[None], sampled))
    observations = at(batch.observations, actions)
    lagrange_weight = state.lagrange_weight

    def scaled(log_weight: Tensor) -> Tensor | float:
        if not config.lagrange:
            return config.regularizer_weight
        return config.regularizer_weight * log_weight.exp().clamp(max=MAX_LAGRANGE_WEIGHT)

    def conservative_error(params: Params) -> tuple[Tensor, Tensor]:
        qs = q_ensemble(params, observations, actions)
        errors = ((qs[:, 0] - target_q) ** 2).mean(-1)
        excess = regularizers(qs, log_densities, config) - config.lagrange_gap  # (K,)
        return (errors + scaled(lagrange_weight.params) * excess).sum(), excess

    critics, loss, excess = descend_with(
        state.critics, conservative_error, config.critic_learning_rate
    )
    metrics = {
        "critics/loss": loss,
        "critics/target_q": target_q.mean(),
        "critics/excess": excess.mean(),
    }
    if config.lagrange:
        lagrange_weight, _ = descend(
            lagrange_weight,
            lambda log_weight: -(scaled(log_weight) * excess).mean(),
            config.critic_learning_rate,
        )
        applied = state.lagrange_weight.params.exp().clamp(max=MAX_LAGRANGE_WEIGHT)
        metrics["critics/lagrange_weight"] = applied
    target_critics = polyak(state.target_critics, critics.params, config.tau)
    state = state._replace(
        critics=critics, target_critics=target_critics, lagrange_weight=lagrange_weight
    )
    return state, metrics


def improve_policy(
    state: State, batch: Transitions, means: Tensor, stds: Tensor, config: Config, rng: Rng
) -> tuple[State, Metrics]:
    """One step of the policy and of the entropy's weight."""
    noise = rng.normal("action", batch.actions.shape)
    _, log_probs = sample(means[0], stds[0], noise)
    missing_entropy = log_probs.mean() - batch.actions.shape[-1]  # of a target of -A
    temperature: Tensor = state.entropy_weight.params.exp()

    def soft_loss(params: Params) -> Tensor:
        actions, log_probs = sample(*gaussian(params, batch.observations), noise)
        values = min_q(state.critics.params, batch.observations, actions)
        return (temperature * log_probs - values).mean()

    policy, loss = descend(state.policy, soft_loss, config.policy_learning_rate)
    entropy_weight, _ = descend(
        state.entropy_weight,
        lambda log_weight: -log_weight * missing_entropy,
        config.policy_learning_rate,
    )
    metrics = {
        "policy/loss": loss,
        "policy/entropy": -log_probs.mean(),
        "policy/entropy_weight": temperature,
    }
    return state._replace(policy=policy, entropy_weight=entropy_weight), metrics


def update(state: State, data: Transitions, config: Config, rng: Rng) -> tuple[State, Metrics]:
    """One step of every network, each from the others as they were before."""
    batch = data.sample(rng, "batch", config.batch_size)
    both = torch.stack((batch.observations, batch.next_observations))
    means, stds = gaussian(state.policy.params, both)  # (2, B, A)
    conservative, metrics = improve_critics(state, batch, means, stds, config, rng)
    improved, more = improve_policy(state, batch, means, stds, config, rng)
    after = conservative._replace(policy=improved.policy, entropy_weight=improved.entropy_weight)
    return after, metrics | more


def act(state: State, observations: Tensor, config: Config, rng: Rng) -> Tensor:
    """The tanh of the policy's mean."""
    means, _ = gaussian(state.policy.params, observations)
    return torch.tanh(means)


phases: Phases = {"policy": (update,)}
