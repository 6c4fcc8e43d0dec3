"""BC: behavior cloning with a unimodal Gaussian policy, the baseline of LOM's Table 2.

The policy's mean is a tanh MLP and its standard deviation a learned vector that no state changes.
`policy_loss=log_likelihood` is the BC of the LOM authors' code (mean over action dimensions),
`squared_error` the deterministic BC of CORL (conf/algo/bc_deterministic.yaml); both have the same
optimal mean.

Shapes: B batch, O observation, A action. This file sees one run.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from lom_exp import validation
from lom_exp.distributions import gaussian_log_prob
from lom_exp.networks import Network, Params, descend, network
from lom_exp.policies import init_gaussian, tanh_mean
from lom_exp.random import Rng
from lom_exp.types import Metrics, Phases, Transitions


@dataclass(frozen=True)
class Config:
    """Hyperparameters of BC, those of the LOM authors' code."""

    policy_loss: str = "log_likelihood"  # or squared_error
    learning_rate: float = 1e-3
    batch_size: int = 512
    hidden_sizes: tuple[int, ...] = (256, 256)

    def __post_init__(self) -> None:
        validation.positive(self, "learning_rate", "batch_size")
        validation.layer_sizes(self, "hidden_sizes")
        validation.one_of(self, "policy_loss", ("log_likelihood", "squared_error"))


class State(NamedTuple):
    policy: Network  # of (mean's layers, log_std (A,))


def init(observation_dim: int, action_dim: int, config: Config, rng: Rng) -> State:
    """A policy with torch's default initialization and a standard deviation of 1."""
    sizes = [observation_dim, *config.hidden_sizes, action_dim]
    return State(policy=network(init_gaussian(rng, sizes)))


def update_policy(
    state: State, data: Transitions, config: Config, rng: Rng
) -> tuple[State, Metrics]:
    """Imitate the dataset's actions."""
    batch = data.sample(rng, "policy/batch", config.batch_size)

    def imitation(params: Params) -> Tensor:
        mean = tanh_mean(params, batch.observations)
        if config.policy_loss == "squared_error":
            return ((mean - batch.actions) ** 2).mean()
        log_probs = gaussian_log_prob(batch.actions, mean, params[1].exp())
        return -log_probs.mean() / batch.actions.shape[-1]

    policy, loss = descend(state.policy, imitation, config.learning_rate)
    return State(policy), {"policy/loss": loss, "policy/std": policy.params[1].exp().mean()}


def act(state: State, observations: Tensor, config: Config, rng: Rng) -> Tensor:
    """The policy's mean."""
    return tanh_mean(state.policy.params, observations)


phases: Phases = {"policy": (update_policy,)}
