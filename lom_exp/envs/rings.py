"""Two rings: the one-step MDP of LOM's Figure 5 (arXiv 2412.03258, Appendix A).

State x and action y are the coordinates of a point. The data's points lie on two rings, so that a
state has up to four separate intervals of actions. A point in the first or third quadrant earns 1,
any other 0, and the episode ends: by its nature and not by a time limit.

The paper gives neither radii nor scale. Here the radius is uniform between 0.3 and 0.5 (a quarter
of the points) or 1.0 and 1.2 and the angle is uniform; the action is y over 1.6, so that a policy
which is bounded by 1 has room to miss the rings. As in the paper, the reward does not ask whether
the point is on a ring; `on_rings` does.

Shapes: E environments, n of them stepped at once, O = A = 1; P points.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lom_exp.envs.protocol import Stepped

RINGS = np.array([[0.3, 0.5], [1.0, 1.2]])  # inner and outer: least and greatest radius
INNER_SHARE = 0.25  # of the points
ACTION_SCALE = 1.6  # y of the action 1

Floats = NDArray[np.floating]


def sample(rng: np.random.Generator, is_inner: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Points (P, 2), each on the inner or the outer ring."""
    low, high = RINGS[np.where(is_inner, 0, 1)].T
    radius = low + (high - low) * rng.random(len(is_inner))
    angle = 2 * np.pi * rng.random(len(is_inner))
    return np.stack((radius * np.cos(angle), radius * np.sin(angle)), axis=-1)


def is_rewarded(points: Floats) -> NDArray[np.bool_]:
    """Whether points (P, 2) are in the first or the third quadrant; (P,)."""
    rewarded: NDArray[np.bool_] = points[:, 0] * points[:, 1] > 0
    return rewarded


def on_rings(points: Floats, tolerance: float = 0.0) -> NDArray[np.bool_]:
    """Whether points (P, 2) are on a ring, or off it by the tolerance in radius at most; (P,)."""
    radius = np.linalg.norm(points, axis=-1)[:, None]
    on_ring: NDArray[np.bool_] = (
        (RINGS[:, 0] - tolerance <= radius) & (radius <= RINGS[:, 1] + tolerance)
    ).any(-1)
    return on_ring


class Rings:
    """`count` environments, whose states are distributed like the data's."""

    observation_dim = 1
    action_dim = 1
    horizon = 1

    def __init__(self, count: int) -> None:
        self._states = np.zeros((count, 1))  # x

    def reset(self, seeds: Sequence[int]) -> NDArray[np.float64]:
        """Start an episode in each environment from its own seed; the observations (E, O)."""
        for state, seed in zip(self._states, seeds, strict=True):
            rng = np.random.default_rng(seed)
            state[:] = sample(rng, rng.random(1) < INNER_SHARE)[0, :1]
        return self._states.copy()

    def step(self, indices: NDArray[np.intp], actions: NDArray[np.float32]) -> Stepped:
        """Step the environments `indices` (n,) with `actions` (n, A), clipped to [-1, 1]."""
        states = self._states[indices]
        points = np.concatenate((states, ACTION_SCALE * np.clip(actions, -1, 1)), axis=-1)
        ends = np.ones(len(indices), dtype=bool)
        return Stepped(states, is_rewarded(points).astype(np.float64), ends, ~ends)
