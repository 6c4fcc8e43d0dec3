"""MuJoCo, imported when an environment is made and only in the version of D4RL's physics.

From MuJoCo 3.5 on, the contact margin of two geoms is the sum of their margins and no longer the
larger one. That makes Hopper and Ant other robots than those that D4RL's data and reference
returns come from, so another version is refused and not merely warned about.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from types import ModuleType

from lom_exp.errors import SimulationError

MUJOCO_VERSION = "3.4.0"


def load_mujoco() -> ModuleType:
    """The `mujoco` package; SimulationError where it is missing or of another version."""
    mujoco = load("mujoco", f"mujoco=={MUJOCO_VERSION}")
    if mujoco.__version__ != MUJOCO_VERSION:
        raise SimulationError(
            f"mujoco {mujoco.__version__} is installed and {MUJOCO_VERSION} is needed: contact "
            "margins changed in 3.5, which makes Hopper and Ant other robots than D4RL's, so its "
            f"scores would mean something else; run: pip install mujoco=={MUJOCO_VERSION}"
        )
    return mujoco


def load(module: str, requirement: str) -> ModuleType:
    """Import `module`, or raise SimulationError that says which `requirement` provides it."""
    try:
        # gymnasium-robotics prints a notice about hand tasks, not ours, when it is imported.
        with contextlib.redirect_stderr(io.StringIO()):
            return importlib.import_module(module)
    except ImportError as error:
        raise SimulationError(
            f"evaluation needs {module}, which cannot be imported ({error}); "
            f"run: pip install '{requirement}'"
        ) from error
