"""FetchReach with four goals, the task of LOM's Figures 2 and 4 and of the embedded dataset.

The robot and its controls are those of gymnasium-robotics' FetchReach-v4, bit for bit. What
differs is the task: four goals lie around the initial gripper position, one in each quadrant of
the xy-plane; being within 5 cm of the first quadrant's earns 2 a step, of another 1, else 0. The
observation does not say which goal is meant, so the data of an expert that reaches all four has
four modes. An episode takes 50 steps and never terminates.

Departures from the paper, which does not give these numbers: goals 10 cm off along x and y, and an
initial gripper position that varies by up to 2 cm along each axis (FetchReach always starts at the
same place), so that a dataset has many initial states. The goals stay where they are, so that the
reward is a function of the observation.

Shapes: E environments, n of them stepped at once, O = 10: gripper position (3) in m, finger
positions (2), gripper velocity (3) in m per step, finger velocities (2). A = 4: gripper
displacement (3), of up to 5 cm, and finger control, which FetchReach ignores.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lom_exp.envs.protocol import Stepped
from lom_exp.envs.simulator import load, load_mujoco

GOAL_OFFSET = 0.10  # m, of each goal from the initial gripper position, along x and y
QUADRANTS = np.array([[1, 1, 0], [-1, 1, 0], [-1, -1, 0], [1, -1, 0]])  # of the four goals
GOAL_REWARDS = np.array([2.0, 1.0, 1.0, 1.0])
SUCCESS_RADIUS = 0.05  # m
INITIAL_VARIATION = 0.02  # m
SETTLING_STEPS = 5  # after which a displaced gripper moves by less than 0.1 mm a step
MAX_DISPLACEMENT = 0.05  # m, of the gripper's target in one step
# Added to the target's orientation at every step, as FetchReach does, which keeps the gripper
# pointing down.
ORIENTATION = np.array([1.0, 0.0, 1.0, 0.0])


class FetchReachFourGoals:
    """`count` environments; `goals` (4, 3) are the goals' positions, the first quadrant's first."""

    observation_dim = 10
    action_dim = 4
    horizon = 50

    def __init__(self, count: int) -> None:
        mujoco = load_mujoco()
        robotics = load("gymnasium_robotics.envs.fetch.reach", "gymnasium-robotics")
        # Building one sets up the scene and moves the arm to its initial pose.
        original = robotics.MujocoFetchReachEnv()
        model = original.model
        self._mujoco, self._model = mujoco, model
        self._data = [mujoco.MjData(model) for _ in range(count)]
        self._steps = np.zeros(count, dtype=np.intp)  # of each environment's episode
        self._initial = original.initial_time, original.initial_qpos, original.initial_qvel
        self._substeps: int = original.n_substeps
        self._seconds: float = original.dt  # of one step
        self._grip = model.site("robot0:grip").id
        self._gripper = model.body("robot0:gripper_link").id
        fingers = [model.joint(f"robot0:{side}_gripper_finger_joint") for side in "rl"]
        self._finger_qpos = [joint.qposadr[0] for joint in fingers]
        self._finger_qvel = [joint.dofadr[0] for joint in fingers]
        self.goals = original.initial_gripper_xpos + GOAL_OFFSET * QUADRANTS
        # A step takes most of a millisecond of physics outside Python's lock, so threads pay.
        self._threads = ThreadPoolExecutor(min(count, os.cpu_count() or 1))

    def reset(self, seeds: Sequence[int]) -> NDArray[np.float64]:
        """Start an episode in each environment from its own seed; the observations (E, O)."""
        self._steps[:] = 0
        pairs = zip(self._data, seeds, strict=True)
        return np.stack(list(self._threads.map(lambda pair: self._reset_one(*pair), pairs)))

    def _reset_one(self, data: Any, seed: int) -> NDArray[np.float64]:
        self._mujoco.mj_resetData(self._model, data)
        data.time, data.qpos[:], data.qvel[:] = self._initial
        self._mujoco.mj_forward(self._model, data)
        variation = np.random.default_rng(seed).uniform(-1, 1, 3) * INITIAL_VARIATION
        data.mocap_pos[0] = data.xpos[self._gripper] + variation
        data.mocap_quat[0] = data.xquat[self._gripper]
        self._mujoco.mj_step(self._model, data, SETTLING_STEPS * self._substeps)
        return self._observe(data)

    def step(self, indices: NDArray[np.intp], actions: NDArray[np.float32]) -> Stepped:
        """Step the environments `indices` (n,) with `actions` (n, A), clipped to [-1, 1]."""
        data = [self._data[index] for index in indices.tolist()]
        displacements = MAX_DISPLACEMENT * np.clip(actions, -1, 1)[:, :3]
        observations = np.stack(list(self._threads.map(self._step_one, data, displacements)))
        self._steps[indices] += 1
        return Stepped(
            observations,
            self.rewards(observations),
            np.zeros(len(indices), dtype=bool),
            self._steps[indices] >= self.horizon,
        )

    def _step_one(self, data: Any, displacement: NDArray[np.float32]) -> NDArray[np.float64]:
        """Pull the gripper towards `displacement` (3,) in m from where it is."""
        data.mocap_pos[0] = data.xpos[self._gripper] + displacement
        data.mocap_quat[0] = data.xquat[self._gripper] + ORIENTATION
        self._mujoco.mj_step(self._model, data, self._substeps)
        data.qpos[self._finger_qpos] = 0.0  # the fingers are blocked
        return self._observe(data)

    def _observe(self, data: Any) -> NDArray[np.float64]:
        self._mujoco.mj_forward(self._model, data)  # positions of bodies after the last step
        jacobian = np.zeros((3, self._model.nv))
        self._mujoco.mj_jacSite(self._model, data, jacobian, None, self._grip)
        return np.concatenate(
            (
                data.site_xpos[self._grip],
                data.qpos[self._finger_qpos],
                jacobian @ data.qvel * self._seconds,
                data.qvel[self._finger_qvel] * self._seconds,
            )
        )

    def rewards(self, observations: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of being where `observations` (n, O) say the gripper is; (n,) in {0, 1, 2}."""
        distances = np.linalg.norm(observations[:, None, :3] - self.goals, axis=-1)  # (n, 4)
        rewards: NDArray[np.float64] = np.where(distances < SUCCESS_RADIUS, GOAL_REWARDS, 0).max(-1)
        return rewards
