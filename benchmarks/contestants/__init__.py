"""The implementations that benchmarks/peers.py times against one another, each a module here.

A contestant's module has one function, `prepare(case, path)`, which builds the method of the case
at exactly the sizes of the case and returns a `Contestant`. Each runs in a process of its own
(`python -m contestants NAME`, see __main__.py), so that the libraries of one do not disturb the
threads, the memory or the compiled code of another. This file needs neither torch nor jax.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

NUM_TRANSITIONS, OBSERVATION_DIM, ACTION_DIM = 100_000, 11, 3  # Hopper's sizes
EPISODE_LENGTH = 1000


class Sizes(NamedTuple):
    """What fixes the work of one update, the same for every contestant."""

    batch_size: int
    hidden_sizes: tuple[int, ...]


# Those of the authors' LOM and of CORL. LOM's policy phase has three batches: 256 for the critic
# and for the policy, and this one, of states, for the hyper-Q, whose M = 10 components multiply it.
SIZES = {
    ("lom", "behavior"): Sizes(512, (512, 512)),
    ("lom", "policy"): Sizes(1024, (256, 256)),
    ("td3_bc", "policy"): Sizes(256, (256, 256)),
    ("iql", "policy"): Sizes(256, (256, 256)),
    ("awac", "policy"): Sizes(256, (256, 256, 256)),
    ("cql", "policy"): Sizes(256, (256, 256, 256)),
}


class Case(NamedTuple):
    """What every contestant of a comparison is given, word for word."""

    method: str
    phase: str
    runs: int  # seeds that train together
    batch_size: int
    hidden_sizes: tuple[int, ...]
    device: str  # cpu or cuda
    threads: int  # on a CPU
    precision: str  # of float32 matrix products on a GPU: highest, or high (TF32)


class Contestant(NamedTuple):
    """A method, ready to be timed."""

    advance: Callable[[int], int]  # do at least so many updates; how many were done
    synchronize: Callable[[], None]  # wait until they are finished
    parameters: int  # that are trained, in one run
    versions: dict[str, str]


class Unsuitable(Exception):
    """The contestant does not have what a case asks for; says what and why."""


def random_data() -> dict[str, np.ndarray]:
    """Transitions as float32 in D4RL's names; what they hold does not change the time."""
    generator = np.random.default_rng(0)
    n = NUM_TRANSITIONS

    def normal(*shape: int) -> np.ndarray:
        return generator.standard_normal(shape, dtype=np.float32)

    return {
        "observations": normal(n, OBSERVATION_DIM),
        "actions": normal(n, ACTION_DIM).clip(-0.99, 0.99),
        "rewards": normal(n),
        "next_observations": normal(n, OBSERVATION_DIM),
        "terminals": (generator.random(n) < 1e-3).astype(np.float32),
    }


def versions(*modules: Any) -> dict[str, str]:
    """What each imported module calls its version."""
    return {module.__name__: str(module.__version__) for module in modules}
