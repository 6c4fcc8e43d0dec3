"""Rows to transitions: which rows are kept, their next actions, and the scale of observations.

Shapes: N rows, K kept rows, O observation size, A action size.

Kept is a row that has a successor and does not end by the time limit: the rows of D4RL's own
`qlearning_dataset`, which drops a timed-out row because its next observation is not stored among
`observations`, and never looks at the last row. A row with both flags is dropped as well.

Next actions are built in one of two ways, which differ in their last column only:
`correct` takes the action of the following row, which for every kept row that is no true end
belongs to the same episode; `legacy` takes the action of the following *kept* row, as the authors
of LOM do, so that the last kept row of every timed-out episode gets the first action of the
next episode, and the last row of all, which reads past the data, gets zeros.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lom_exp.datasets.config import Preprocessing
from lom_exp.datasets.rows import Floats, Rows
from lom_exp.types import DataError, Transitions

_EPSILON = 1e-3  # of `standard`, added to the standard deviation
_NOISE_STD = 0.05  # of `noisy_standard`: the authors fit their scaler on observations plus noise
_BLOCK_ROWS = 65536


class Normalizer(NamedTuple):
    """Scales observations as those of the dataset were scaled."""

    mean: Tensor  # (O,)
    std: Tensor  # (O,)

    def __call__(self, observations: Tensor) -> Tensor:
        """Observations (..., O) minus the mean, over the standard deviation."""
        return (observations - self.mean) / self.std


def kept_rows(rows: Rows) -> NDArray[np.intp]:
    """Indices of the rows that become transitions, (K,)."""
    return np.flatnonzero(~rows.timeouts[:-1])


def build(
    rows: Rows, preprocessing: Preprocessing, device: torch.device | str, culprit: str
) -> tuple[Transitions, Normalizer, dict[str, Any]]:
    """Transitions of the default dtype on the device, their scale, and what describes them."""
    kept = kept_rows(rows)
    if not kept.size:
        raise DataError(
            f"{culprit}: none of its {len(rows.rewards)} rows is a usable transition: a row needs "
            "a following row and must not be a time-out"
        )
    dtype = torch.get_default_dtype()
    observations = rows.observations[kept]
    mean, std = _moments(observations)
    normalizer = _normalizer(mean, std, preprocessing.observations, dtype)

    def scaled(values: Floats) -> Tensor:
        # In place: a copy here would be the peak of the whole program's memory.
        tensor = torch.from_numpy(values).to(dtype)
        return tensor.sub_(normalizer.mean).div_(normalizer.std).to(device)

    transitions = Transitions(
        observations=scaled(observations),
        actions=torch.from_numpy(rows.actions[kept]).to(device, dtype),
        rewards=torch.from_numpy(rows.rewards[kept]).to(device, dtype),
        next_observations=scaled(_next_observations(rows, kept)),
        next_actions=torch.from_numpy(
            _next_actions(rows.actions, kept, preprocessing.next_actions)
        ).to(device, dtype),
        terminations=torch.from_numpy(rows.terminations[kept]).to(device, dtype),
    )
    normalizer = Normalizer(normalizer.mean.to(device), normalizer.std.to(device))
    description = {
        **_describe(rows),
        "transitions": len(kept),
        "observation_mean": mean.tolist(),
        "observation_std": std.tolist(),
    }
    return transitions, normalizer, description


def _next_observations(rows: Rows, kept: NDArray[np.intp]) -> Floats:
    next_observations = rows.observations[kept + 1]
    if rows.final_observations is not None:
        # The row after a true end is the next episode's first. No target looks at it, but what
        # was stored is at hand and right.
        ends = np.flatnonzero(rows.terminations)
        has_transition = ~rows.timeouts[ends] & (ends < len(rows.rewards) - 1)
        next_observations[rows.terminations[kept]] = rows.final_observations[has_transition]
    return next_observations


def _next_actions(actions: Floats, kept: NDArray[np.intp], construction: str) -> Floats:
    if construction == "correct":
        return actions[kept + 1]
    next_actions = np.zeros((len(kept), actions.shape[1]), np.float32)
    next_actions[:-1] = actions[kept[1:]]
    return next_actions


def _moments(observations: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and population standard deviation (O,), summed in float64, block by block."""
    mean = observations.mean(axis=0, dtype=np.float64)
    squares = np.zeros_like(mean)
    for start in range(0, len(observations), _BLOCK_ROWS):
        squares += ((observations[start : start + _BLOCK_ROWS] - mean) ** 2).sum(axis=0)
    return mean, np.sqrt(squares / len(observations))


def _normalizer(
    mean: NDArray[np.float64], std: NDArray[np.float64], scaler: str, dtype: torch.dtype
) -> Normalizer:
    if scaler == "none":
        mean, std = np.zeros_like(mean), np.ones_like(std)
    elif scaler == "standard":
        std = std + _EPSILON
    else:
        # What fitting on noisy observations estimates, without its noise.
        std = np.sqrt(std**2 + _NOISE_STD**2)
    return Normalizer(torch.from_numpy(mean).to(dtype), torch.from_numpy(std).to(dtype))


def _describe(rows: Rows) -> dict[str, Any]:
    """Episodes and rewards of all rows; an episode is finished by either kind of end.

    Returns are those of finished episodes alone and null where there is none: the rows after the
    last end are no whole episode.
    """
    ends = np.flatnonzero(rows.terminations | rows.timeouts)
    rewards = rows.rewards.astype(np.float64)
    totals = np.diff(np.concatenate(([0.0], np.cumsum(rewards)))[np.concatenate(([0], ends + 1))])
    return {
        "rows": len(rewards),
        "observation_dim": rows.observations.shape[1],
        "action_dim": rows.actions.shape[1],
        "episodes": len(ends),
        "unfinished_rows": int(len(rewards) - (ends[-1] + 1 if ends.size else 0)),
        "terminations": int(rows.terminations.sum()),
        "timeouts": int(rows.timeouts.sum()),
        "mean_episode_return": float(totals.mean()) if ends.size else None,
        "min_episode_return": float(totals.min()) if ends.size else None,
        "max_episode_return": float(totals.max()) if ends.size else None,
        "reward_mean": float(rewards.mean()),
        "reward_min": float(rewards.min()),
        "reward_max": float(rewards.max()),
    }
