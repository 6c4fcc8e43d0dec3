"""Heads: how the outputs of a policy's network become actions or a distribution over them.

Shapes: O observation, A action; leading axes are free.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lom_exp.networks import Params, init_mlp, mlp
from lom_exp.random import Rng


def init_gaussian(rng: Rng, sizes: Sequence[int]) -> Params:
    """(layers of the mean, log_std (A,)): a Gaussian whose std, 1 at first, no state changes."""
    return init_mlp(rng, "policy", sizes), torch.zeros(sizes[-1])


def tanh_mean(params: Params, observations: Tensor) -> Tensor:
    """The mean of `init_gaussian`'s parameters as an action: (..., O) -> (..., A) in [-1, 1]."""
    layers, _ = params
    return tanh_action(layers, observations)


def tanh_action(layers: Params, observations: Tensor) -> Tensor:
    """A deterministic policy's action: (..., O) -> (..., A) in [-1, 1]."""
    return torch.tanh(mlp(layers, observations))


def bounded_gaussian(
    layers: Params, observations: Tensor, min_log_std: float, max_log_std: float
) -> tuple[Tensor, Tensor]:
    """Means (..., A) through tanh, and stds (..., A) whose logarithm tanh keeps within bounds."""
    means, outputs = mlp(layers, observations).chunk(2, -1)
    half_range = 0.5 * (max_log_std - min_log_std)
    log_stds = min_log_std + half_range * (torch.tanh(outputs) + 1)
    return torch.tanh(means), log_stds.exp()
