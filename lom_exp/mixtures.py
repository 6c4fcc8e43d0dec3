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
    params: Params, observations: Tensor, components: Tensor, config: MixtureConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (B, M), means (B, M, A) and standard deviations (B, M, A).

    `components` (M,) is 1 for those that there are. The others have a logit of minus infinity and
    so no weight.
    """
    m = len(components)
    outputs = mlp(params, observations)
    outputs = outputs.view(*outputs.shape[:-1], m, -1)  # of each a mean, log-stds and a logit
    means, log_stds = outputs[..., :-1].chunk(2, -1)
    if config.squash_means:
        means = torch.tanh(means).clamp(-0.9999, 0.9999)
    stds = log_stds.clamp(config.min_log_std, config.max_log_std).exp()
    return outputs[..., -1].masked_fill(components == 0, -torch.inf), means, stds


def over_components(values: Tensor, components: Tensor) -> Tensor:
    """Mean of values (..., M), finite throughout, over the components that there are: (...)."""
    return (values * components).sum(-1) / components.sum()


def component(values: Tensor, chosen: Tensor) -> Tensor:
    """Of values (B, M, A) the chosen component's (B,): (B, A)."""
    index = chosen[:, None, None].expand(-1, 1, values.shape[-1])
    return values.gather(1, index).squeeze(1)
