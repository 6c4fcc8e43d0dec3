"""This project's trainer.

A timed stretch is one `Trainer.advance` over its updates and one `take_metrics`, which reads the
averaged metrics: sampling, losses, gradients, Adam, targets and metrics of every update. Runs are
laid out as `vectorize=auto` does: one after the other on a CPU, in one vmap on a GPU.
"""

import os

import torch
from contestants import ACTION_DIM, OBSERVATION_DIM, Case, Contestant, random_data, versions
from contestants.torch_side import configure, synchronize
from torch.utils._pytree import tree_leaves

from lom_exp.algorithms import REGISTRY
from lom_exp.networks import Network
from lom_exp.random import Rng
from lom_exp.trainer import Trainer
from lom_exp.trainer.graphs import Graph
from lom_exp.types import Transitions


def config(case: Case) -> object:
    """The algorithm's Config with the sizes of the case."""
    sizes: dict[str, object]
    if case.method == "lom":
        behavior = case.phase == "behavior"
        sizes = {
            ("behavior_hidden_sizes" if behavior else "hidden_sizes"): case.hidden_sizes,
            ("behavior_batch_size" if behavior else "hyper_critic_batch_size"): case.batch_size,
        }
    else:
        sizes = {"batch_size": case.batch_size, "hidden_sizes": case.hidden_sizes}
    return REGISTRY[case.method].Config(**sizes)


def transitions(device: torch.device) -> Transitions:
    """The random data; the next action is the next row's, as in the authors' LOM."""
    data = {name: torch.from_numpy(array).to(device) for name, array in random_data().items()}
    return Transitions(
        data["observations"],
        data["actions"],
        data["rewards"],
        data["next_observations"],
        data["actions"].roll(-1, 0),
        data["terminals"],
    )


def num_parameters(case: Case) -> int:
    """Of the networks that the phase trains."""
    rng = Rng.of(torch.tensor(0), "init", torch.tensor(0))
    state = REGISTRY[case.method].init(OBSERVATION_DIM, ACTION_DIM, config(case), rng)
    trained = {
        name: sum(leaf.numel() for leaf in tree_leaves(field.params))
        for name, field in state._asdict().items()
        if isinstance(field, Network)
    }
    if case.method == "lom":
        mixture = trained.pop("behavior")
        return mixture if case.phase == "behavior" else sum(trained.values())
    return sum(trained.values())


def prepare(case: Case, path: str | None, *, compile: bool = False) -> Contestant:
    """A trainer of as many runs as the case has."""
    device = configure(case)
    trainer = Trainer(
        REGISTRY[case.method],
        [config(case)] * case.runs,
        list(range(case.runs)),
        transitions(device),
        vectorize=device.type == "cuda",
        compile=compile,
    )
    trainer.initialize()
    done = 0
    if device.type == "cuda":  # so that the graph is captured before anything is timed
        for count in (2, Graph.LONGEST):
            done = trainer.advance(case.phase, done, done + count)

    def advance(count: int) -> int:
        nonlocal done
        if device.type == "cuda":  # whole graphs, as in training: what is left over is slow
            count = -(-count // Graph.LONGEST) * Graph.LONGEST
        done = trainer.advance(case.phase, done, done + count)
        trainer.take_metrics()
        return count

    return Contestant(advance, synchronize, num_parameters(case), versions(torch))


def prepare_compiled(case: Case, path: str | None) -> Contestant:
    """The same with compile=True."""
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # they would share one core
    return prepare(case, path, compile=True)
