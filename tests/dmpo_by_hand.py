"""DMPO's parts, so simple that what they compute can be worked out by hand.

One observation of 0 and one action. A sub-policy's action is the tanh of its embedding, and a
critic's value slope * action; neither has a hidden layer.
"""

import math

import torch
from lom_by_hand import constant, dataset, rng

from lom_exp.algorithms import dmpo
from lom_exp.networks import network


def actor(*actions):
    """Of latents, the actions given, in [0, 1)."""
    embedding = torch.tensor([[math.atanh(action) for action in actions]]), torch.zeros(1)
    return embedding, [(torch.tensor([[0.0, 1.0]]), torch.zeros(1))]


def line(*slopes):
    """Q_j(s, a) = slope_j a."""
    weight = torch.tensor([[[0.0, slope]] for slope in slopes])
    return [(weight, torch.zeros(2, 1))]


def state_of(actions, slopes=(0.0, 0.0), logits=None, **fields):
    """Sub-policies with these actions, and the posterior's logits."""
    posterior = constant(logits or [0.0] * len(actions), inputs=2)
    state = dmpo.State(
        critics=network(line(*slopes)),
        target_critics=line(*slopes),
        policy=network((actor(*actions), posterior)),
        target_actor=actor(*actions),
    )
    return state._replace(**fields)


def small(algorithm, **settings):
    """A config, a dataset whose rewards are its actions, and an initial state."""
    config = algorithm.Config(num_latents=3, batch_size=20, hidden_sizes=(6,), tau=0.2, **settings)
    generator = torch.Generator().manual_seed(0)
    actions = torch.rand(20, 2, generator=generator) * 2 - 1
    observations = torch.randn(20, 4, generator=generator)
    data = dataset(
        actions,
        observations=observations,
        next_observations=observations.flip(0),
        rewards=actions[:, 0],
    )
    return config, data, algorithm.init(4, 2, config, rng(phase="init"))
