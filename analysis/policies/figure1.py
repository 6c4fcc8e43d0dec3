"""The three steps of LOM at one state of real data, as LOM's Figure 1 sketches them.

    python -m analysis.policies.figure1 [sweep] [--seed 0] [--M 4]

From left to right: the mixture fitted to the dataset's actions; the hyper-Q of each component; the
samples of the best one that the policy imitates, and what it has learned. PNG, PDF and CSV.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib.axes
import numpy as np
from matplotlib.lines import Line2D

from analysis import drawing
from analysis.command import Written
from analysis.policies import actions, planes, reach, selection
from analysis.policies.actions import Evaluated, Floats, Imitated
from analysis.policies.reach import Demonstrations
from analysis.runs import Results
from lom_exp.algorithms import lom

REMEDY = "python launch.py -m experiment=figure2 algo=lom"
SAMPLES = 300
_WIDTH, _HEIGHT = 9.0, 3.2  # inches
_HYPER_Q = {"color": "black", "linewidth": 2}


def write(results: Results, out: Path, seed: int = 0, M: int | None = None) -> Written:
    """Draw the figure into `out` and write its numbers beside it.

    Raises:
        AnalysisError: the sweep has not one run of LOM on fetch-reach with this seed and M.
        LomExpError: the run or its data cannot be loaded.
    """
    selected = selection.select(results, ["lom"], seed, REMEDY, M)
    run = selection.load_each(selected, "label")["lom"]
    scene = reach.scene(run, seed, 1)
    shown = reach.demonstrations(run, selected.runs["sha256"].iloc[0], scene)
    found = actions.evaluated(run, scene.observation)
    generator = np.random.default_rng(seed)
    sampled_qs = np.stack(
        [
            actions.sampled_q(run, scene.observation, component.sample(SAMPLES, generator))
            for component in map(found.mixture.only, range(len(found.hyper_qs)))
        ]
    )  # (M, n)
    imitated = actions.imitated(run, scene.observation, SAMPLES, generator)
    played = actions.played(run, scene.observation)

    caption = [*_caption(shown, run.spec.config), *selection.described(selected, [run])]
    with drawing.figure(_WIDTH, _HEIGHT, _legend(), caption) as figure:
        first, second, third = figure.subplots(1, 3)
        _draw_mixture(first, found, shown)
        _draw_hyper_qs(second, found, sampled_qs)
        _draw_imitation(third, found, imitated, played)
        files = planes.save(figure, out / "figure1")
    csv_file = out / "figure1.csv"
    rows = planes.component_rows(found).assign(
        sampled_q_mean=sampled_qs.mean(-1), sampled_q_std=sampled_qs.std(-1), run=run.name
    )
    for axis, name in enumerate(("dx", "dy")):
        target = np.average(imitated.actions[:, axis], weights=imitated.weights)
        rows.loc[rows["chosen"], f"imitated_{name}"] = target
        rows.loc[rows["chosen"], f"played_{name}"] = played[axis]
    rows.round(6).to_csv(csv_file, index=False, lineterminator="\n")
    return Written([*files, csv_file], selected.problems)


def _draw_mixture(axes: matplotlib.axes.Axes, found: Evaluated, shown: Demonstrations) -> None:
    planes.action_plane(axes, "1. Fit a mixture")
    planes.dots(axes, shown.actions, planes.DATA)
    planes.contours(axes, found.mixture, planes.LEARNED)
    for index in np.flatnonzero(found.mixture.weights >= lom.RARE_WEIGHT):
        axes.annotate(
            f"{index + 1}", found.mixture.means[index, :2], ha="center", va="center", zorder=5,
            bbox={"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": "none"},
        )  # fmt: skip
    axes.set_ylabel("action dy", labelpad=1)


def _draw_hyper_qs(axes: matplotlib.axes.Axes, found: Evaluated, sampled_qs: Floats) -> None:
    """A column for each component: Q of its samples, and its hyper-Q."""
    positions = np.arange(1, len(sampled_qs) + 1)
    spread = np.linspace(-0.28, 0.28, sampled_qs.shape[-1])
    for index, (position, values) in enumerate(zip(positions, sampled_qs, strict=True)):
        color = planes.CHOSEN if index == found.chosen else planes.LEARNED
        axes.plot(position + spread, values, ".", color=color, markersize=2.5, alpha=0.5)
    axes.hlines(found.hyper_qs, positions - 0.35, positions + 0.35, zorder=4, **_HYPER_Q)
    heavy = found.mixture.weights >= lom.RARE_WEIGHT
    axes.set_xticks(positions[~heavy], minor=True)
    labels = [
        f"{position}\n{weight:.2f}"
        for position, weight in zip(positions[heavy], found.mixture.weights[heavy], strict=True)
    ]
    axes.set_xticks(positions[heavy], labels, fontsize=6.5)
    axes.set_box_aspect(1)
    axes.set_xlabel("component, mixing weight", labelpad=1)
    axes.set_ylabel("Q (discounted return)", labelpad=1)
    axes.set_title("2. Score its components", loc="left", fontweight="bold")


def _draw_imitation(
    axes: matplotlib.axes.Axes, found: Evaluated, imitated: Imitated, played: Floats
) -> None:
    planes.action_plane(axes, "3. Imitate the best one")
    sizes = 14 * imitated.weights / imitated.weights.max()
    planes.dots(axes, imitated.actions, planes.CHOSEN, s=np.maximum(sizes, 0.4), alpha=0.5)
    planes.contours(axes, found.mixture.only(found.chosen), planes.CHOSEN)
    planes.played(axes, played)
    axes.set_ylabel("action dy", labelpad=1)


def _legend() -> list[Line2D]:
    return [
        planes.dot(planes.DATA, "dataset"),
        planes.ring(planes.LEARNED, "component"),
        planes.ring(planes.CHOSEN, "the best component"),
        Line2D([], [], label="hyper-Q", **_HYPER_Q),
        Line2D([], [], label="action LOM plays", **planes.PLAYED),
    ]


def _caption(shown: Demonstrations, config: lom.Config) -> list[str]:
    among = f" among those of a mixing weight of at least {config.min_component_weight:g}"
    return [
        "One initial state that is in no data. 1: the components of LOM's mixture over the actions "
        "(dx, dy), as contours at 1 and 2 standard deviations, bolder the heavier they are; those "
        f"of a mixing weight of at least {lom.RARE_WEIGHT:g} have their number here and in 2. The "
        f"dataset's actions are its first ones at the {shown.states} initial states nearest to it "
        f"(at most {100 * shown.distance:.1f} cm). 2: the critic's Q of {SAMPLES} samples of each "
        "component (dots), and its hyper-Q, a network's estimate of their mean; the best is the "
        f"highest{among * (config.min_component_weight > 0)}. 3: {SAMPLES} samples of the best, in "
        "the box of the actions (dotted), their area by the weight in the imitation loss, "
        f"exp(advantage x {config.inverse_temperature:g}) up to {config.max_weight:g}, and the "
        "action that the policy has learned.",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = selection.with_M(selection.parser("The three steps of LOM at one state."))

    def run(results: Results, out: Path, arguments: argparse.Namespace) -> Written:
        return write(results, out, arguments.seed, arguments.M)

    return selection.main(parser, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
