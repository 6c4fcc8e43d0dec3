"""Small datasets made by hand, shared by the tests of datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lom_exp.datasets import EnvConfig, Preprocessing

NAME = "hopper_medium-v2.hdf5"
RAW = Preprocessing(observations="none")


@pytest.fixture
def own_home(tmp_path, monkeypatch):
    """No data folder and no memory but those that a test makes."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("LOM_DATA_DIR", raising=False)


def env(**fields: Any) -> EnvConfig:
    return EnvConfig(
        **{"name": "hopper-medium", "environment": "Hopper-v4", "file": NAME}
        | {"random_return": 0.0, "expert_return": 1.0}
        | fields
    )


def recorded(
    terminals: list[int], timeouts: list[int], *, with_next: bool = False
) -> dict[str, np.ndarray]:
    """Rows that tell where they came from: row i holds observations 10 i and 10 i + 1, action
    i / 100, reward i, and next observations -i."""
    row = np.arange(len(terminals), dtype=np.float32)
    arrays = {
        "observations": np.stack([10 * row, 10 * row + 1], axis=1),
        "actions": row[:, None] / 100,
        "rewards": row,
        "terminals": np.array(terminals, bool),
        "timeouts": np.array(timeouts, bool),
    }
    if with_next:
        arrays["next_observations"] = np.stack([-row, -row], axis=1)
    return arrays


def write(path: Path, arrays: dict[str, Any], **attributes: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
        file.attrs.update(attributes)
    return path


# Two episodes of five steps, each ended by the time limit.
TWO_TIMED_OUT = recorded([0] * 10, [0, 0, 0, 0, 1] * 2)
