"""MDN: behavior cloning with a mixture density network (Bishop, 1994), a baseline of LOM's Table 2.

LOM's behavior mixture (Wang, Jin and Montana, ICLR 2025, Eq. 15), fitted by maximum likelihood and
then played as it is. Network, loss and their departures from the paper are those of lom.py, the
bounds of the log-stds with their drawback among them.

Neither the paper nor the LOM authors' code says how the mixture acts. `evaluation_action` has two
readings: `ancestral` (default) draws a component by its weight and an action from it, as Fig. 2c
shows the whole distribution; `best_component` is the mean of the heaviest one, which the code's
history once had. Drawn anew at each step, components of different goals work against each other.

Shapes: E episodes, B batch, O observation, A action, M components. This file sees one run.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lom_exp import validation
from lom_exp.distributions import mixture_log_prob
from lom_exp.mixtures import component, init_mixture, mixture
from lom_exp.networks import Network, Params, descend, network
from lom_exp.random import Rng
from lom_exp.types import Metrics, Phases, Transitions


@dataclass(frozen=True)
class Config:
    """Hyperparameters of MDN, those of LOM's mixture in the LOM authors' code."""

    num_components: int = validation.padded(10)  # M
    squash_means: bool = True  # component means through tanh
    min_log_std: float = -15.0  # of a component
    max_log_std: float = 0.0
    evaluation_action: str = "ancestral"  # or best_component
    learning_rate: float = 1e-3
    batch_size: int = 512
    hidden_sizes: tuple[int, ...] = (512, 512)

    def __post_init__(self) -> None:
        validation.positive(self, "num_components", "learning_rate", "batch_size")
        validation.ordered(self, "min_log_std", "max_log_std")
        validation.layer_sizes(self, "hidden_sizes")
        validation.one_of(self, "evaluation_action", ("ancestral", "best_component"))


class State(NamedTuple):
    policy: Network
    components: Tensor  # (M,), 1 for each


def init(observation_dim: int, action_dim: int, config: Config, rng: Rng) -> State:
    """A mixture with torch's default initialization."""
    m, hidden = config.num_components, config.hidden_sizes
    mixture = init_mixture(rng, observation_dim, action_dim, hidden, m)
    return State(policy=network(mixture), components=torch.ones(m))


def update_policy(
    state: State, data: Transitions, config: Config, rng: Rng
) -> tuple[State, Metrics]:
    """Fit the mixture to the dataset's actions by maximum likelihood."""
    batch = data.sample(rng, "policy/batch", config.batch_size)

    def negative_log_likelihood(params: Params) -> Tensor:
        logits, means, stds = mixture(params, batch.observations, state.components, config)
        return -mixture_log_prob(batch.actions, logits, means, stds).mean()

    policy, loss = descend(state.policy, negative_log_likelihood, config.learning_rate)
    return state._replace(policy=policy), {"policy/loss": loss}


def act(state: State, observations: Tensor, config: Config, rng: Rng) -> Tensor:
    """An action drawn from the mixture, or the mean of its heaviest component; in the box."""
    logits, means, stds = mixture(state.policy.params, observations, state.components, config)
    if config.evaluation_action == "best_component":
        return component(means, logits.argmax(-1)).clamp(-1, 1)
    cumulative_weights = logits.softmax(-1).cumsum(-1)  # (E, M)
    passed = cumulative_weights <= rng.uniform("component", logits.shape[:-1])[..., None]
    last = state.components.sum().long() - 1
    chosen = passed.sum(-1).minimum(last)  # the weights' sum may round below 1
    mean, std = component(means, chosen), component(stds, chosen)
    return (mean + std * rng.normal("action", mean.shape)).clamp(-1, 1)


phases: Phases = {"policy": (update_policy,)}
