"""TD3+BC: a minimalist approach to offline reinforcement learning (Fujimoto and Gu, 2021).

TD3 (see td3.py for its critics, targets and periods) with the squared distance to the dataset's
action added to the policy's loss, the value's weight divided by its mean magnitude in the batch.

The defaults are the authors' code's: everything TD3's, q_weight = 2.5. As there, and unlike the
paper's Eq. 3, the squared distance is a mean over action dimensions, not a sum. The mean magnitude
is a constant of the gradient, and is that of the policy's actions, not of the dataset's: the code's
reading of Eq. 5, which prints Q(s, a). CORL runs the same settings on every dataset.

Shapes: B batch, A action. This file sees one run.
"""

from dataclasses import dataclass

from torch import Tensor

from lom_exp import validation
from lom_exp.algorithms import td3
from lom_exp.networks import Params, descend
from lom_exp.policies import tanh_action
from lom_exp.random import Rng
from lom_exp.types import Phases, Transitions


@dataclass(frozen=True)
class Config(td3.Config):
    """Hyperparameters of TD3+BC, those of the authors' code."""

    q_weight: float = 2.5  # of the normalized value beside the squared distance: the paper's alpha

    def __post_init__(self) -> None:
        super().__post_init__()
        validation.non_negative(self, "q_weight")


State = td3.State
init = td3.init


def update_policy(state: State, data: Transitions, config: Config, rng: Rng) -> td3.Updated:
    """When it is due, one step up the value and towards the data (Eq. 3), and all targets' step."""
    batch = data.sample(rng, "batch", config.batch_size)
    values = td3.first_q(state, state.policy.params, batch.observations)
    scale = config.q_weight / values.abs().mean()  # Eq. 5; outside the loss: no gradient

    def imitation_and_negative_value(params: Params) -> Tensor:
        imitated = tanh_action(params, batch.observations)
        value = td3.first_q(state, params, batch.observations).mean()
        return ((imitated - batch.actions) ** 2).mean() - scale * value

    policy, loss = descend(state.policy, imitation_and_negative_value, config.policy_learning_rate)
    metrics = {"policy/loss": loss, "policy/q": values.mean(), "policy/q_scale": scale}
    return td3.step_if_due(state, policy, config, rng), metrics


act = td3.act
phases: Phases = {"policy": (td3.update_critics, update_policy)}
