"""TD3: twin delayed deterministic policy gradient (Fujimoto, van Hoof and Meger, 2018), offline.

A deterministic policy climbs the first of two critics, which learn from the lesser of their target
values at a smoothed action of the target policy. Nothing ties the policy to the data: trained on a
narrow dataset it is known to fail, and it is here to show that.

Widths, rates and batch are those of TD3+BC's authors' code (Fujimoto and Gu, 2021), of which this
is all but the imitation. Departures:

- The paper trains online, after a warm-up of random actions; here all transitions are a dataset's.
- Policy and targets move in every `policy_period`-th update, counted from 1, as in the authors'
  code. In the updates between, the policy's gradient is computed and discarded, so `policy/loss`
  averages over all updates.
- The authors scale noise, clip and policy by the largest action, which here is always 1.

Shapes: B batch, O observation, A action. This file sees one run.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from lom_exp import validation
from lom_exp.critics import init_critics, member, min_q, q, regress, smoothed, td_target
from lom_exp.networks import Network, Params, descend, init_mlp, network, polyak, select
from lom_exp.policies import tanh_action
from lom_exp.random import Rng
from lom_exp.types import Metrics, Phases, Transitions


@dataclass(frozen=True)
class Config:
    """Hyperparameters of TD3, the authors' for TD3+BC."""

    discount: float = 0.99
    tau: float = 0.005  # Polyak rate of the target critics and the target policy
    smoothing_std: float = 0.2  # of the noise on the target policy's actions, 0 for none
    smoothing_clip: float = 0.5  # bound of that noise
    policy_period: int = 2  # updates from one step of policy and targets to the next
    critic_learning_rate: float = 3e-4
    policy_learning_rate: float = 3e-4
    batch_size: int = 256
    hidden_sizes: tuple[int, ...] = (256, 256)

    def __post_init__(self) -> None:
        validation.positive(self, "policy_period", "batch_size")
        validation.positive(self, "critic_learning_rate", "policy_learning_rate")
        validation.non_negative(self, "smoothing_std", "smoothing_clip")
        validation.unit_interval(self, "discount")
        validation.fraction(self, "tau")
        validation.layer_sizes(self, "hidden_sizes")


class State(NamedTuple):
    critics: Network  # every leaf leads with 2
    target_critics: Params
    policy: Network  # of layers
    target_policy: Params


Updated = tuple[State, Metrics]


def init(observation_dim: int, action_dim: int, config: Config, rng: Rng) -> State:
    """Networks with torch's default initialization; targets start as the networks they follow."""
    hidden = config.hidden_sizes
    critics = init_critics(rng, observation_dim, action_dim, hidden)
    policy = init_mlp(rng, "policy", [observation_dim, *hidden, action_dim])
    return State(network(critics), critics, network(policy), policy)


def update_critics(state: State, data: Transitions, config: Config, rng: Rng) -> Updated:
    """One step towards the lesser target value of a smoothed action of the target policy."""
    batch = data.sample(rng, "batch", config.batch_size)
    next_actions = tanh_action(state.target_policy, batch.next_observations)
    next_actions = smoothed(next_actions, rng, config.smoothing_std, config.smoothing_clip)
    next_q = min_q(state.target_critics, batch.next_observations, next_actions)
    target_q = td_target(batch, next_q, config.discount)
    critics, loss = regress(state.critics, batch, target_q, config.critic_learning_rate)
    metrics = {"critics/loss": loss, "critics/target_q": target_q.mean()}
    return state._replace(critics=critics), metrics


def first_q(state: State, policy: Params, observations: Tensor) -> Tensor:
    """The first critic's value of a policy's actions: (B,)."""
    critic = member(state.critics.params, 0)
    return q(critic, observations, tanh_action(policy, observations))


def step_if_due(state: State, policy: Network, config: Config, rng: Rng) -> State:
    """The state with this policy and its targets a step nearer, but as it was between periods."""
    new = (
        policy,
        polyak(state.target_policy, policy.params, config.tau),
        polyak(state.target_critics, state.critics.params, config.tau),
    )
    old = (state.policy, state.target_policy, state.target_critics)
    due = (rng.update + 1) % config.policy_period == 0
    policy, target_policy, target_critics = select(due, new, old)
    return state._replace(policy=policy, target_policy=target_policy, target_critics=target_critics)


def update_policy(state: State, data: Transitions, config: Config, rng: Rng) -> Updated:
    """When it is due, one step up the first critic on the critics' batch, and all targets' step."""
    observations = data.sample(rng, "batch", config.batch_size).observations

    def negative_value(params: Params) -> Tensor:
        return -first_q(state, params, observations).mean()

    policy, loss = descend(state.policy, negative_value, config.policy_learning_rate)
    return step_if_due(state, policy, config, rng), {"policy/loss": loss}


def act(state: State, observations: Tensor, config: Config, rng: Rng) -> Tensor:
    """The policy's action."""
    return tanh_action(state.policy.params, observations)


phases: Phases = {"policy": (update_critics, update_policy)}
