"""What a run is and how it is carried out: only the former decides its results and its name."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from lom_exp import cores, validation
from lom_exp.datasets import EnvConfig, Preprocessing
from lom_exp.errors import ConfigError

DTYPES = ("float32", "float64")
# A dataset's own file is known by its fingerprint; these decide which episodes score a run and how,
# and what a generator makes.
_ENV_IDENTITY = (
    "name",
    "environment",
    "random_return",
    "expert_return",
    "num_trajectories",
    "generator_seed",
    "expert_noise",
)


@dataclass(frozen=True)
class EvaluationConfig:
    """When and how long policies are tested."""

    every: int  # updates of the phase that trains the policy
    episodes: int
    final_episodes: int  # after the last update

    def __post_init__(self) -> None:
        validation.positive(self, "every", "episodes", "final_episodes")


@dataclass(frozen=True)
class TrackingConfig:
    """Where MLflow keeps its copy of what the result folders hold."""

    enabled: bool
    uri: str | None  # of a server; None is a sqlite file in the results folder
    experiment: str


@dataclass(frozen=True)
class ExecutionConfig:
    """How runs are carried out."""

    device: str  # auto, cpu, cuda or cuda:N
    compile: str  # auto, true or false
    cuda_graphs: bool  # many updates are launched as one
    tf32: bool  # of a GPU's matrix products
    share: bool  # what runs of a pack have in common is trained once
    threads: int | None  # of torch; None leaves them as they are
    vectorize: str  # auto, true or false
    evaluation_workers: int | None  # processes that step environments; None is by the device
    log_every: int  # updates
    checkpoint_every: float  # seconds
    results: str  # folder of everything written
    tracking: TrackingConfig

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ConfigError(
                f"device={self.device} cannot be used: it must be auto, cpu, cuda or, for the GPU "
                "of that number, cuda:0, cuda:1, ..."
            )
        if self.threads is not None:
            validation.positive(self, "threads")
        if self.evaluation_workers is not None:
            validation.non_negative(self, "evaluation_workers")
        validation.positive(self, "log_every", "checkpoint_every")
        validation.one_of(self, "vectorize", ("auto", "true", "false"))
        validation.one_of(self, "compile", ("auto", "true", "false"))

    def vectorizes(self, device: torch.device) -> bool:
        """Whether the runs of a pack are trained in one vmap: by default on a GPU only."""
        return device.type == "cuda" if self.vectorize == "auto" else self.vectorize == "true"

    def compiles(self, device: torch.device) -> bool:
        """Whether updates are compiled: by default on a GPU only."""
        return device.type == "cuda" if self.compile == "auto" else self.compile == "true"

    def num_evaluation_workers(self, device: torch.device) -> int:
        """Processes that step environments beside training; 0 is evaluation in line.

        On a GPU there is by default one for every core but one. On a CPU training keeps the cores
        busy by itself.
        """
        if self.evaluation_workers is not None:
            return self.evaluation_workers
        return cores.granted() - 1 if device.type == "cuda" else 0


@dataclass(frozen=True)
class LaunchConfig:
    """How the runs of a sweep are handed out."""

    pack_size: int | None  # runs that train together at most; None is for the launcher to choose
    retries: int  # of a job that was lost: killed, out of memory, its node gone
    wait: bool  # until all runs have ended

    def __post_init__(self) -> None:
        if self.pack_size is not None:
            validation.positive(self, "pack_size")
        validation.non_negative(self, "retries")


class Sweep(NamedTuple):
    """Runs that were asked for together."""

    name: str
    command: list[str]
    overrides: list[str]
    is_part: bool = False  # of a sweep whose other runs are asked for by other processes


@dataclass(frozen=True)
class RunSpec:
    """One run: algorithm, dataset, settings and seed."""

    algorithm: str  # a name in algorithms.REGISTRY
    label: str  # what tables call it: lom and lom_paper are one algorithm
    env: EnvConfig
    preprocessing: Preprocessing
    config: Any  # the algorithm's Config
    updates: dict[str, int]  # phase lengths, in the order of the algorithm's phases
    seed: int
    evaluation: EvaluationConfig
    dtype: str
    M: int | None  # for names and tables, as `beta`; None where the algorithm has none
    beta: float | None
    sources: dict[str, str]  # where M, beta and each algo.* field got their values
    resolved: dict[str, Any]  # the whole composed config in plain containers

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"seed={self.seed} cannot be used: it must be 0 or above")
        validation.one_of(self, "dtype", DTYPES)
        if not re.fullmatch(r"[\w.+-]+", self.label):
            raise ConfigError(
                f"label={self.label!r} cannot be used: it names folders, so it must be made of "
                "letters, digits and . + - _"
            )

    def identity(self, data_fingerprint: str) -> str:
        """All that determines the results, as JSON with sorted keys."""
        identity = {
            "algorithm": self.algorithm,
            "config": self.config,
            "env": {name: getattr(self.env, name) for name in _ENV_IDENTITY},
            "preprocessing": self.preprocessing,
            "updates": self.updates,
            "seed": self.seed,
            "evaluation": self.evaluation,
            "dtype": self.dtype,
            "data": data_fingerprint,
        }
        return json.dumps(identity, sort_keys=True, default=vars)

    def id(self, data_fingerprint: str) -> str:
        """8 hexadecimal digits of the identity's hash."""
        return hashlib.sha256(self.identity(data_fingerprint).encode()).hexdigest()[:8]

    def name(self, data_fingerprint: str) -> str:
        """The run's folder: lom_hopper-medium-replay_M10_beta5_seed0_1a2b3c4d."""
        parts = [self.label, self.env.name]
        if self.M is not None:
            parts.append(f"M{self.M}")
        if self.beta is not None:
            parts.append(f"beta{self.beta:g}")
        return "_".join([*parts, f"seed{self.seed}", self.id(data_fingerprint)])
