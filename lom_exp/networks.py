"""Networks as functions of their parameters; a Network is parameters with their Adam moments.

Parameters are plain trees of tensors. A loss differentiates the parameters it is given and nothing
else, so no algorithm needs to stop a gradient.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import grad_and_value
from torch.nn.functional import linear
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from lom_exp.random import Rng

Params = Any  # a tree of tensors

# Rows that a CPU takes through a network at once: their activations then stay in its cache
# (256 wide: half a megabyte), where those of LOM's 10,240 labels a batch would go through memory.
BLOCK = 512


class Network(NamedTuple):
    """Parameters and the state of their Adam optimizer."""

    params: Params
    first_moment: Params
    second_moment: Params
    updates: Tensor  # int64, 0-d


def network(params: Params) -> Network:
    """A network that has not been updated yet."""
    zeros = tree_map(torch.zeros_like, params)
    updates = torch.zeros((), dtype=torch.int64)
    return Network(params, zeros, tree_map(torch.zeros_like, params), updates)


def init_mlp(rng: Rng, name: str, sizes: Sequence[int]) -> Params:
    """Layers of (weight (out, in), bias (out,)), uniform in ±1/sqrt(in): torch.nn.Linear's own."""
    layers = []
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        weight = 2 * rng.uniform(f"{name}/{i}/weight", (fan_out, fan_in)) - 1
        bias = 2 * rng.uniform(f"{name}/{i}/bias", (fan_out,)) - 1
        layers.append((weight * fan_in**-0.5, bias * fan_in**-0.5))
    return layers


def init_mlps(rng: Rng, name: str, sizes: Sequence[int], count: int) -> Params:
    """`count` independent MLPs, stacked: every leaf leads with `count`."""
    members = [init_mlp(rng, f"{name}/{i}", sizes) for i in range(count)]
    return tree_map(lambda *leaves: torch.stack(leaves), *members)


def init_orthogonal(
    rng: Rng, name: str, sizes: Sequence[int], gain: float, last_gain: float
) -> Params:
    """Layers of orthogonal weights (Saxe et al., 2014) times a gain, and of zero biases."""
    layers = []
    for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes)):
        long, short = max(fan_in, fan_out), min(fan_in, fan_out)
        basis, triangle = torch.linalg.qr(rng.normal(f"{name}/{i}/weight", (long, short)))
        basis = basis * triangle.diagonal().sign()  # else the signs are LAPACK's choice
        weight = basis if fan_out == long else basis.T
        layer_gain = last_gain if i == len(sizes) - 2 else gain
        layers.append((layer_gain * weight, torch.zeros(fan_out)))
    return layers


def mlp(params: Params, inputs: Tensor) -> Tensor:
    """ReLU MLP without an output nonlinearity: (..., in) -> (..., out)."""
    if inputs.device.type != "cpu" or inputs.shape[:-1].numel() <= BLOCK:
        return _mlp(params, inputs)
    blocks = torch.split(inputs.reshape(-1, inputs.shape[-1]), BLOCK)
    return torch.cat([_mlp(params, block) for block in blocks]).view(*inputs.shape[:-1], -1)


def _mlp(params: Params, inputs: Tensor) -> Tensor:
    *hidden, (weight, bias) = params
    for hidden_weight, hidden_bias in hidden:
        inputs = torch.relu_(linear(inputs, hidden_weight, hidden_bias))
    if len(bias) == 1 and inputs.device.type != "cpu":
        # A GPU takes longer for a product with one column than for this, which the compiler makes
        # part of what comes before it.
        value: Tensor = (inputs * weight).sum(-1, keepdim=True) + bias
        return value
    return linear(inputs, weight, bias)


def descend(
    net: Network, loss: Callable[[Params], Tensor], learning_rate: float | Tensor
) -> tuple[Network, Tensor]:
    """One step of Adam (Kingma and Ba, 2015; betas 0.9 and 0.999, epsilon 1e-8, as torch's).

    Returns the network after the step and the loss before it.
    """
    after, value, _ = descend_with(net, lambda params: (loss(params), ()), learning_rate)
    return after, value


def descend_with(
    net: Network, loss: Callable[[Params], tuple[Tensor, Any]], learning_rate: float | Tensor
) -> tuple[Network, Tensor, Any]:
    """As `descend`, for a loss that returns a tree of tensors beside it, which is handed on."""
    grads, (value, beside) = grad_and_value(loss, has_aux=True)(net.params)
    updates = net.updates + 1
    count = updates.double()  # in float32, 1 - 0.999^n would lose four digits at first
    step_size = learning_rate / (1 - 0.9**count).to(value.dtype)
    correction = (1 - 0.999**count).sqrt().to(value.dtype)

    # Flattened once: walking the trees again for each line would cost a small network a quarter.
    leaves, tree = tree_flatten(net.params)
    trees = (grads, net.first_moment, net.second_moment)
    params, first_moments, second_moments = [], [], []
    for param, grad, m, v in zip(leaves, *map(tree_leaves, trees), strict=True):
        m, v = m.lerp(grad, 0.1), v.lerp(grad * grad, 0.001)
        params.append(param - step_size * m / (v.sqrt() / correction + 1e-8))
        first_moments.append(m)
        second_moments.append(v)
    after = [tree_unflatten(new, tree) for new in (params, first_moments, second_moments)]
    return Network(after[0], after[1], after[2], updates), value, beside


def polyak(target: Params, online: Params, tau: float | Tensor) -> Params:
    """target <- (1 - tau) target + tau online."""
    return tree_map(lambda t, o: t + tau * (o - t), target, online)


def select(condition: Tensor, new: Any, old: Any) -> Any:
    """The tree `new` where the 0-d condition holds, else `old`: one graph for a delayed update."""
    return tree_map(lambda n, o: torch.where(condition, n, o), new, old)
