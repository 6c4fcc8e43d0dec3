"""IQL: implicit Q-learning (Kostrikov, Nair and Levine, 2022).

An expectile of the dataset's action values stands for the best value that the data supports, so no
action outside the data is ever valued; the policy imitates the data, weighted by its advantage.

The order is that of the authors' code: V learns from the target critics; the policy from those
and the new V; the critics from the new V; then the target critics move. CORL (Tarasov et al.,
2023) takes the next states' V and the advantage before V's step instead. Departures:

- As in CORL, networks have torch's default initialization, the log-std may fall to -20 and
  observations are standardized. The authors initialize orthogonally, stop at -5, leave observations
  as they are, clip the data's actions to 1 - 1e-5 and scale rewards to a return range of 1000
  (preprocessing.observations=none, preprocessing.rewards=return_range).
- The critics' loss is the sum of two mean squared errors, as the authors'; CORL halves it.
- `policy_loss`: the Gaussian's log-likelihood (Eq. 7), or the squared error of CORL's deterministic
  policy, summed over action dimensions, which leaves the std at 1.
- The policy's rate falls to 0 along a cosine over `policy_decay_updates`, as in both; 0 keeps it.

`inverse_temperature` multiplies the advantage: the paper's beta. `expectile` is the paper's tau.

Shapes: B batch, O observation, A action. This file sees one run.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lom_exp import validation
from lom_exp.critics import init_critics, init_value, min_q, regress, td_target, v
from lom_exp.distributions import gaussian_log_prob
from lom_exp.networks import Network, Params, descend, network, polyak
from lom_exp.policies import init_gaussian, tanh_mean
from lom_exp.random import Rng
from lom_exp.types import Metrics, Phases, Transitions


@dataclass(frozen=True)
class Config:
    """Hyperparameters of IQL for locomotion; the authors' code's and CORL's agree on most."""

    expectile: float = 0.7  # 0.5 is the mean of the data's values, 1 would be their maximum
    inverse_temperature: float = 3.0  # multiplies the advantage, in 1/return
    max_weight: float = 100.0  # the ceiling of exp(advantage)
    discount: float = 0.99
    tau: float = 0.005  # Polyak rate of the target critics, every update
    min_log_std: float = -20.0
    max_log_std: float = 2.0
    policy_loss: str = "log_likelihood"  # or squared_error
    value_learning_rate: float = 3e-4
    critic_learning_rate: float = 3e-4
    policy_learning_rate: float = 3e-4  # of the first update
    policy_decay_updates: int = 1_000_000  # from the first update to a rate of 0; 0: no decay
    batch_size: int = 256
    hidden_sizes: tuple[int, ...] = (256, 256)

    def __post_init__(self) -> None:
        validation.positive(self, "inverse_temperature", "max_weight", "batch_size")
        validation.positive(self, "value_learning_rate", "critic_learning_rate")
        validation.positive(self, "policy_learning_rate")
        validation.non_negative(self, "policy_decay_updates")
        validation.unit_interval(self, "expectile", "discount")
        validation.fraction(self, "tau")
        validation.ordered(self, "min_log_std", "max_log_std")
        validation.one_of(self, "policy_loss", ("log_likelihood", "squared_error"))
        validation.layer_sizes(self, "hidden_sizes")


class State(NamedTuple):
    value: Network
    critics: Network  # every leaf leads with 2
    target_critics: Params
    policy: Network  # of (mean's layers, log_std (A,))


Updated = tuple[State, Metrics]


def expectile_loss(errors: Tensor, expectile: float | Tensor) -> Tensor:
    """Squares of target minus prediction, weighted by the expectile above, else by the rest."""
    return torch.where(errors < 0, 1 - expectile, expectile) * errors**2


def init(observation_dim: int, action_dim: int, config: Config, rng: Rng) -> State:
    """Networks with torch's default initialization; targets start as the critics."""
    hidden = config.hidden_sizes
    critics = init_critics(rng, observation_dim, action_dim, hidden)
    return State(
        value=network(init_value(rng, observation_dim, hidden)),
        critics=network(critics),
        target_critics=critics,
        policy=network(init_gaussian(rng, [observation_dim, *hidden, action_dim])),
    )


def update_value(state: State, data: Transitions, config: Config, rng: Rng) -> Updated:
    """Expectile regression of V onto the lesser target Q of the data's actions (Eq. 5)."""
    batch = data.sample(rng, "batch", config.batch_size)
    target_v = min_q(state.target_critics, batch.observations, batch.actions)

    def expectile_regression(params: Params) -> Tensor:
        return expectile_loss(target_v - v(params, batch.observations), config.expectile).mean()

    value, loss = descend(state.value, expectile_regression, config.value_learning_rate)
    return state._replace(value=value), {"value/loss": loss}


def policy_rate(config: Config, rng: Rng) -> float | Tensor:
    """The policy's learning rate in this update."""
    if config.policy_decay_updates == 0:
        return config.policy_learning_rate
    done = rng.update.clamp(max=config.policy_decay_updates) / config.policy_decay_updates
    return config.policy_learning_rate * 0.5 * (1 + torch.cos(math.pi * done))


def update_policy(state: State, data: Transitions, config: Config, rng: Rng) -> Updated:
    """Imitate the data, weighted by its advantage over the new V (Eq. 7)."""
    batch = data.sample(rng, "batch", config.batch_size)
    values = v(state.value.params, batch.observations)
    advantages = min_q(state.target_critics, batch.observations, batch.actions) - values
    weights = (config.inverse_temperature * advantages).exp().clamp(max=config.max_weight)

    def weighted_imitation(params: Params) -> Tensor:
        means = tanh_mean(params, batch.observations)
        if config.policy_loss == "squared_error":
            return (weights * ((means - batch.actions) ** 2).sum(-1)).mean()
        std = params[1].clamp(config.min_log_std, config.max_log_std).exp()
        return -(weights * gaussian_log_prob(batch.actions, means, std)).mean()

    policy, loss = descend(state.policy, weighted_imitation, policy_rate(config, rng))
    metrics = {
        "policy/loss": loss,
        "policy/advantage": advantages.mean(),
        "policy/weight": weights.mean(),
        "policy/saturated_share": (weights >= config.max_weight).to(weights.dtype).mean(),
        "policy/value": values.mean(),
    }
    return state._replace(policy=policy), metrics


def update_critics(state: State, data: Transitions, config: Config, rng: Rng) -> Updated:
    """One step towards the new V of the next observation (Eq. 6), then one of the targets."""
    batch = data.sample(rng, "batch", config.batch_size)
    target_q = td_target(batch, v(state.value.params, batch.next_observations), config.discount)
    critics, loss = regress(state.critics, batch, target_q, config.critic_learning_rate)
    target_critics = polyak(state.target_critics, critics.params, config.tau)
    state = state._replace(critics=critics, target_critics=target_critics)
    return state, {"critics/loss": loss, "critics/target_q": target_q.mean()}


def act(state: State, observations: Tensor, config: Config, rng: Rng) -> Tensor:
    """The policy's mean."""
    return tanh_mean(state.policy.params, observations)


phases: Phases = {"policy": (update_value, update_policy, update_critics)}
