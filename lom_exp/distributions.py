"""Log-probabilities of Gaussians and of mixtures of them."""

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus


def gaussian_log_prob(actions: Tensor, means: Tensor, stds: Tensor) -> Tensor:
    """Of a diagonal Gaussian, summed over the last axis: (..., A) -> (...)."""
    errors = (actions - means) / stds
    return (-0.5 * errors**2 - stds.log() - 0.5 * math.log(2 * math.pi)).sum(-1)


def component_log_probs(actions: Tensor, means: Tensor, stds: Tensor) -> Tensor:
    """Of actions (B, A) under each of M diagonal Gaussians (B, M, A): (B, M)."""
    return gaussian_log_prob(actions.unsqueeze(-2), means, stds)


def mixture_log_prob(actions: Tensor, logits: Tensor, means: Tensor, stds: Tensor) -> Tensor:
    """Of actions (B, A) under mixtures with weights softmax(logits (B, M)): (B,)."""
    return torch.logsumexp(
        logits.log_softmax(-1) + component_log_probs(actions, means, stds), dim=-1
    )


def tanh_gaussian_log_prob(unsquashed: Tensor, means: Tensor, stds: Tensor) -> Tensor:
    """Of tanh(unsquashed), for Gaussian `unsquashed` (..., A): (...).

    The Jacobian log(1 - tanh(x)^2) is written 2 (log 2 - x - softplus(-2 x)), which does not
    cancel where tanh has saturated.
    """
    jacobian = 2 * (math.log(2) - unsquashed - softplus(-2 * unsquashed))
    return gaussian_log_prob(unsquashed, means, stds) - jacobian.sum(-1)
