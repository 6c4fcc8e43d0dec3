"""One-step RL: offline RL without off-policy evaluation (Brandfonbrener et al., 2021).

Three stages, one after another: clone the behavior, learn its action values by SARSA, and take one
step of policy improvement: imitate the data's actions, weighted by their exponential advantage.
Of the paper's improvement operators this is the exponentially weighted one.

The defaults are the authors' code's, but for `inverse_temperature`. Departures:

- Their inverse temperature (temp) is 0.01 in the code's file and was tuned per dataset over a grid
  in the paper; which dataset took which value is not in the code. Here it is 1 unless beta says
  otherwise.
- Their policy's file asks for a truncated normal, but the policy is copied from the behavior's
  network whole, a plain normal with bounded mean; so it is here.
- Their target critic moves in every `target_update_period`-th update counted from 1, here counted
  from 0: one update earlier.
- Their advantage is computed with gradients, which the policy's optimizer never reads; here it has
  none.
- The policy's optimizer starts anew in the last stage, as theirs.

`inverse_temperature` multiplies the advantage. The value of a state is the mean of Q over actions
drawn from the behavior, which nothing clips. The dataset's next actions must be the episode's own.

Shapes: B batch, O observation, A action, S actions drawn. This file sees one run.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from lom_exp import validation
from lom_exp.critics import init_critics, member, min_q, q, regress, td_target
from lom_exp.distributions import gaussian_log_prob
from lom_exp.networks import Network, Params, descend, init_mlp, network, polyak, select
from lom_exp.policies import bounded_gaussian
from lom_exp.random import Rng
from lom_exp.types import Metrics, Phases, Transitions

MARGIN = 1e-4  # the policy imitates actions clipped to 1 - MARGIN, as in the authors' code


@dataclass(frozen=True)
class Config:
    """Hyperparameters of one-step RL, those of the authors' code but for the temperature."""

    inverse_temperature: float = 1.0  # multiplies the advantage, in 1/return
    max_weight: float = 100.0  # the ceiling of exp(advantage)
    num_value_samples: int = 10  # S, of the behavior, for a state's value
    discount: float = 0.99
    tau: float = 0.005  # Polyak rate of the target critic
    target_update_period: int = 2  # updates from one Polyak step to the next
    min_log_std: float = -5.0  # of behavior and policy, approached by tanh
    max_log_std: float = 0.0
    behavior_learning_rate: float = 1e-4
    critic_learning_rate: float = 1e-4
    policy_learning_rate: float = 1e-4
    batch_size: int = 512
    hidden_sizes: tuple[int, ...] = (1024, 1024)  # of all networks

    def __post_init__(self) -> None:
        validation.positive(self, "inverse_temperature", "max_weight", "num_value_samples")
        validation.positive(self, "target_update_period", "batch_size")
        validation.positive(self, "behavior_learning_rate", "critic_learning_rate")
        validation.positive(self, "policy_learning_rate")
        validation.unit_interval(self, "discount")
        validation.fraction(self, "tau")
        validation.ordered(self, "min_log_std", "max_log_std")
        validation.layer_sizes(self, "hidden_sizes")


class State(NamedTuple):
    behavior: Network  # of layers with 2 A outputs
    critics: Network  # of one critic: every leaf leads with 1
    target_critics: Params
    policy: Network  # as the behavior, from whose parameters it starts


Updated = tuple[State, Metrics]


def gaussian(layers: Params, observations: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """Means and stds (B, A) of behavior or policy."""
    return bounded_gaussian(layers, observations, config.min_log_std, config.max_log_std)


def init(observation_dim: int, action_dim: int, config: Config, rng: Rng) -> State:
    """Networks with torch's default initialization; the policy is the behavior."""
    hidden = config.hidden_sizes
    behavior = init_mlp(rng, "behavior", [observation_dim, *hidden, 2 * action_dim])
    critics = init_critics(rng, observation_dim, action_dim, hidden, count=1)
    return State(network(behavior), network(critics), critics, network(behavior))


def update_behavior(state: State, data: Transitions, config: Config, rng: Rng) -> Updated:
    """Fit the behavior to the dataset's actions by maximum likelihood; the policy follows it."""
    batch = data.sample(rng, "batch", config.batch_size)

    def negative_log_likelihood(params: Params) -> Tensor:
        means, stds = gaussian(params, batch.observations, config)
        return -gaussian_log_prob(batch.actions, means, stds).mean()

    behavior, loss = descend(state.behavior, negative_log_likelihood, config.behavior_learning_rate)
    policy = state.policy._replace(params=behavior.params)  # moments and count still of no update
    return state._replace(behavior=behavior, policy=policy), {"behavior/loss": loss}


def update_critics(state: State, data: Transitions, config: Config, rng: Rng) -> Updated:
    """SARSA: one step towards the target's value of the next action in the data."""
    batch = data.sample(rng, "batch", config.batch_size)
    next_q = min_q(state.target_critics, batch.next_observations, batch.next_actions)
    target_q = td_target(batch, next_q, config.discount)
    critics, loss = regress(state.critics, batch, target_q, config.critic_learning_rate)
    target_critics = select(
        rng.update % config.target_update_period == 0,
        polyak(state.target_critics, critics.params, config.tau),
        state.target_critics,
    )
    state = state._replace(critics=critics, target_critics=target_critics)
    return state, {"critics/loss": loss, "critics/target_q": target_q.mean()}


def update_policy(state: State, data: Transitions, config: Config, rng: Rng) -> Updated:
    """Imitate the dataset's actions, weighted by their advantage over the behavior's."""
    batch = data.sample(rng, "batch", config.batch_size)
    observations, critic = batch.observations, member(state.critics.params, 0)
    means, stds = gaussian(state.behavior.params, observations, config)
    shape = (config.num_value_samples, *means.shape)
    drawn = means + stds * rng.normal("value_actions", shape)  # (S, B, A)
    repeated = observations.expand(config.num_value_samples, -1, -1)
    advantages = q(critic, observations, batch.actions) - q(critic, repeated, drawn).mean(0)
    weights = (config.inverse_temperature * advantages).exp().clamp(max=config.max_weight)
    imitated = batch.actions.clamp(-1 + MARGIN, 1 - MARGIN)

    def weighted_imitation(params: Params) -> Tensor:
        means, stds = gaussian(params, observations, config)
        return -(weights * gaussian_log_prob(imitated, means, stds)).mean()

    policy, loss = descend(state.policy, weighted_imitation, config.policy_learning_rate)
    metrics = {
        "policy/loss": loss,
        "policy/advantage": advantages.mean(),
        "policy/weight": weights.mean(),
        "policy/saturated_share": (weights >= config.max_weight).to(weights.dtype).mean(),
    }
    return state._replace(policy=policy), metrics


def act(state: State, observations: Tensor, config: Config, rng: Rng) -> Tensor:
    """The policy's mean."""
    means, _ = gaussian(state.policy.params, observations, config)
    return means


phases: Phases = {
    "behavior": (update_behavior,),
    "critics": (update_critics,),
    "policy": (update_policy,),
}
