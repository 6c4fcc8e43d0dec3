"""Hopper, HalfCheetah and Walker2d: Gymnasium's v4 tasks, many at once and bit for bit the same.

Observations, rewards, terminations, time limit and reset noise follow Gymnasium's environments
(the tests compare whole episodes with `==`), at a lower cost: one model for all environments,
everything but the physics vectorized over them, and no forces computed that no observation shows.
Actions are clipped to [-1, 1], as D4RL's wrapper does.

Shapes: E environments, n of them stepped at once, O, A.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lom_exp.envs.protocol import Stepped
from lom_exp.envs.simulator import load, load_mujoco


@dataclass(frozen=True)
class Task:
    """What tells one of the three robots from another; all have a plane's x, z and angle first."""

    model: str  # file among Gymnasium's assets
    frame_skip: int  # physics steps of one environment step
    control_cost: float  # times the sum of the squared actions
    healthy_reward: float = 0.0  # of every step
    healthy_z: tuple[float, float] = (-math.inf, math.inf)  # m; outside, the episode terminates
    healthy_angle: tuple[float, float] = (-math.inf, math.inf)  # rad
    healthy_state: float = math.inf  # largest magnitude of any coordinate but x and z
    observed_velocity: float = math.inf  # observed velocities are clipped to this magnitude
    reset_noise: float = 5e-3  # half width of the uniform noise on the initial state
    normal_velocities: bool = False  # initial velocities vary normally and not uniformly


TASKS = {
    "HalfCheetah-v4": Task(
        model="half_cheetah.xml",
        frame_skip=5,
        control_cost=0.1,
        reset_noise=0.1,
        normal_velocities=True,
    ),
    "Hopper-v4": Task(
        model="hopper.xml",
        frame_skip=4,
        control_cost=1e-3,
        healthy_reward=1.0,
        healthy_z=(0.7, math.inf),
        healthy_angle=(-0.2, 0.2),
        healthy_state=100.0,
        observed_velocity=10.0,
    ),
    "Walker2d-v4": Task(
        model="walker2d.xml",
        frame_skip=4,
        control_cost=1e-3,
        healthy_reward=1.0,
        healthy_z=(0.8, 2.0),
        healthy_angle=(-1.0, 1.0),
        observed_velocity=10.0,
    ),
}


class Locomotion:
    """`count` environments of one of `TASKS`."""

    horizon = 1000

    def __init__(self, environment: str, count: int) -> None:
        mujoco = load_mujoco()
        gymnasium = load("gymnasium", "gymnasium[mujoco]")
        self._task = TASKS[environment]
        assets = Path(gymnasium.__path__[0]) / "envs" / "mujoco" / "assets"
        self._model = mujoco.MjModel.from_xml_path(str(assets / self._task.model))
        # A lone robot is one island of constraints. Looking for more takes a tenth of the time
        # and changes no bit of the result.
        self._model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_ISLAND
        self._mujoco = mujoco
        self._data = [mujoco.MjData(self._model) for _ in range(count)]
        # Views of each environment's state: asking MjData for them anew costs as much as a copy.
        self._qpos = [data.qpos for data in self._data]  # (nq,) each
        self._qvel = [data.qvel for data in self._data]  # (nv,) each
        self._controls = [data.ctrl for data in self._data]  # (A,) each
        self._steps = np.zeros(count, dtype=np.intp)  # of each environment's episode
        self._seconds = self._model.opt.timestep * self._task.frame_skip  # of one step
        self.observation_dim: int = self._model.nq - 1 + self._model.nv
        self.action_dim: int = self._model.nu

    def reset(self, seeds: Sequence[int]) -> NDArray[np.float64]:
        """Start an episode in each environment from its own seed; the observations (E, O)."""
        for data, seed in zip(self._data, seeds, strict=True):
            self._reset_one(data, seed)
        self._steps[:] = 0
        return self._observe(np.array(self._qpos), np.array(self._qvel))

    def _reset_one(self, data: Any, seed: int) -> None:
        task = self._task
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
        noise = task.reset_noise
        self._mujoco.mj_resetData(self._model, data)
        # Positions are drawn before velocities, as in Gymnasium; initial velocities are zero.
        data.qpos[:] = self._model.qpos0 + rng.uniform(-noise, noise, self._model.nq)
        if task.normal_velocities:
            data.qvel[:] = noise * rng.standard_normal(self._model.nv)
        else:
            data.qvel[:] = rng.uniform(-noise, noise, self._model.nv)
        self._mujoco.mj_forward(self._model, data)

    def step(self, indices: NDArray[np.intp], actions: NDArray[np.float32]) -> Stepped:
        """Step the environments `indices` (n,) with `actions` (n, A), clipped to [-1, 1]."""
        task, model, mj_step = self._task, self._model, self._mujoco.mj_step
        actions = np.clip(actions, -1, 1)
        controls = actions.astype(np.float64)
        qpos = np.empty((len(indices), model.nq))
        qvel = np.empty((len(indices), model.nv))
        x_before = np.empty(len(indices))
        for row, index in enumerate(indices.tolist()):
            x_before[row] = self._qpos[index][0]
            self._controls[index][:] = controls[row]
            mj_step(model, self._data[index], task.frame_skip)
            qpos[row] = self._qpos[index]
            qvel[row] = self._qvel[index]
        self._steps[indices] += 1

        velocity = (qpos[:, 0] - x_before) / self._seconds
        # In the precision of the actions, as Gymnasium computes it.
        control_cost = task.control_cost * np.square(actions).sum(-1)
        rewards = velocity + task.healthy_reward - control_cost
        truncations = self._steps[indices] >= self.horizon
        return Stepped(
            self._observe(qpos, qvel), rewards, ~self._is_healthy(qpos, qvel), truncations
        )

    def _observe(self, qpos: NDArray[np.float64], qvel: NDArray[np.float64]) -> NDArray[np.float64]:
        """All but x, since running looks the same everywhere."""
        limit = self._task.observed_velocity
        return np.concatenate((qpos[:, 1:], np.clip(qvel, -limit, limit)), axis=-1)

    def _is_healthy(
        self, qpos: NDArray[np.float64], qvel: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        task = self._task
        z, angle = qpos[:, 1], qpos[:, 2]
        state = np.concatenate((qpos[:, 2:], qvel), axis=-1)
        healthy: NDArray[np.bool_] = (
            (task.healthy_z[0] < z)
            & (z < task.healthy_z[1])
            & (task.healthy_angle[0] < angle)
            & (angle < task.healthy_angle[1])
            & (np.abs(state) < task.healthy_state).all(-1)
        )
        return healthy
