"""Fetch tasks with four goals: those of LOM's Table 2 and Figures 2 and 4 (arXiv 2412.03258).

The robot and its controls are those of gymnasium-robotics' FetchReach-v4, FetchPush-v4 and
FetchPickAndPlace-v4, bit for bit. What differs is the task: four goals lie around the initial
gripper position, one in each quadrant of the xy-plane. Having the gripper (reach) or the cube
(push, pick and place) within 5 cm of the first quadrant's goal earns 2 a step, of another's 1, else
0. The observation does not say which goal is meant, so the data of an expert that reaches all four
has four modes. An episode takes 50 steps and never terminates.

Departures from the paper, which does not give these numbers: goals 10 cm off along x and y, at the
gripper's initial height or on the desk, and an initial position, of the gripper or of the cube,
that varies by up to 2 cm along each axis, so that a dataset has many initial states. The goals stay
where they are, so that the reward is a function of the observation. The cube lies below the gripper
at first, in the middle of the goals: an expert then leaves for another side from its first step on.
In Fetch's own tasks it lies to one side, where all goals begin with the same way there.

Shapes: E environments, n of them stepped at once. A = 4: gripper displacement (3), of up to 5 cm,
and finger control (1), which is ignored but for pick and place. O = 10 for reach: gripper position
(3) in m, finger positions (2), gripper velocity (3) in m per step, finger velocities (2). O = 25
with a cube: gripper position (3), cube position (3), the latter from the former (3), finger
positions (2), Euler angles of the cube (3), its velocity relative to the gripper's (3) and angular
velocity (3), gripper velocity (3), finger velocities (2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lom_exp import cores
from lom_exp.envs.protocol import Stepped
from lom_exp.envs.simulator import load, load_mujoco

GOAL_OFFSET = 0.10  # m, of each goal from the initial gripper position, along x and y
QUADRANTS = np.array([[1, 1, 0], [-1, 1, 0], [-1, -1, 0], [1, -1, 0]])  # of the four goals
GOAL_REWARDS = np.array([2.0, 1.0, 1.0, 1.0])
SUCCESS_RADIUS = 0.05  # m
INITIAL_VARIATION = 0.02  # m
SETTLING_STEPS = 5  # after which a displaced gripper moves by less than 0.1 mm a step
MAX_DISPLACEMENT = 0.05  # m, of the gripper's target in one step
# Added to the target's orientation at every step, as Fetch does, which keeps the gripper pointing
# down.
ORIENTATION = np.array([1.0, 0.0, 1.0, 0.0])


class FetchFourGoals:
    """`count` environments; `goals` (4, 3) are the goals' positions, the first quadrant's first."""

    observation_dim = 10
    action_dim = 4
    horizon = 50
    achieved = slice(0, 3)  # of an observation: the position that is to be a goal's
    _module, _class = "", ""  # of the original in gymnasium-robotics

    def __init__(self, count: int, threads: int | None = None) -> None:
        """Step environments on this many threads; None: as many as this process has cores."""
        mujoco = load_mujoco()
        robotics = load(f"gymnasium_robotics.envs.fetch.{self._module}", "gymnasium-robotics")
        # Building one sets up the scene and moves the arm to its initial pose.
        original = getattr(robotics, self._class)()
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
        self._blocked: bool = original.block_gripper
        self._center = original.initial_gripper_xpos  # m
        self.goals = self._center + GOAL_OFFSET * QUADRANTS
        # A step takes most of a millisecond of physics outside Python's lock, so threads pay.
        workers = min(count, threads or len(cores.available()))
        self._threads = ThreadPoolExecutor(workers) if workers > 1 else None

    def _map(self, function: Callable[..., Any], *arguments: Iterable[Any]) -> NDArray[np.float64]:
        """The observations (n, O) that n calls of a function return."""
        apply = self._threads.map if self._threads is not None else map
        return np.stack(list(apply(function, *arguments)))

    def reset(self, seeds: Sequence[int]) -> NDArray[np.float64]:
        """Start an episode in each environment from its own seed; the observations (E, O)."""
        self._steps[:] = 0
        pairs = list(zip(self._data, seeds, strict=True))
        return self._map(lambda pair: self._reset_one(*pair), pairs)

    def _reset_one(self, data: Any, seed: int) -> NDArray[np.float64]:
        self._mujoco.mj_resetData(self._model, data)
        data.time, data.qpos[:], data.qvel[:] = self._initial
        self._mujoco.mj_forward(self._model, data)
        self._vary(data, np.random.default_rng(seed))
        self._mujoco.mj_forward(self._model, data)
        return self._observe(data)

    def _vary(self, data: Any, rng: np.random.Generator) -> None:
        """Draw the initial state of an environment that is in its original's."""
        self._displace(data, rng.uniform(-1, 1, 3) * INITIAL_VARIATION)

    def _displace(self, data: Any, displacement: NDArray[np.float64]) -> None:
        """Move the gripper by `displacement` (3,) in m and let it come to rest."""
        data.mocap_pos[0] = data.xpos[self._gripper] + displacement
        data.mocap_quat[0] = data.xquat[self._gripper]
        self._mujoco.mj_step(self._model, data, SETTLING_STEPS * self._substeps)

    def step(self, indices: NDArray[np.intp], actions: NDArray[np.float32]) -> Stepped:
        """Step the environments `indices` (n,) with `actions` (n, A), clipped to [-1, 1]."""
        data = [self._data[index] for index in indices.tolist()]
        observations = self._map(self._step_one, data, np.clip(actions, -1, 1))
        self._steps[indices] += 1
        return Stepped(
            observations,
            self.rewards(observations),
            np.zeros(len(indices), dtype=bool),
            self._steps[indices] >= self.horizon,
        )

    def _step_one(self, data: Any, action: NDArray[np.float32]) -> NDArray[np.float64]:
        """Pull the gripper towards where it is plus a displacement, and the fingers likewise."""
        data.mocap_pos[0] = data.xpos[self._gripper] + MAX_DISPLACEMENT * action[:3]
        data.mocap_quat[0] = data.xquat[self._gripper] + ORIENTATION
        if not self._blocked:
            data.ctrl[:] = data.qpos[self._finger_qpos[::-1]] + action[3]  # left before right
        self._mujoco.mj_step(self._model, data, self._substeps)
        if self._blocked:
            data.qpos[self._finger_qpos] = 0.0
            # Fetch brings positions up to date here, and nowhere where the fingers move: there an
            # observation shows the positions of one substep ago.
            self._mujoco.mj_forward(self._model, data)
        return self._observe(data)

    def _observe(self, data: Any) -> NDArray[np.float64]:
        velocity, _ = self._velocities(data, self._grip)
        return np.concatenate(
            (
                data.site_xpos[self._grip],
                data.qpos[self._finger_qpos],
                velocity,
                data.qvel[self._finger_qvel] * self._seconds,
            )
        )

    def _velocities(self, data: Any, site: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """A site's velocity (3,) in m per step and angular velocity (3,) in rad per step."""
        linear = np.zeros((3, self._model.nv))
        angular = np.zeros((3, self._model.nv))
        self._mujoco.mj_jacSite(self._model, data, linear, angular, site)
        return linear @ data.qvel * self._seconds, angular @ data.qvel * self._seconds

    def rewards(self, observations: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of being where `observations` (n, O) say the gripper or cube is; (n,) in {0, 1, 2}."""
        positions = observations[:, None, self.achieved]
        distances = np.linalg.norm(positions - self.goals, axis=-1)  # (n, 4)
        rewards: NDArray[np.float64] = np.where(distances < SUCCESS_RADIUS, GOAL_REWARDS, 0).max(-1)
        return rewards


class FetchReachFourGoals(FetchFourGoals):
    """The gripper is to be at a goal."""

    _module, _class = "reach", "MujocoFetchReachEnv"
