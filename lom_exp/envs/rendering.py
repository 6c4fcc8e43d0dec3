"""Pictures of MuJoCo's environments, without a display: by EGL, on a GPU or in software.

A state is kept as numbers when it is reached and drawn later, from a copy of the model, so that
drawing cannot touch what is simulated.
"""

from __future__ import annotations

import copy
import importlib
import os
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lom_exp.envs.fetch import GOAL_REWARDS, SUCCESS_RADIUS
from lom_exp.envs.protocol import Environments
from lom_exp.errors import SimulationError

State = NDArray[np.float64]  # all of the physics' state
Picture = NDArray[np.uint8]  # (height, width, 3)

PACKAGES = "libegl1 libegl-mesa0 libgl1-mesa-dri"  # Debian's, with software rendering
_SKY, _FLOOR = 232, 225  # gray levels
_BEST, _GOAL, _PATH = (0.85, 0.55, 0.1, 0.55), (0.3, 0.5, 0.75, 0.4), (0.75, 0.2, 0.25, 1.0)
_PATH_RADIUS = 0.005  # m


@runtime_checkable
class Simulated(Protocol):
    """Environments whose state MuJoCo holds."""

    _model: Any
    _data: list[Any]
    _seconds: float  # of one step


@runtime_checkable
class WithGoals(Protocol):
    """Environments with a goal in each quadrant, shown as spheres, and the way to them."""

    goals: NDArray[np.float64]  # (4, 3) in m
    achieved: slice  # of an observation: the position (3,) in m that is to be a goal's


def prepare() -> None:
    """Choose EGL; to be called before anything imports mujoco, which looks only then.

    Raises SimulationError where there is no EGL.
    """
    chosen = os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        importlib.import_module("mujoco")
        if chosen == "egl":
            # A Renderer that fails here leaves complaints of its own at the interpreter's exit.
            egl = importlib.import_module("mujoco.egl")
            if egl.create_initialized_egl_device_display() == egl.EGL.EGL_NO_DISPLAY:
                raise RuntimeError("no EGL device")
    except ModuleNotFoundError:  # `make` says which package is missing
        pass
    except Exception as error:  # of whatever kind PyOpenGL raises
        raise _no_renderer(error) from error


def _no_renderer(error: Exception) -> SimulationError:
    return SimulationError(
        f"nothing can be drawn with MUJOCO_GL={os.environ.get('MUJOCO_GL')} "
        f"({str(error).rstrip('.')}). On Debian and Ubuntu: apt-get install {PACKAGES}. "
        "Training and evaluation do not need it"
    )


class Camera:
    """Draws states of `environments`; raises SimulationError for those that have no picture.

    `seconds` is the time of one step; `traced`, where there is one, the slice of an observation
    that is the position of interest.
    """

    def __init__(self, environments: Environments, width: int, height: int) -> None:
        if not isinstance(environments, Simulated):
            raise SimulationError(
                f"{type(environments).__name__} has no renderer: it is no simulation of MuJoCo's. "
                "What its runs have learned is in their evaluations.jsonl and in the figures"
            )
        self.seconds: float = environments._seconds
        self._mujoco = mujoco = importlib.import_module("mujoco")
        self._simulated = environments
        self._goals, self.traced = None, None
        if isinstance(environments, WithGoals):
            self._goals, self.traced = environments.goals, environments.achieved
        self._model = _styled(mujoco, environments._model, width, height)
        self._data = mujoco.MjData(self._model)
        self._kind = mujoco.mjtState.mjSTATE_INTEGRATION
        self._options = mujoco.MjvOption()
        self._options.sitegroup[:] = 0  # marks that belong to the original task
        try:
            self._renderer = mujoco.Renderer(self._model, height, width)
        except Exception as error:  # of whatever kind PyOpenGL raises
            raise _no_renderer(error) from error
        # In software they take most of the time, and the shadows have holes.
        for flag in (mujoco.mjtRndFlag.mjRND_REFLECTION, mujoco.mjtRndFlag.mjRND_SHADOW):
            self._renderer.scene.flags[flag] = 0
        self._view = self._choose_view()

    def close(self) -> None:
        """Free the graphics context; left to the interpreter's exit, that fails."""
        self._renderer.close()

    def _choose_view(self) -> Any:
        """From the side, moving along, by the model's own camera; or of the goals."""
        if self._goals is None:
            return "track"
        view = self._mujoco.MjvCamera()
        view.lookat[:] = self._goals.mean(0) + np.array([0.0, 0.0, 0.06])
        # Against y, x to the right, so that the first quadrant is above and to the right.
        view.distance, view.azimuth, view.elevation = 0.75, 90.0, -50.0
        return view

    def state(self, index: int) -> State:
        """The state that the environment `index` is in now."""
        model, data = self._simulated._model, self._simulated._data[index]
        state = np.empty(self._mujoco.mj_stateSize(model, self._kind))
        self._mujoco.mj_getState(model, data, state, self._kind)
        return state

    def draw(self, state: State, path: Sequence[NDArray[np.float64]] = ()) -> Picture:
        """A picture of a state and, as a line, of the positions (3,) in m that led to it."""
        self._mujoco.mj_setState(self._model, self._data, state, self._kind)
        self._mujoco.mj_forward(self._model, self._data)
        self._renderer.update_scene(self._data, self._view, self._options)
        if self._goals is not None:
            for goal, reward in zip(self._goals, GOAL_REWARDS, strict=True):
                self._add_sphere(goal, _BEST if reward == GOAL_REWARDS.max() else _GOAL)
        for start, end in pairwise(path):
            self._add_line(start, end)
        picture: Picture = self._renderer.render().copy()
        return picture

    def _add(self, kind: Any, size: float, position: Any, color: Sequence[float]) -> Any:
        scene = self._renderer.scene
        scene.ngeom += 1
        geometry = scene.geoms[scene.ngeom - 1]
        self._mujoco.mjv_initGeom(
            geometry,
            kind,
            np.full(3, size),
            position,
            np.eye(3).ravel(),
            np.array(color, np.float32),
        )
        return geometry

    def _add_sphere(self, position: NDArray[np.float64], color: Sequence[float]) -> None:
        self._add(self._mujoco.mjtGeom.mjGEOM_SPHERE, SUCCESS_RADIUS, position, color)

    def _add_line(self, start: NDArray[np.float64], end: NDArray[np.float64]) -> None:
        kind = self._mujoco.mjtGeom.mjGEOM_CAPSULE
        geometry = self._add(kind, _PATH_RADIUS, start, _PATH)
        self._mujoco.mjv_connector(geometry, kind, _PATH_RADIUS, start, end)


def _styled(mujoco: Any, model: Any, width: int, height: int) -> Any:
    """A copy of a model with a light sky and a pale floor, for pictures of this size."""
    model = copy.copy(model)
    model.vis.global_.offwidth, model.vis.global_.offheight = width, height
    model.vis.headlight.diffuse[:] = 0.35
    model.light_diffuse *= 0.75
    # What only shows where the hand is pulled to.
    model.geom_rgba[model.body_mocapid[model.geom_bodyid] >= 0, 3] = 0
    planes = model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE
    materials = model.geom_matid[planes]
    materials = materials[materials >= 0]
    model.geom_rgba[planes, :3] = model.mat_rgba[materials, :3] = 0.9
    floors = model.mat_texid[materials]
    for texture in range(model.ntex):
        start = model.tex_adr[texture]
        pixels = model.tex_height[texture] * model.tex_width[texture]
        data = model.tex_data[start : start + pixels * model.tex_nchannel[texture]]
        if model.tex_type[texture] == mujoco.mjtTexture.mjTEXTURE_SKYBOX:
            data[:] = _SKY
        elif texture in floors:
            data[:] = _FLOOR + data // 8
    return model
