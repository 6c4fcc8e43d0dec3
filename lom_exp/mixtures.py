"""Mixture density networks (Bishop, 1994): a Gaussian mixture over actions for every observation.

Shapes: B batch, O observation, A action, M components.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from lom_exp.networks import Params, init_mlp, mlp
from lom_exp.random import Rng


class MixtureConfig(Protocol):
    """What a Config must have for its algorithm to use a mixture."""

    @property
    def num_components(self) -> int: ...
    @property
    def squash_means(self) -> bool: ...
    @property
    def min_log_std(self) -> float: ...
    @property
    def max_log_std(self) -> float: ...


def init_mixture(
    rng: Rng,
    observation_dim: int,
    action_dim: int,
    hidden_sizes: Sequence[int],
    num_components: int,
) -> Params:
    """A network with M (2 A + 1) outputs, torch's default initialization."""
    outputs = num_components * (2 * action_dim + 1)
    return init_mlp(rng, "behavior", [observation_dim, *hidden_sizes, outputs])


def mixture(
    params: Params, observations: Tensor, config: MixtureConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (B, M), means (B, M, A) and standard deviations (B, M, A)."""
    outputs, m = mlp(params, observations), config.num_components
    means, log_stds = outputs[..., :-m].reshape(*outputs.shape[:-1], 2, m, -1).unbind(-3)
    if config.squash_means:
        means = torch.tanh(means).clamp(-0.9999, 0.9999)
    stds = log_stds.clamp(config.min_log_std, config.max_log_std).exp()
    return outputs[..., -m:], means, stds


def component(values: Tensor, chosen: Tensor) -> Tensor:
    """Of values (B, M, A) the chosen component's (B,): (B, A)."""
    index = chosen[:, None, None].expand(-1, 1, values.shape[-1])
    return values.gather(1, index).squeeze(1)
