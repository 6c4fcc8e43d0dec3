"""CRR: critic regularized regression (Wang, Novikov, Zolna et al., NeurIPS 2020).

The policy imitates the dataset's actions, each weighted by what a critic says of its advantage
over the policy's own; the critic learns the value of a slowly following copy of the policy.

Departures, and what the paper has that this has not. Where it leaves a choice open, it is that of
DeepMind's later implementation in Acme.

- The critic regresses onto expected returns, as Acme's does; the paper's is distributional. Acme
  halves the squared error, which Adam does not notice.
- The policy is one Gaussian, whose mean tanh bounds; the paper's is a mixture of Gaussians, Acme's
  a Gaussian before its tanh. Drawn actions are clipped to the box before a critic sees them.
- Networks are MLPs; the recurrent ones for partial observations are left out.
- `weighting` is the indicator (Eq. 3: `binary`) or the exponential (Eq. 4: `exp`), `baseline` the
  mean or the maximum over drawn actions; the paper's CRR exp, binary and binary max are pairs of
  them.
- `evaluation_action`: the policy's mean (Acme's evaluator has the slow copy's), or the paper's
  critic weighted policy, which draws actions and plays one by its share of exp(Q / temperature).
- Policy and critic both learn from the other as it was before the update, as in Acme; targets are
  copied at the end of every `target_update_period`-th update.

`temperature` divides: the paper's beta. Only `exp` and `critic_weighted` read it.

Shapes: B batch, O observation, A action, S actions drawn, E episodes. This file sees one run.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from lom_exp import validation
from lom_exp.critics import init_critics, min_q, regress, td_target
from lom_exp.distributions import gaussian_log_prob
from lom_exp.networks import Network, Params, descend, init_mlp, network, select
from lom_exp.policies import bounded_gaussian
from lom_exp.random import Rng
from lom_exp.types import Metrics, Phases, Transitions


@dataclass(frozen=True)
class Config:
    """Hyperparameters of CRR: the defaults of Acme's agent; batch and std's bounds are ours."""

    weighting: str = "exp"  # or binary
    baseline: str = "mean"  # or max: of the drawn actions' values
    num_value_samples: int = 4  # S, the paper's m
    temperature: float = 1.0  # divides the advantage, in units of return
    max_weight: float = 20.0  # the ceiling of exp(advantage)
    evaluation_action: str = "mean"  # or critic_weighted
    discount: float = 0.99
    target_update_period: int = 100  # updates from one copy to the targets to the next
    min_log_std: float = -5.0  # of the policy, approached by tanh
    max_log_std: float = 0.0
    critic_learning_rate: float = 3e-4
    policy_learning_rate: float = 3e-4
    batch_size: int = 256
    hidden_sizes: tuple[int, ...] = (256, 256)

    def __post_init__(self) -> None:
        validation.one_of(self, "weighting", ("exp", "binary"))
        validation.one_of(self, "baseline", ("mean", "max"))
        validation.one_of(self, "evaluation_action", ("mean", "critic_weighted"))
        validation.positive(self, "temperature", "max_weight", "num_value_samples")
        validation.positive(self, "target_update_period", "batch_size")
        validation.positive(self, "critic_learning_rate", "policy_learning_rate")
        validation.unit_interval(self, "discount")
        validation.ordered(self, "min_log_std", "max_log_std")
        validation.layer_sizes(self, "hidden_sizes")


class State(NamedTuple):
    critics: Network  # of one critic: every leaf leads with 1
    target_critics: Params
    policy: Network  # of layers with 2 A outputs
    target_policy: Params


Updated = tuple[State, Metrics]


def gaussian(layers: Params, observations: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """The policy's means and stds (B, A)."""
    return bounded_gaussian(layers, observations, config.min_log_std, config.max_log_std)


def draw(layers: Params, observations: Tensor, config: Config, rng: Rng, stream: str) -> Tensor:
    """S actions of the policy for each observation, clipped to the box: (S, B, A)."""
    means, stds = gaussian(layers, observations, config)
    noise = rng.normal(stream, (config.num_value_samples, *means.shape))
    return (means + stds * noise).clamp(-1, 1)


def drawn_q(state: State, observations: Tensor, actions: Tensor) -> Tensor:
    """The critic's values of S actions for each observation: (B, O), (S, B, A) -> (S, B)."""
    repeated = observations.expand(len(actions), -1, -1)
    return min_q(state.critics.params, repeated, actions)


def init(observation_dim: int, action_dim: int, config: Config, rng: Rng) -> State:
    """Networks with torch's default initialization; the targets start as their networks."""
    hidden = config.hidden_sizes
    critics = init_critics(rng, observation_dim, action_dim, hidden, count=1)
    policy = init_mlp(rng, "policy", [observation_dim, *hidden, 2 * action_dim])
    return State(network(critics), critics, network(policy), policy)


def update_policy(state: State, data: Transitions, config: Config, rng: Rng) -> Updated:
    """Imitate the dataset's actions, weighted by their advantage over drawn ones (Eq. 1-4)."""
    batch = data.sample(rng, "batch", config.batch_size)
    observations = batch.observations
    drawn = draw(state.policy.params, observations, config, rng, "actions")
    values = drawn_q(state, observations, drawn)
    values = values.mean(0) if config.baseline == "mean" else values.amax(0)
    advantages = min_q(state.critics.params, observations, batch.actions) - values
    if config.weighting == "binary":
        weights = (advantages > 0).to(advantages.dtype)
    else:
        weights = (advantages / config.temperature).exp().clamp(max=config.max_weight)

    def weighted_imitation(params: Params) -> Tensor:
        means, stds = gaussian(params, observations, config)
        return -(weights * gaussian_log_prob(batch.actions, means, stds)).mean()

    policy, loss = descend(state.policy, weighted_imitation, config.policy_learning_rate)
    metrics = {
        "policy/loss": loss,
        "policy/advantage": advantages.mean(),
        "policy/weight": weights.mean(),
        "policy/value": values.mean(),
    }
    return state._replace(policy=policy), metrics


def update_critics(state: State, data: Transitions, config: Config, rng: Rng) -> Updated:
    """One step towards the target critic's value of the target policy's next action."""
    batch = data.sample(rng, "batch", config.batch_size)
    means, stds = gaussian(state.target_policy, batch.next_observations, config)
    next_actions = (means + stds * rng.normal("next_action", means.shape)).clamp(-1, 1)
    next_q = min_q(state.target_critics, batch.next_observations, next_actions)
    target_q = td_target(batch, next_q, config.discount)
    critics, loss = regress(state.critics, batch, target_q, config.critic_learning_rate)
    metrics = {"critics/loss": loss, "critics/target_q": target_q.mean()}
    return state._replace(critics=critics), metrics


def update_targets(state: State, data: Transitions, config: Config, rng: Rng) -> Updated:
    """Every so many updates, copy critic and policy to their targets."""
    target_critics, target_policy = select(
        (rng.update + 1) % config.target_update_period == 0,
        (state.critics.params, state.policy.params),
        (state.target_critics, state.target_policy),
    )
    return state._replace(target_critics=target_critics, target_policy=target_policy), {}


def act(state: State, observations: Tensor, config: Config, rng: Rng) -> Tensor:
    """The policy's mean, or one of S drawn actions by the critic's choice."""
    if config.evaluation_action == "mean":
        return gaussian(state.policy.params, observations, config)[0]
    actions = draw(state.policy.params, observations, config, rng, "actions")
    logits = drawn_q(state, observations, actions) / config.temperature
    gumbel = -(-rng.uniform("choice", logits.shape).log()).log()
    chosen = (logits + gumbel).argmax(0)  # (E,), drawn with probabilities softmax(logits)
    return actions.gather(0, chosen[None, :, None].expand(1, *actions.shape[1:])).squeeze(0)


phases: Phases = {"policy": (update_policy, update_critics, update_targets)}
