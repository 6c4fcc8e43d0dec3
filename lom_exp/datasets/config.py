"""What a dataset is and how it is prepared: the schemas of `conf/env` and `preprocessing`."""

from __future__ import annotations

from dataclasses import dataclass

from lom_exp.errors import ConfigError
from lom_exp.validation import one_of, ordered

GENERATED = ("fetch_reach", "fetch_push", "fetch_pick_and_place", "rings")
SOURCES = ("file", "d4rl_package", *GENERATED)
SCALERS = ("noisy_standard", "standard", "none")
NEXT_ACTIONS = ("correct", "legacy")
REWARDS = ("raw", "return_range", "max")
ACTION_SCALERS = ("raw", "standard")


@dataclass(frozen=True)
class EnvConfig:
    """A dataset and the environment that scores it; the schema of `conf/env/*.yaml`.

    `random_return` and `expert_return` are undiscounted returns; an episode's normalized score is
    100 (return - random_return) / (expert_return - random_return).
    """

    name: str  # hopper-medium-replay
    environment: str  # a Gymnasium id such as Hopper-v4, or one of ours: FetchReachFourGoals
    random_return: float
    expert_return: float
    source: str = "file"  # file | d4rl_package, or the generator of one of our environments
    path: str | None = None  # an HDF5 file; where it is given no other place is searched
    file: str = ""  # D4RL's file name, looked for in the data folders: no folder in it
    url: str = ""  # where `file` is downloaded from if no folder has it
    bytes: int | None = None  # size and hash of D4RL's own file, where they are known
    sha256: str | None = None
    num_trajectories: int = 0  # this and what follows: generated sources only
    generator_seed: int = 0
    expert_noise: float = 0.0  # Fetch; standard deviation, in units of the action
    rewarded: bool = True  # rings; otherwise all rewards of the data, not the environment's, are 0

    def __post_init__(self) -> None:
        one_of(self, "source", SOURCES)
        ordered(self, "random_return", "expert_return")
        # The name is joined to folders: it must not lead out of them.
        if any(separator in self.file for separator in "/\\\0") or self.file in (".", ".."):
            raise ConfigError(
                f"env.file={self.file!r} is not a bare file name; "
                "give a file elsewhere as env.path=/folder/file.hdf5"
            )


@dataclass(frozen=True)
class Preprocessing:
    """How rows become transitions; each algorithm's file in `conf/algo` chooses."""

    observations: str = "noisy_standard"  # noisy_standard | standard | none
    next_actions: str = "correct"  # correct | legacy
    rewards: str = "raw"  # raw | return_range | max
    actions: str = "raw"  # raw | standard

    def __post_init__(self) -> None:
        one_of(self, "observations", SCALERS)
        one_of(self, "next_actions", NEXT_ACTIONS)
        one_of(self, "rewards", REWARDS)
        one_of(self, "actions", ACTION_SCALERS)
