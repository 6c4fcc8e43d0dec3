"""What BC, MDN, AWAC and LOM learn of data with four good actions, as in LOM's Figure 2.

    python -m analysis.policies.figure2 [sweep] [--seed 0] [--M 4]

Above, the actions (dx, dy) of the dataset and of each policy at one initial state; below, the
gripper's way in episodes from twenty initial states. PNG, PDF and CSV.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from analysis import drawing
from analysis.command import Written
from analysis.policies import actions, planes, reach, selection
from analysis.policies.actions import Floats
from analysis.policies.reach import Demonstrations, Episodes, Scene
from analysis.runs import Results
from lom_exp.trained import TrainedRun

METHODS = ("bc", "mdn", "awac", "lom")
TITLES = {"dataset": "Dataset", "bc": "BC", "mdn": "MDN", "awac": "AWAC", "lom": "LOM"}
REMEDY = "python launch.py -m experiment=figure2"
SAMPLES, EPISODES = 1000, 20
_PANEL_WIDTH, _HEIGHT = 1.93, 4.75  # inches


class Panel(NamedTuple):
    """What is drawn in the column of the dataset or of a method."""

    method: str
    sampled: Floats  # (n, A)
    played: Floats | None  # (A,), the action of evaluation, where it is but one
    episodes: Episodes
    run: str = ""

    def numbers(self, scene: Scene) -> dict[str, object]:
        """Its row of the CSV; shares are in [0, 1]."""
        row: dict[str, object] = {"method": self.method, "run": self.run}
        for axis, name in enumerate(("dx", "dy")):
            row[f"mean_{name}"] = self.sampled[:, axis].mean()
            row[f"std_{name}"] = self.sampled[:, axis].std()
            row[f"played_{name}"] = np.nan if self.played is None else self.played[axis]
        best, other, none = self.near(scene)
        return row | {
            "samples": len(self.sampled),
            "outside_box": (np.abs(self.sampled[:, :2]) > 1).any(-1).mean(),
            "near_best_expert": best,
            "near_other_expert": other,
            "near_no_expert": none,
            "episodes": len(self.episodes.returns),
            "mean_return": self.episodes.returns.mean(),
            "end_at_best_goal": self.ends()[0],
            "end_at_other_goal": self.ends()[1],
            "end_at_no_goal": self.ends()[2],
        }

    def near(self, scene: Scene) -> tuple[float, float, float]:
        """Shares of its actions near the best goal's expert's, another's and no one's."""
        return reach.shares(reach.nearest_experts(self.sampled, scene))

    def ends(self) -> tuple[float, float, float]:
        """Shares of its episodes that end at the best goal, at another one and at none."""
        return reach.shares(self.episodes.ends)


def write(results: Results, out: Path, seed: int = 0, M: int | None = None) -> Written:
    """Draw the figure into `out` and write its numbers beside it.

    Raises:
        AnalysisError: the sweep has not one run of each method on fetch-reach with this seed.
        LomExpError: a run, its data or its environment cannot be loaded.
    """
    selected = selection.select(results, METHODS, seed, REMEDY, M)
    runs = selection.load_each(selected, "label")
    scene = reach.scene(runs["lom"], seed, EPISODES)
    shown = reach.demonstrations(runs["lom"], selected.runs["sha256"].iloc[0], scene)
    panels = [
        Panel("dataset", shown.actions, None, shown.episodes),
        *(_learned(runs[method], scene, seed) for method in METHODS),
    ]
    caption = [*_caption(shown), *selection.described(selected, [runs[name] for name in METHODS])]
    files = _draw(panels, scene, caption, out / "figure2")
    csv_file = out / "figure2.csv"
    numbers = pd.DataFrame([panel.numbers(scene) for panel in panels])
    numbers.round(6).to_csv(csv_file, index=False, lineterminator="\n")
    return Written([*files, csv_file], selected.problems)


def _learned(run: TrainedRun, scene: Scene, seed: int) -> Panel:
    method = run.spec.label
    if method == "lom":
        found = actions.evaluated(run, scene.observation)
        distribution = found.mixture.only(found.chosen)
    else:
        distribution = actions.distribution(run, scene.observation)
    sampled = distribution.sample(SAMPLES, np.random.default_rng(seed))
    # MDN draws its actions in evaluation, too: no one of them is that of the state.
    played = None if method == "mdn" else actions.played(run, scene.observation)
    return Panel(method, sampled, played, reach.play(run, scene), run.name)


def _draw(panels: Sequence[Panel], scene: Scene, caption: Sequence[str], stem: Path) -> list[Path]:
    with drawing.figure(_PANEL_WIDTH * len(panels), _HEIGHT, _legend(), caption) as figure:
        columns = figure.subplots(2, len(panels), sharex="row", sharey="row").T
        for letter, (above, below), panel in zip("abcde", columns, panels, strict=True):
            color = {"dataset": planes.DATA, "lom": planes.CHOSEN}.get(panel.method, planes.LEARNED)
            best, other, none = panel.near(scene)
            note = (
                f"near the best goal's expert {best:.0%}\n"
                f"another's {other:.0%}, no one's {none:.0%}"
            )
            planes.action_plane(above, f"({letter}) {TITLES[panel.method]}", note)
            planes.modes(above, scene)
            planes.dots(above, panel.sampled, color)
            if panel.played is not None:
                planes.played(above, panel.played)

            best, other, none = panel.ends()
            note = (
                f"return {panel.episodes.returns.mean():.1f}; ends at the best\n"
                f"goal {best:.0%}, other {other:.0%}, none {none:.0%}"
            )
            planes.gripper_plane(below, scene, note)
            planes.paths(below, scene, panel.episodes.paths[:EPISODES], color)
        columns[0, 0].set_ylabel("action dy", labelpad=1)
        columns[0, 1].set_ylabel("gripper y (cm)", labelpad=1)
        return planes.save(figure, stem)


def _legend() -> list[Line2D]:
    return [
        planes.dot(planes.DATA, "dataset"),
        planes.dot(planes.LEARNED, "policy's distribution"),
        planes.dot(planes.CHOSEN, "component LOM imitates"),
        Line2D([], [], label="action played", **planes.PLAYED),
        planes.ring(planes.CHOSEN, "best goal; its expert"),
    ]


def _caption(shown: Demonstrations) -> list[str]:
    return [
        f"Above: actions (dx, dy) at one initial state that is in no data; {SAMPLES:,} samples of "
        "each distribution, before they are clipped to the box of the actions (dotted). The "
        f"dataset's are its first actions at the {shown.states} initial states nearest to it (at "
        f"most {100 * shown.distance:.1f} cm). Circles: the four experts' actions there, with "
        f"{reach.MODE_RADIUS} standard deviations of their noise; the shares count samples, once "
        "clipped, within them. Evaluation plays the mean of BC's and AWAC's Gaussian (diamond), a "
        "draw of MDN's mixture, and LOM's policy, which imitates samples of the one component of "
        "highest hyper-Q.",
        "Below: the gripper from above, in episodes as evaluation plays them, from the same "
        f"{EPISODES} initial states for every policy; the dataset's shares are of the "
        f"{len(shown.episodes.returns)} trajectories whose first actions are above, and the "
        f"{EPISODES} nearest are drawn. Circles: goals with the reward of a step spent there.",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = selection.with_M(selection.parser("What BC, MDN, AWAC and LOM learn of four modes."))

    def run(results: Results, out: Path, arguments: argparse.Namespace) -> Written:
        return write(results, out, arguments.seed, arguments.M)

    return selection.main(parser, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
