"""Scripted experts of the Fetch tasks: functions of an observation and a goal, without memory.

Every expert first moves to another side for every goal, also where that is a detour: push's to the
side from which the cube is to be pushed, pick and place's down to the cube from the goal's side.

Shapes: n observations, O and A as in `lom_exp.envs.fetch`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Per meter. At the start, 8 to 12 cm from a target along x and y, this makes actions of 0.64 to
# 0.96, most of which no noise pushes over the limit: four modes near (+-1, +-1), each with a width.
GAIN = 8.0
CARRYING_GAIN = 12.0  # per meter, once the cube has been found

SWING = 0.10  # m, from the cube along x and y, before the gripper comes down
CLEARANCE = 0.10  # m, of push's gripper above the cube on the way to the other side
PUSHING_SPEED = 0.6  # in units of the action
BRAKING_GAIN = 8.0  # per meter before the goal, at which a faster cube slides on
STEERING_GAIN = 32.0  # per meter off the line from the cube to the goal
PUSHED = 0.03  # m, from the goal, where pushing ends: well inside what is rewarded
GRIP_HEIGHT = 0.055  # m, above the cube: below, open fingers must not move sideways
GLIDE = 2.0  # m sideways per m of height, on the way down to there
ABOVE_CUBE = 0.02  # m, sideways, from where the open fingers fit around the cube
GRASPED = 0.055  # m, between fingers that hold the cube, whose side is 0.05 m
AT_CUBE = 0.015  # m, from the cube's center to where the fingers meet
PLACED = 0.02  # m, from the goal, where the fingers open
OPENED = 0.07  # m, between fingers that no longer touch the cube


def reach(observations: Floats, goals: Floats) -> Floats:
    """Actions (n, A) towards `goals` (n, 3) from `observations` (n, O)."""
    return _actions(GAIN * (goals - observations[:, :3]))


def push(observations: Floats, goals: Floats) -> Floats:
    """Actions (n, A): round to the far side of the cube, down, and straight to the goal."""
    gripper, cube = observations[:, :3], observations[:, 3:6]
    relative, height = (gripper - cube)[:, :2], (gripper - cube)[:, 2:]
    way = (goals - cube)[:, :2]
    distance = _length(way)
    direction = way / np.maximum(distance, 1e-9)
    along = (relative * direction).sum(-1, keepdims=True)  # m, negative on the far side
    across = relative - along * direction

    low = height < CLEARANCE / 2
    is_behind = (along < -0.03) & (_length(across) < 0.03)
    is_pushing = is_behind & (height < 0.03)
    is_stuck = low & ~is_behind & (along > -0.05)  # beside or on the cube: only up from there
    start = -np.sqrt(2) * SWING * direction - relative
    descends = (_length(start) < 0.05) | (low & (along < -0.05))
    approach = _join(
        np.where(is_stuck, 0, GAIN * start), GAIN * (np.where(descends, 0, CLEARANCE) - height)
    )
    speed = np.minimum(PUSHING_SPEED, BRAKING_GAIN * distance)
    steered = speed * direction - STEERING_GAIN * across
    steered *= speed / np.maximum(_length(steered), speed)
    pushing = _join(steered, -GAIN * height)
    displacements = np.where(is_pushing, pushing, approach)
    return _actions(np.where(distance < PUSHED, 0, displacements))


def pick_and_place(observations: Floats, goals: Floats) -> Floats:
    """Actions (n, A): down to the cube from the goal's side, grasp, carry in an arc, let go."""
    gripper, cube = observations[:, :3], observations[:, 3:6]
    relative, height = (gripper - cube)[:, :2], (gripper - cube)[:, 2:]
    opening = observations[:, 9:11].sum(-1, keepdims=True)
    way = (goals - cube)[:, :2]
    distance = _length(way)
    is_found = _length(gripper - cube) < AT_CUBE
    is_grasped = is_found & (opening < GRASPED)
    is_placed = (distance < PLACED) & (np.abs(cube - goals)[:, 2:] < 0.012)

    glide = np.clip(GLIDE * (height - GRIP_HEIGHT), 0, SWING) * np.sign(way) - relative
    waits = (_length(glide) > 0.04) & (height > GRIP_HEIGHT)
    bottom = np.where(_length(relative) < ABOVE_CUBE, 0, GRIP_HEIGHT)
    approach = _join(GAIN * glide, np.where(waits, 0, CARRYING_GAIN * (bottom - height)))
    lift = np.minimum(distance / 2, 0.06)
    carry = CARRYING_GAIN * _join(way, (goals - cube)[:, 2:] + lift)
    leave = _join(0 * way, np.where(opening > OPENED, GAIN * (SWING - height), 0))

    displacements = np.where(is_found, GAIN * (cube - gripper), approach)
    displacements = np.where(is_grasped, carry, displacements)
    displacements = np.where(is_placed, leave, displacements)
    fingers = np.where(is_found & ~is_placed, -1.0, 1.0)
    return _actions(displacements, fingers)


def _actions(displacements: Floats, fingers: Floats | float = 0.0) -> Floats:
    """Actions (n, A) of displacements (n, 3) and finger controls (n, 1)."""
    controls = np.broadcast_to(fingers, (len(displacements), 1))
    actions: Floats = np.clip(_join(displacements, controls), -1, 1)
    return actions


def _join(*columns: Floats) -> Floats:
    return np.concatenate(columns, axis=-1)


def _length(vectors: Floats) -> Floats:
    lengths: Floats = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return lengths
