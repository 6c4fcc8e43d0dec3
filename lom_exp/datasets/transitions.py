"""Rows to transitions: which rows are kept, their next actions, and the scale of all numbers.

Shapes: N rows, K kept rows, O observation size, A action size.

Kept is a row that has a successor and does not end by the time limit: the rows of D4RL's own
`qlearning_dataset`, which drops a timed-out row because its next observation is not stored among
`observations`, and never looks at the last row. A row with both flags is dropped as well.

Next actions are built in one of two ways, which differ in their last column only:
`correct` takes the action of the following row, which for every kept row that is no true end
belongs to the same episode; `legacy` takes the action of the following *kept* row, as the authors
of LOM do, so that the last kept row of every timed-out episode gets the first action of the
next episode, and the last row of all, which reads past the data, gets zeros.

Rewards are taken as they are (`raw`), times 1000 / (greatest - least return of a finished episode)
(`return_range`: IQL's, Kostrikov et al., 2022) or over their maximum (`max`: LAPO's code).
Actions are taken as they are or standardized like observations (`standard`: LAPO's code).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lom_exp.datasets.config import Preprocessing
from lom_exp.datasets.rows import Floats, Rows
from lom_exp.errors import DataError
from lom_exp.types import Transitions

_EPSILON = 1e-3  # of `standard`, added to the standard deviation
_CONSTANT = 1e-6  # a standard deviation below this is rounding
_NOISE_STD = 0.05  # of `noisy_standard`: the authors fit their scaler on observations plus noise
_BLOCK_ROWS = 65536


class Normalizer(NamedTuple):
    """Scales vectors as those of the dataset were scaled; F is their size, O or A."""

    mean: Tensor  # (F,)
    std: Tensor  # (F,)

    def __call__(self, values: Tensor) -> Tensor:
        """Values (..., F) minus the mean, over the standard deviation."""
        return (values - self.mean) / self.std

    def invert(self, values: Tensor) -> Tensor:
        """What was scaled to these values (..., F)."""
        return values * self.std + self.mean


def kept_rows(rows: Rows) -> NDArray[np.intp]:
    """Indices of the rows that become transitions, (K,)."""
    return np.flatnonzero(~rows.timeouts[:-1])


class Prepared(NamedTuple):
    """What `build` makes of rows."""

    transitions: Transitions
    observations: Normalizer
    actions: Normalizer
    description: dict[str, Any]


def build(
    rows: Rows, preprocessing: Preprocessing, device: torch.device | str, culprit: str
) -> Prepared:
    """Transitions of the default dtype on the device, their scales, and what describes them.

    Raises DataError where nothing can be learned from the rows or a scale does not exist.
    """
    kept = kept_rows(rows)
    if not kept.size:
        raise DataError(
            f"{culprit}: none of its {len(rows.rewards)} rows is a usable transition: a row needs "
            "a following row and must not be a time-out"
        )
    dtype = torch.get_default_dtype()
    description = _describe(rows)
    reward_scale = _reward_scale(rows.rewards[kept], description, preprocessing.rewards, culprit)
    observations, actions = rows.observations[kept], rows.actions[kept]
    mean, std = _moments(observations)
    if preprocessing.observations != "none" and (std < _CONSTANT).all():
        raise DataError(
            f"{culprit}: its {len(kept)} observations are all the same, {mean.tolist()}, so they "
            "have no scale; set preprocessing.observations=none if a single state is meant"
        )
    normalizer = normalizer_of(mean, std, preprocessing.observations, dtype)
    action_scaler = "none" if preprocessing.actions == "raw" else preprocessing.actions
    action_normalizer = normalizer_of(*_moments(actions), action_scaler, dtype)

    def scaled(values: Floats, scale: Normalizer) -> Tensor:
        # In place: a copy here would be the peak of the whole program's memory.
        tensor = torch.from_numpy(values).to(dtype)
        return tensor.sub_(scale.mean).div_(scale.std).to(device)

    next_actions = _next_actions(rows.actions, kept, preprocessing.next_actions)
    transitions = Transitions(
        observations=scaled(observations, normalizer),
        actions=scaled(actions, action_normalizer),
        rewards=(torch.from_numpy(rows.rewards[kept]).to(dtype) * reward_scale).to(device),
        next_observations=scaled(_next_observations(rows, kept), normalizer),
        next_actions=scaled(next_actions, action_normalizer),
        terminations=torch.from_numpy(rows.terminations[kept]).to(device, dtype),
    )
    return Prepared(
        transitions,
        Normalizer(normalizer.mean.to(device), normalizer.std.to(device)),
        Normalizer(action_normalizer.mean.to(device), action_normalizer.std.to(device)),
        {
            **description,
            "transitions": len(kept),
            "observation_mean": mean.tolist(),
            "observation_std": std.tolist(),
            "reward_scale": reward_scale,
        },
    )


def _reward_scale(rewards: Floats, description: dict[str, Any], kind: str, culprit: str) -> float:
    """What rewards (K,) are multiplied by."""
    if kind == "raw":
        return 1.0
    if kind == "max":
        low, high = float(rewards.min()), float(rewards.max())
        if high <= 0 or low == high:
            raise DataError(
                f"{culprit}: its rewards range from {low:g} to {high:g}, but to be divided by the "
                "greatest it must be above 0 and above the least; "
                "set preprocessing.rewards=raw, or choose another algorithm"
            )
        return 1 / high
    low, high = description["min_episode_return"], description["max_episode_return"]
    if low is None or low == high:
        raise DataError(
            f"{culprit}: its finished episodes have no two different returns (least {low}, "
            f"greatest {high}), so rewards cannot be scaled by their range; "
            "set preprocessing.rewards=raw"
        )
    return float(1000 / (high - low))


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


def _moments(values: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and population standard deviation (F,), summed in float64, block by block."""
    mean = values.mean(axis=0, dtype=np.float64)
    squares = np.zeros_like(mean)
    for start in range(0, len(values), _BLOCK_ROWS):
        squares += ((values[start : start + _BLOCK_ROWS] - mean) ** 2).sum(axis=0)
    return mean, np.sqrt(squares / len(values))


def normalizer_of(
    mean: NDArray[np.float64], std: NDArray[np.float64], scaler: str, dtype: torch.dtype
) -> Normalizer:
    """The scale that one of `config.SCALERS` makes of vectors with these moments (F,)."""
    if scaler == "none":
        mean, std = np.zeros_like(mean), np.ones_like(std)
    elif scaler == "standard":
        # A number that never changes keeps its unit: over 0.001 it would be blown up in evaluation.
        std = np.where(std < _CONSTANT, 1.0, std + _EPSILON)
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
