"""LOM's parts, so simple that what is learned from them can be worked out by hand.

A network without a hidden layer is a linear function, one without weights a constant.
"""

import math

import torch

from lom_exp.algorithms import lom
from lom_exp.networks import network
from lom_exp.random import Rng
from lom_exp.types import Transitions


class WholeDataset(Transitions):
    """A dataset whose every minibatch is all of it, so that an expectation is exact."""

    def sample(self, rng, stream, size):
        return self


class Quadrature:
    """In place of random noise: down the rows, the means of the normal's equal slices."""

    def normal(self, stream, shape):
        edges = torch.special.ndtri(torch.linspace(0, 1, shape[0] + 1))
        densities = (-(edges**2) / 2).exp() / math.sqrt(2 * math.pi)
        return (-shape[0] * densities.diff())[:, None].expand(shape)


def rng(update=0, phase="policy"):
    return Rng.of(torch.tensor(0), phase, torch.tensor(update))


def dataset(actions, **columns):
    """Transitions that differ in nothing but what is given; one observation, of 0."""
    actions = torch.as_tensor(actions)
    size = len(actions)
    defaults = {
        "observations": torch.zeros(size, 1),
        "actions": actions,
        "rewards": torch.zeros(size),
        "next_observations": torch.zeros(size, 1),
        "next_actions": actions,
        "terminations": torch.zeros(size),
    }
    given = {name: torch.as_tensor(column) for name, column in columns.items()}
    return WholeDataset(**{**defaults, **given})


def constant(outputs, inputs=1):
    """A network of one layer, which says `outputs` whatever it is asked."""
    bias = torch.tensor(outputs)
    return [(torch.zeros(len(bias), inputs), bias)]


def behavior(weights, means, stds):
    """A mixture (M), (M, A), (M, A) that no observation changes; its means are not squashed."""
    means, stds, weights = torch.tensor(means), torch.tensor(stds), torch.tensor(weights)
    outputs = torch.cat((means, stds.log(), weights.log()[:, None]), -1).flatten()
    return network([(torch.zeros(len(outputs), 1), outputs)])


def state_of(config, action_dim=1, observation_dim=1, **networks):
    """An initial state with some of its networks replaced."""
    state = lom.init(observation_dim, action_dim, config, rng(phase="init"))
    return state._replace(**networks)


def linear_critic(slope):
    """Q(s, a) = slope a, for one observation and one action dimension."""
    weight = torch.tensor([[[0.0, slope]]])  # (K, out, in)
    return network([(weight, torch.zeros(1, 1))])


def with_critic(state, params):
    return state._replace(critics=network(params), target_critics=params)
