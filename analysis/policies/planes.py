"""The planes that the figures of policies are drawn in: of actions (dx, dy), and of the gripper."""

from __future__ import annotations

from pathlib import Path

import matplotlib.axes
import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Ellipse, Rectangle
from numpy.typing import NDArray
from PIL import Image

from analysis import drawing
from analysis.policies.actions import Evaluated, Floats, Mixture
from analysis.policies.reach import Scene
from lom_exp.envs.fetch import GOAL_REWARDS, SUCCESS_RADIUS

DATA = "#999999"
LEARNED = "#0072B2"  # blue
CHOSEN = drawing.DATASET  # vermilion: the paper's red, for readers who do not see red
SIGMAS = (1, 2)  # of the contours
_ACTION_LIMIT, _GRIPPER_LIMIT = 1.55, 17.5  # of the axes; the latter in cm

PLAYED = {
    "marker": "D", "markersize": 5, "color": "black", "markeredgecolor": "white",
    "markeredgewidth": 0.8, "linestyle": "",
}  # fmt: skip
TOO_LIGHT = {
    "marker": "X", "markersize": 5.5, "color": "white", "markeredgecolor": CHOSEN,
    "linestyle": "",
}  # fmt: skip


def action_plane(axes: matplotlib.axes.Axes, title: str, note: str = "") -> None:
    """Axes of (dx, dy), with the box of the actions."""
    _square(axes, _ACTION_LIMIT, [-1, 0, 1])
    axes.add_patch(
        Rectangle((-1, -1), 2, 2, fill=False, linestyle=":", edgecolor=drawing.INK, lw=0.8)
    )
    axes.set_xlabel("action dx", labelpad=1)
    _titled(axes, title, note)


def gripper_plane(axes: matplotlib.axes.Axes, scene: Scene, note: str) -> None:
    """Axes of the gripper's way in cm from amid the goals, with the goals and their rewards."""
    _square(axes, _GRIPPER_LIMIT, [-10, 0, 10])
    for goal, reward in zip(scene.goals, GOAL_REWARDS, strict=True):
        position = 100 * (goal - scene.center)[:2]
        best = reward == GOAL_REWARDS.max()
        axes.add_patch(
            Circle(position, 100 * SUCCESS_RADIUS, facecolor="#F4E3D7" if best else "#EEEEEE",
                   edgecolor=CHOSEN if best else DATA, lw=0.9, zorder=1)
        )  # fmt: skip
        beside = position + (72 * SUCCESS_RADIUS + 1.6) * np.sign(position)  # towards the corner
        axes.annotate(f"{reward:g}", beside, ha="center", va="center",
                      fontsize=drawing.CAPTION_SIZE, zorder=4)  # fmt: skip
    axes.set_xlabel("gripper x (cm)", labelpad=1)
    _titled(axes, "", note)


def paths(axes: matplotlib.axes.Axes, scene: Scene, ways: Floats, color: str) -> None:
    """Ways (E, T, 3) in m, seen from above, with a dot where each ends."""
    flat = 100 * (ways - scene.center)[..., :2]
    axes.add_collection(
        LineCollection(list(flat), colors=color, linewidths=0.8, alpha=0.6, zorder=2)
    )
    axes.plot(*flat[:, -1].T, ".", color=color, markersize=3.5, zorder=3)


def modes(axes: matplotlib.axes.Axes, scene: Scene) -> None:
    """Where the experts' actions lie, as circles."""
    for action, reward in zip(scene.expert_actions, GOAL_REWARDS, strict=True):
        best = reward == GOAL_REWARDS.max()
        axes.add_patch(
            Circle(action[:2], scene.mode_radius, fill=False, edgecolor=CHOSEN if best else DATA,
                   lw=0.9, zorder=3)
        )  # fmt: skip


def dots(axes: matplotlib.axes.Axes, actions: Floats, color: str, **style: object) -> None:
    """Actions (n, A) as dots; `style` is matplotlib's for a scatter plot."""
    drawn = {"s": 4, "linewidths": 0, "alpha": 0.4, "zorder": 2} | style
    axes.scatter(*actions[:, :2].T, color=color, **drawn)


def contours(axes: matplotlib.axes.Axes, mixture: Mixture, color: str) -> None:
    """Each component at 1 and at 2 standard deviations, bolder the heavier it is."""
    prominence = mixture.weights / mixture.weights.max()
    for mean, std, part in zip(mixture.means, mixture.stds, prominence, strict=True):
        for sigma in SIGMAS:
            axes.add_patch(
                Ellipse(mean[:2], *(2 * sigma * std[:2]), fill=False, edgecolor=color,
                        lw=0.5 + 1.5 * part, alpha=0.35 + 0.65 * part, zorder=3)
            )  # fmt: skip


def played(axes: matplotlib.axes.Axes, action: NDArray[np.float64]) -> None:
    """The action (A,) that evaluation plays."""
    axes.plot(*action[:2], zorder=5, **PLAYED)


def dot(color: str, label: str) -> Line2D:
    """A legend's entry for `dots` and `paths`."""
    return Line2D([], [], color=color, marker="o", markersize=4, linestyle="", label=label)


def ring(color: str, label: str) -> Line2D:
    """A legend's entry for `contours` and circles."""
    return Line2D(
        [], [], color=color, marker="o", markersize=9, markerfacecolor="none", linestyle="",
        label=label,
    )  # fmt: skip


def component_rows(found: Evaluated) -> pd.DataFrame:
    """A row of a CSV for each component, as the figures number them: from 1 on."""
    (weights, means, stds), count = found.mixture, len(found.hyper_qs)
    columns = {"component": np.arange(1, count + 1), "weight": weights}
    for axis, name in enumerate(("dx", "dy")):
        columns |= {f"mean_{name}": means[:, axis], f"std_{name}": stds[:, axis]}
    chosen = np.arange(count) == found.chosen
    return pd.DataFrame(columns | {"hyper_q": found.hyper_qs, "chosen": chosen})


def save(made: Figure, stem: Path) -> list[Path]:
    """As `drawing.save`; the PNG with a palette, which halves it where there are many dots."""
    png, pdf = drawing.save(made, stem)
    with Image.open(png) as image:
        flat = image.convert("RGB").quantize(
            256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE
        )
    flat.save(png, optimize=True)
    return [png, pdf]


def _square(axes: matplotlib.axes.Axes, limit: float, ticks: list[float]) -> None:
    axes.set_aspect("equal")
    axes.set_xlim(-limit, limit)
    axes.set_ylim(-limit, limit)
    axes.set_xticks(ticks)
    axes.set_yticks(ticks)
    axes.grid(False)


def _titled(axes: matplotlib.axes.Axes, title: str, note: str) -> None:
    """A bold title above a note of a few lines; either may be empty."""
    axes.set_title(note, loc="left", fontsize=7, linespacing=1.15, pad=4)
    above = 6 + 8.5 * len(note.splitlines())  # points
    axes.annotate(
        title, (0, 1), (0, above), xycoords="axes fraction", textcoords="offset points",
        fontweight="bold",
    )  # fmt: skip
