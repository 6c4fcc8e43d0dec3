"""What the comparisons with an oracle share: data, random numbers and planted mistakes."""

import types
from pathlib import Path

import torch
from torch.testing import assert_close
from torch.utils._pytree import tree_map

from lom_exp.networks import network
from lom_exp.random import Rng
from lom_exp.types import Transitions

# Every axis has a length of its own, apart from a pair of critics.
OBSERVATION_DIM, ACTION_DIM, SIZE, SEED = 5, 3, 23, 1


def rng(update=0, phase="policy"):
    return Rng.of(torch.tensor(SEED), phase, torch.tensor(update))


class Silent:
    """In place of an Rng: all noise is zero."""

    def __init__(self, update=0):
        self.update = torch.tensor(update)

    def normal(self, stream, shape):
        return torch.zeros(shape)


def transitions():
    """Every third episode ends; some actions lie on the edges of the box."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    return Transitions(
        observations=normal(SIZE, OBSERVATION_DIM),
        actions=normal(SIZE, ACTION_DIM).clamp(-1, 1),
        rewards=3 * normal(SIZE),
        next_observations=normal(SIZE, OBSERVATION_DIM),
        next_actions=normal(SIZE, ACTION_DIM).clamp(-1, 1),
        terminations=(torch.arange(SIZE) % 3 == 0).double(),
    )


def scaled(params, factor):
    return tree_map(lambda leaf: factor * leaf, params)


def member(layers, k):
    return [(weight[k], bias[k]) for weight, bias in layers]


def members(layers):
    """The critics of an ensemble, one list of layers each."""
    return [member(layers, k) for k in range(len(layers[0][0]))]


def assert_same(name, ours, theirs):
    assert_close(ours, theirs, rtol=1e-8, atol=1e-8, msg=lambda text: f"{name}: {text}")


def assert_same_metrics(ours, theirs):
    """The same names, and numbers without a dimension."""
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert_same(name, ours[name], torch.as_tensor(theirs[name]).detach())


def with_mistake(oracle, line, mistaken_line):
    """The oracle's module with one of its lines, which is there once, replaced."""
    source = Path(oracle.__file__).read_text()
    assert source.count(line) == 1, f"{source.count(line)} of: {line}"
    module = types.ModuleType("mistaken_oracle")
    exec(compile(source.replace(line, mistaken_line), "mistaken_oracle", "exec"), module.__dict__)
    return module


def linear_critics(slope, count=2):
    """Critics that all say slope a, for one observation and one action dimension."""
    weight = torch.tensor([[0.0, slope]]).expand(count, 1, 2)
    return network([(weight.clone(), torch.zeros(count, 1))])


def with_critics(state, critics):
    return state._replace(critics=critics, target_critics=critics.params)
