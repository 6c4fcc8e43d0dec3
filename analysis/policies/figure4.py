"""The components that LOM learns with growing M at one state, as in LOM's Figure 4.

    python -m analysis.policies.figure4 [sweep] [--seed 0]

A panel per M: contours of all components, samples of the one LOM imitates, the dataset's actions.
PNG, PDF and CSV.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from analysis import drawing
from analysis.command import Written
from analysis.policies import actions, planes, reach, selection
from analysis.policies.actions import Evaluated
from analysis.policies.reach import Demonstrations, Scene
from analysis.runs import Results

REMEDY = "python launch.py -m experiment=figure4"
SAMPLES = 200
_PANEL_WIDTH, _HEIGHT = 1.93, 2.5  # inches


def write(results: Results, out: Path, seed: int = 0) -> Written:
    """Draw the figure into `out` and write its numbers beside it.

    Raises:
        AnalysisError: the sweep has no run of LOM on fetch-reach with this seed, or two of one M.
        LomExpError: a run or its data cannot be loaded.
    """
    selected = selection.select(results, ["lom"], seed, REMEDY)
    runs = selection.load_each(selected, "M")
    first, *_ = runs.values()
    scene = reach.scene(first, seed, 1)
    shown = reach.demonstrations(first, selected.runs["sha256"].iloc[0], scene)
    found = {M: actions.evaluated(run, scene.observation) for M, run in runs.items()}
    minimum = first.spec.config.min_component_weight
    caption = [*_caption(shown, minimum), *selection.described(selected, list(runs.values()))]
    files = _draw(found, scene, shown, seed, caption, out / "figure4")
    csv_file = out / "figure4.csv"
    numbers = pd.concat(
        [planes.component_rows(each).assign(M=M, run=runs[M].name) for M, each in found.items()]
    )
    numbers.round(6).to_csv(csv_file, index=False, lineterminator="\n")
    return Written([*files, csv_file], selected.problems)


def _draw(
    found: Mapping[int, Evaluated],
    scene: Scene,
    shown: Demonstrations,
    seed: int,
    caption: Sequence[str],
    stem: Path,
) -> list[Path]:
    width = max(_PANEL_WIDTH * len(found), 5.0)
    too_light = any(each.highest != each.chosen for each in found.values())
    with drawing.figure(width, _HEIGHT, _legend(too_light), caption) as figure:
        panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
        for axes, (M, each) in zip(panels, found.items(), strict=True):
            component = each.mixture.only(each.chosen)
            weight, std = each.mixture.weights[each.chosen], component.stds[0]
            note = f"imitated: weight {weight:.2f},\nstd {std[0]:.2f} of dx, {std[1]:.2f} of dy"
            planes.action_plane(axes, f"M = {M}", note)
            planes.dots(axes, shown.actions, planes.DATA)
            planes.contours(axes, each.mixture, planes.LEARNED)
            sampled = component.sample(SAMPLES, np.random.default_rng(seed))
            planes.dots(axes, sampled, planes.CHOSEN, zorder=4)
            if each.highest != each.chosen:
                axes.plot(*each.mixture.means[each.highest, :2], zorder=5, **planes.TOO_LIGHT)
        panels[0].set_ylabel("action dy", labelpad=1)
        return planes.save(figure, stem)


def _legend(too_light: bool) -> list[Line2D]:
    entries = [
        planes.dot(planes.DATA, "dataset"),
        planes.ring(planes.LEARNED, "component"),
        planes.dot(planes.CHOSEN, "component LOM imitates"),
    ]
    highest = Line2D([], [], label="highest hyper-Q, too light", **planes.TOO_LIGHT)
    return [*entries, highest] if too_light else entries


def _caption(shown: Demonstrations, minimum: float) -> list[str]:
    return [
        "Components of LOM's mixture over the actions (dx, dy) at one initial state that is in no "
        "data: contours at 1 and 2 standard deviations, bolder the heavier the component is. "
        f"Vermilion: {SAMPLES} samples, before they are clipped to the box (dotted), of "
        "the component that LOM imitates: that of highest hyper-Q"
        + (f" among those of a mixing weight of at least {minimum:g}. " if minimum > 0 else ". ")
        + f"Gray: the dataset's first actions at the {shown.states} initial states nearest to it "
        f"(at most {100 * shown.distance:.1f} cm)."
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = selection.parser("The components that LOM learns with growing M.")

    def run(results: Results, out: Path, arguments: argparse.Namespace) -> Written:
        return write(results, out, arguments.seed)

    return selection.main(parser, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
