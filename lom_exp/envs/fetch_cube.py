"""Push and pick and place: the Fetch tasks in which a cube is to be at one of four goals.

See `fetch` for what is common, the observation included.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lom_exp.envs.fetch import INITIAL_VARIATION, FetchFourGoals
from lom_exp.envs.simulator import load

INITIAL_LIFT = 0.12  # m, of push's gripper, which would be where the cube is
# rad, of push's cube: a face of it and not an edge is pushed on the way to a goal. Pushed on an
# edge it turns and slips aside, and an expert that has to start anew may be late.
INITIAL_TURN = np.pi / 4


class FetchCubeFourGoals(FetchFourGoals):
    """The cube is to be at a goal, on the desk."""

    observation_dim = 25
    achieved = slice(3, 6)

    def __init__(self, count: int, threads: int | None = None) -> None:
        super().__init__(count, threads)
        self._cube = self._model.site("object0").id
        joint = self._model.joint("object0:joint").qposadr[0]
        self._cube_qpos = slice(joint, joint + 2)  # x and y in m
        self._cube_quaternion = slice(joint + 3, joint + 7)
        # Where the cube has come to rest, it lies on the desk.
        self.goals[:, 2] = self._initial[1][joint + 2]
        self._euler = load("gymnasium_robotics.utils.rotations", "gymnasium-robotics").mat2euler

    def _vary(self, data: Any, rng: np.random.Generator) -> None:
        data.qpos[self._cube_qpos] = self._center[:2] + rng.uniform(-1, 1, 2) * INITIAL_VARIATION

    def _observe(self, data: Any) -> NDArray[np.float64]:
        gripper = super()._observe(data)
        position, fingers, velocity, finger_velocities = np.split(gripper, [3, 5, 8])
        cube_position = data.site_xpos[self._cube]
        cube_velocity, cube_spin = self._velocities(data, self._cube)
        return np.concatenate(
            (
                position,
                cube_position,
                cube_position - position,
                fingers,
                self._euler(data.site_xmat[self._cube].reshape(3, 3)),
                cube_velocity - velocity,
                cube_spin,
                velocity,
                finger_velocities,
            )
        )


class FetchPushFourGoals(FetchCubeFourGoals):
    """The cube is pushed by the closed gripper, which hangs above it at first."""

    _module, _class = "push", "MujocoFetchPushEnv"

    def _vary(self, data: Any, rng: np.random.Generator) -> None:
        self._displace(data, np.array([0.0, 0.0, INITIAL_LIFT]))
        half = INITIAL_TURN / 2
        data.qpos[self._cube_quaternion] = np.cos(half), 0.0, 0.0, np.sin(half)
        super()._vary(data, rng)


class FetchPickAndPlaceFourGoals(FetchCubeFourGoals):
    """The fingers move, and the cube may be lifted; only on the desk is it at a goal."""

    _module, _class = "pick_and_place", "MujocoFetchPickAndPlaceEnv"
