"""The source `d4rl_package`: datasets as a working d4rl installation hands them out.

The package needs gym, mujoco-py and MuJoCo 2.1 in the interpreter that trains. Where it merely has
downloaded its files at some time, the source `file` finds them in `~/.d4rl/datasets` without it.
"""

from __future__ import annotations

from pathlib import Path

from lom_exp.datasets.config import EnvConfig
from lom_exp.datasets.rows import Rows, read_rows
from lom_exp.errors import DataError


def read(env: EnvConfig) -> tuple[Rows, Path | None]:
    """Rows of `gym.make("<env.name>-v2").get_dataset()` and the file the package read them from.

    An explicit `env.path` is handed to `get_dataset`.
    """
    try:
        import d4rl  # noqa: F401  (registers its environments with gym)
        import gym
    except Exception as error:  # mujoco-py raises bare Exceptions where it finds no MuJoCo 2.1
        raise DataError(
            f"env.source=d4rl_package: the package d4rl cannot be imported ({_first_line(error)}); "
            "install gym, mujoco-py and d4rl with MuJoCo 2.1, or use env.source=file"
        ) from error
    name = f"{env.name}-v2"
    try:
        environment = gym.make(name)
        arrays = environment.get_dataset(h5path=env.path)
        file = env.path or environment.dataset_filepath
    except Exception as error:  # whatever gym, mujoco-py and urllib raise is the package's trouble
        raise DataError(
            f"env.source=d4rl_package: d4rl cannot provide {name} ({_first_line(error)}); check "
            "that installation with gym.make(...).get_dataset(), or use env.source=file"
        ) from error
    path = Path(file)
    return read_rows(arrays, f"{name} of the d4rl package"), path if path.is_file() else None


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
