"""The d3rlpy package, installed beside torch.

A timed update is what `fit` does in each step but for its logger: `sample_transition_batch`, which
collects the batch transition by transition, and `algo.update(batch)`, with its copies to the
device and its metrics. Hidden layers and batch are those of the case. By design its AWAC weighs by
a softmax over the batch, and its CQL learns no regularizer's weight here, as CORL's does not on
locomotion. Importing it on a GPU sets TF32; the precision of the case is set after that.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from contestants import (
    EPISODE_LENGTH,
    NUM_TRANSITIONS,
    Case,
    Contestant,
    Unsuitable,
    random_data,
    stand_ins,
    versions,
)
from contestants.torch_side import configure, count, synchronize

CONFIGS = {
    "td3_bc": ("TD3PlusBCConfig", {}),
    "iql": ("IQLConfig", {}),
    "awac": ("AWACConfig", {}),
    "cql": ("CQLConfig", {"alpha_learning_rate": 0.0}),
}


def _algorithm(d3rlpy: Any, case: Case, compile: bool) -> Any:
    name, settings = CONFIGS[case.method]
    encoder = d3rlpy.models.VectorEncoderFactory(hidden_units=list(case.hidden_sizes))
    encoders = {"actor_encoder_factory": encoder, "critic_encoder_factory": encoder}
    if case.method == "iql":
        encoders["value_encoder_factory"] = encoder
    config = getattr(d3rlpy.algos, name)(
        batch_size=case.batch_size, compile_graph=compile, **encoders, **settings
    )
    return config.create(device="cuda:0" if case.device == "cuda" else "cpu:0")


def _dataset(d3rlpy: Any) -> Any:
    data = random_data()
    timeouts = np.arange(1, NUM_TRANSITIONS + 1) % EPISODE_LENGTH == 0
    timeouts = timeouts & (data["terminals"] == 0)  # an episode ends for one reason
    return d3rlpy.dataset.MDPDataset(
        data["observations"], data["actions"], data["rewards"], data["terminals"], timeouts
    )


def _trained(modules: Any) -> Iterator[torch.nn.Module]:
    for name in ("policy", "q_funcs", "value_func", "log_temp"):
        if hasattr(modules, name):
            yield getattr(modules, name)


def prepare(case: Case, path: str | None, *, compile: bool = False) -> Contestant:
    """The method on a dataset of episodes of the random transitions."""
    if case.method not in CONFIGS or case.runs > 1:
        raise Unsuitable(f"has {', '.join(CONFIGS)}, one run at a time")
    stand_ins.install("gym", "gymnasium")
    import d3rlpy

    configure(case)
    d3rlpy.seed(0)
    algorithm, dataset = _algorithm(d3rlpy, case, compile), _dataset(d3rlpy)
    algorithm.build_with_dataset(dataset)

    def advance(updates: int) -> int:
        for _ in range(updates):
            algorithm.update(dataset.sample_transition_batch(case.batch_size))
        return updates

    parameters = count(_trained(algorithm.impl.modules))
    return Contestant(advance, synchronize, parameters, versions(d3rlpy, torch, np))


def prepare_compiled(case: Case, path: str | None) -> Contestant:
    """The same with `compile_graph`, its CUDA graphs, which it has on a GPU only."""
    if case.device != "cuda":
        raise Unsuitable("compiles on a GPU only")
    return prepare(case, path, compile=True)
