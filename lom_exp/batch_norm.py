"""Batch normalization (Ioffe and Szegedy, 2015) with its running statistics as values, not state.

As torch.nn.BatchNorm1d: epsilon 1e-5, momentum 0.1, the running variance unbiased.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from lom_exp.networks import Params

_EPSILON, _MOMENTUM = 1e-5, 0.1


class Statistics(NamedTuple):
    """Running mean and variance (F,) of F features."""

    mean: Tensor
    variance: Tensor


def init_batch_norm(features: int) -> tuple[Params, Statistics]:
    """Scale 1 and shift 0, and statistics of a standard normal."""
    params = torch.ones(features), torch.zeros(features)
    return params, Statistics(torch.zeros(features), torch.ones(features))


def normalize_batch(
    params: Params, statistics: Statistics, inputs: Tensor
) -> tuple[Tensor, Statistics]:
    """In training: inputs (B, F), B > 1, by their own moments; and the statistics moved by them."""
    mean = inputs.mean(0)
    variance = ((inputs - mean) ** 2).mean(0)
    unbiased = variance * (len(inputs) / (len(inputs) - 1))
    moved = Statistics(
        statistics.mean + _MOMENTUM * (mean - statistics.mean),
        statistics.variance + _MOMENTUM * (unbiased - statistics.variance),
    )
    return _scaled(params, Statistics(mean, variance), inputs), moved


def normalize(params: Params, statistics: Statistics, inputs: Tensor) -> Tensor:
    """In evaluation: inputs (..., F) by the running statistics."""
    return _scaled(params, statistics, inputs)


def _scaled(params: Params, statistics: Statistics, inputs: Tensor) -> Tensor:
    scale, shift = params
    std = (statistics.variance + _EPSILON).sqrt()
    normalized: Tensor = scale * (inputs - statistics.mean) / std + shift
    return normalized
