"""AWAC: advantage-weighted actor-critic (Nair, Gupta, Dalal and Levine, 2020), trained offline.

Twin critics learn the values of the policy's own actions, and the policy imitates the dataset's
actions, each weighted by the exponential of its advantage over an action of the policy.

The defaults are CORL's (Tarasov et al., 2023). Departures:

- The policy is CORL's Gaussian: nothing squashes its mean, and no state changes its std. CORL
  leaves clipping the evaluated mean to the simulator; here `act` clips it.
- The paper's policy update maximizes E[exp(advantage / temperature) log density] without a
  ceiling on the weights; `max_weight` is CORL's. The normalizer Z(s) is left out, as in both.
- One action drawn from the policy stands for the state's value, clipped to the box, as is the
  next action of the critics' target; both as in CORL. Advantages are of the least critic.
- CORL moves the target critics after the policy's step, here before it: no step reads them
  in between, so nothing changes.

`temperature` divides the advantage: the paper's and CORL's lambda.

Shapes: B batch, O observation, A action. This file sees one run.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from lom_exp import validation
from lom_exp.critics import init_critics, min_q, regress, td_target
from lom_exp.distributions import gaussian_log_prob
from lom_exp.networks import Network, Params, descend, mlp, network, polyak
from lom_exp.policies import init_gaussian
from lom_exp.random import Rng
from lom_exp.types import Metrics, Phases, Transitions


@dataclass(frozen=True)
class Config:
    """Hyperparameters of AWAC, CORL's for the locomotion datasets."""

    temperature: float = 1 / 3  # divides the advantage, in units of return
    max_weight: float = 100.0  # the ceiling of exp(advantage)
    discount: float = 0.99
    tau: float = 0.005  # Polyak rate of the target critics, every update
    min_log_std: float = -20.0
    max_log_std: float = 2.0
    critic_learning_rate: float = 3e-4
    policy_learning_rate: float = 3e-4
    batch_size: int = 256
    hidden_sizes: tuple[int, ...] = (256, 256, 256)

    def __post_init__(self) -> None:
        validation.positive(self, "temperature", "max_weight", "batch_size")
        validation.positive(self, "critic_learning_rate", "policy_learning_rate")
        validation.unit_interval(self, "discount")
        validation.fraction(self, "tau")
        validation.ordered(self, "min_log_std", "max_log_std")
        validation.layer_sizes(self, "hidden_sizes")


class State(NamedTuple):
    critics: Network  # every leaf leads with 2
    target_critics: Params
    policy: Network  # of (mean's layers, log_std (A,))


Updated = tuple[State, Metrics]


def gaussian(params: Params, observations: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """The policy's means (B, A), which nothing bounds, and its stds (A,)."""
    layers, log_std = params
    std = log_std.clamp(config.min_log_std, config.max_log_std).exp()
    return mlp(layers, observations), std


def sample(params: Params, observations: Tensor, config: Config, rng: Rng, stream: str) -> Tensor:
    """Actions (B, A) drawn from the policy, clipped to the box."""
    means, std = gaussian(params, observations, config)
    return (means + std * rng.normal(stream, means.shape)).clamp(-1, 1)


def init(observation_dim: int, action_dim: int, config: Config, rng: Rng) -> State:
    """Networks with torch's default initialization; a policy's std of 1."""
    hidden = config.hidden_sizes
    critics = init_critics(rng, observation_dim, action_dim, hidden)
    return State(
        critics=network(critics),
        target_critics=critics,
        policy=network(init_gaussian(rng, [observation_dim, *hidden, action_dim])),
    )


def update_critics(state: State, data: Transitions, config: Config, rng: Rng) -> Updated:
    """One step towards the value of the policy's next action, then one of the targets."""
    batch = data.sample(rng, "batch", config.batch_size)
    next_observations = batch.next_observations
    next_actions = sample(state.policy.params, next_observations, config, rng, "next_action")
    next_q = min_q(state.target_critics, next_observations, next_actions)
    target_q = td_target(batch, next_q, config.discount)
    critics, loss = regress(state.critics, batch, target_q, config.critic_learning_rate)
    target_critics = polyak(state.target_critics, critics.params, config.tau)
    state = state._replace(critics=critics, target_critics=target_critics)
    return state, {"critics/loss": loss, "critics/target_q": target_q.mean()}


def update_policy(state: State, data: Transitions, config: Config, rng: Rng) -> Updated:
    """Imitate the critics' batch, weighted by its advantage under the critics as they now are."""
    batch = data.sample(rng, "batch", config.batch_size)
    observations, critics = batch.observations, state.critics.params
    drawn = sample(state.policy.params, observations, config, rng, "action")
    values = min_q(critics, observations, drawn)
    advantages = min_q(critics, observations, batch.actions) - values
    weights = (advantages / config.temperature).exp().clamp(max=config.max_weight)

    def weighted_imitation(params: Params) -> Tensor:
        means, std = gaussian(params, observations, config)
        return -(weights * gaussian_log_prob(batch.actions, means, std)).mean()

    policy, loss = descend(state.policy, weighted_imitation, config.policy_learning_rate)
    metrics = {
        "policy/loss": loss,
        "policy/advantage": advantages.mean(),
        "policy/weight": weights.mean(),
        "policy/saturated_share": (weights >= config.max_weight).to(weights.dtype).mean(),
        "policy/value": values.mean(),
    }
    return state._replace(policy=policy), metrics


def act(state: State, observations: Tensor, config: Config, rng: Rng) -> Tensor:
    """The policy's mean, clipped to the box."""
    means, _ = gaussian(state.policy.params, observations, config)
    return means.clamp(-1, 1)


phases: Phases = {"policy": (update_critics, update_policy)}
