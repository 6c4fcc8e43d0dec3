"""Action values and state values: ensembles, their targets and their regression.

Shapes: B batch, O observation, A action, K critics of an ensemble, whose parameters lead with K.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, vmap
from torch.nn.functional import linear
from torch.utils._pytree import tree_map

from lom_exp.networks import Network, Params, descend, init_mlp, init_mlps, mlp
from lom_exp.random import Rng
from lom_exp.types import Transitions


def init_critics(
    rng: Rng, observation_dim: int, action_dim: int, hidden_sizes: Sequence[int], count: int = 2
) -> Params:
    """`count` independent critics, torch's default initialization."""
    return init_mlps(rng, "critics", [observation_dim + action_dim, *hidden_sizes, 1], count)


def init_value(rng: Rng, observation_dim: int, hidden_sizes: Sequence[int]) -> Params:
    """A state value's network, torch's default initialization."""
    return init_mlp(rng, "value", [observation_dim, *hidden_sizes, 1])


def v(params: Params, observations: Tensor) -> Tensor:
    """V of one network: (..., O) -> (...)."""
    return mlp(params, observations).squeeze(-1)


def q(params: Params, observations: Tensor, actions: Tensor) -> Tensor:
    """Q of one critic: (..., O), (..., A) -> (...).

    Of several actions at each observation the observations need not be repeated: leading axes
    broadcast.
    """
    shapes = observations.shape[:-1], actions.shape[:-1]
    shape = torch.broadcast_shapes(*shapes)  # type: ignore[no-untyped-call]
    if observations.shape[:-1] == shape or observations.device.type == "cpu":
        inputs = torch.cat((observations.expand(*shape, -1), actions.expand(*shape, -1)), -1)
        return mlp(params, inputs).squeeze(-1)
    # What a GPU spends on many actions is mostly the way of the hidden units through its memory.
    # Without a product for the first layer the compiler writes them once and not three times.
    (weight, bias), *others = params
    of_observations, of_actions = weight.split((observations.shape[-1], actions.shape[-1]), -1)
    hidden = linear(observations, of_observations, bias) + (actions.unsqueeze(-2) * of_actions).sum(
        -1
    )
    return mlp(others, torch.relu(hidden)).squeeze(-1)


q_ensemble = vmap(q, in_dims=(0, None, None))  # (K, ...)


def min_q(params: Params, observations: Tensor, actions: Tensor) -> Tensor:
    """The least of the ensemble's Q: (..., O), (..., A) -> (...)."""
    return q_ensemble(params, observations, actions).amin(0)


def member(params: Params, index: int) -> Params:
    """One critic of an ensemble, as `q` takes it."""
    return tree_map(lambda leaf: leaf[index], params)


def smoothed(actions: Tensor, rng: Rng, std: float, clip: float) -> Tensor:
    """Actions with clipped Gaussian noise, in the box: target policy smoothing (TD3, Eq. 14)."""
    noise = (std * rng.normal("smoothing", actions.shape)).clamp(-clip, clip)
    return (actions + noise).clamp(-1, 1)


def td_target(batch: Transitions, next_values: Tensor, discount: float | Tensor) -> Tensor:
    """r + discount (1 - termination) next value: (B,)."""
    return batch.rewards + discount * (1 - batch.terminations) * next_values


def regress(
    critics: Network, batch: Transitions, targets: Tensor, learning_rate: float | Tensor
) -> tuple[Network, Tensor]:
    """One step towards targets (B,); the loss is the sum over critics of mean squared errors."""

    def squared_error(params: Params) -> Tensor:
        errors = q_ensemble(params, batch.observations, batch.actions) - targets  # (K, B)
        return (errors**2).mean(-1).sum()

    return descend(critics, squared_error, learning_rate)
