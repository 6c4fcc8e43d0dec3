"""A tiny problem, all axes of different length, on which any algorithm trains in a blink."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from lom_exp.algorithms import REGISTRY
from lom_exp.checkpoints import Snapshot
from lom_exp.trainer import Trainer
from lom_exp.types import Transitions

NUM_TRANSITIONS, OBSERVATION_DIM, ACTION_DIM = 40, 5, 3

# Fields that make an algorithm small; those a Config lacks are left out.
SMALL = {
    "num_components": 4,
    "num_critics": 2,
    "num_latents": 4,
    "num_value_samples": 3,
    "num_actions": 2,
    "policy_decay_updates": 6,
    "noise_dim": 6,
    "hidden_sizes": (8, 9),
    "behavior_hidden_sizes": (10,),
    "batch_size": 7,
    "behavior_batch_size": 7,
    "critic_batch_size": 6,
    "hyper_critic_batch_size": 11,
    "policy_batch_size": 12,
    "action_noise_std": 0.1,
    "min_component_weight": 0.2,
}


def small_config(name: str, **changes: Any) -> Any:
    """A small config of an algorithm that uses every part of it."""
    config = REGISTRY[name].Config
    fields = {field.name for field in dataclasses.fields(config)}
    return config(**{key: value for key, value in SMALL.items() if key in fields} | changes)


def transitions(seed: int = 0) -> Transitions:
    """Random transitions; a quarter of them end their episode."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator) * 2 - 1

    n, o, a = NUM_TRANSITIONS, OBSERVATION_DIM, ACTION_DIM
    ends = (uniform(n) > 0.5).to(torch.get_default_dtype())
    return Transitions(uniform(n, o), uniform(n, a), uniform(n), uniform(n, o), uniform(n, a), ends)


def trainer(
    name: str,
    seeds: Sequence[int],
    configs: Sequence[Any] | None = None,
    *,
    data: Transitions | None = None,
    vectorize: bool = True,
    compile: bool = False,
    **options: Any,
) -> Trainer:
    """A trainer of runs that have not been updated yet."""
    made = Trainer(
        REGISTRY[name],
        configs or [small_config(name)] * len(seeds),
        seeds,
        transitions() if data is None else data,
        vectorize=vectorize,
        compile=compile,
        **options,
    )
    made.initialize()
    return made


def train(made: Trainer, name: str, updates: int = 4) -> list[Snapshot]:
    """Do some updates of every phase."""
    for phase in REGISTRY[name].phases:
        made.take_metrics()
        made.advance(phase, 0, updates)
    return made.snapshots()


def leaves(snapshot: Snapshot) -> list[torch.Tensor]:
    """All numbers of a run's state."""
    found: list[torch.Tensor] = tree_leaves(snapshot.state)
    return found


def equal(a: Snapshot, b: Snapshot) -> bool:
    """To the bit."""
    return all(torch.equal(x, y) for x, y in zip(leaves(a), leaves(b), strict=True))


def close(a: Snapshot, b: Snapshot) -> bool:
    """Up to the order in which floats were added."""
    pairs = zip(leaves(a), leaves(b), strict=True)
    return all(torch.allclose(x, y, rtol=1e-7, atol=1e-9) for x, y in pairs)
