"""Score against the hours of training, by the clock and of the device: PNG, PDF and CSV.

    python -m analysis.hours [sweep]

A run's hours are those of its updates, from the rates it logged: evaluation and pauses do not
count. The runs of a pack train on one device together, so each has its share of the device's hours.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D
from scipy import stats

from analysis import command, drawing, folders, methods, scores
from analysis.command import Written
from analysis.folders import AnalysisError
from analysis.runs import Problem, Results

_AXES = {"hours": "hours of training", "device_hours": "device-hours"}
_PANEL_WIDTH, _PANEL_HEIGHT, _MANY = 3.2, 2.5, 10


class Timed(NamedTuple):
    """What training took."""

    runs: pd.DataFrame  # run, hours, device_hours: of the whole run so far
    evaluations: pd.DataFrame  # `scores.evaluations` with hours and device_hours
    problems: list[Problem]  # runs of which no rate is known


def compute(results: Results) -> Timed:
    """Read the rates of all evaluated runs."""
    curves = scores.evaluations(results.episodes)
    sizes = results.runs.groupby("pack", dropna=False)["run"].transform("size")
    together = dict(
        zip(results.runs["run"], sizes.where(results.runs["pack"] != "", 1), strict=True)
    )
    folder_of = dict(zip(results.runs["run"], results.runs["folder"], strict=True))
    totals, parts, problems = [], [], []
    for run, mine in curves.groupby("run", sort=False):
        steps, hours = _clock(Path(folder_of[run]))
        if len(steps) < 2:
            problems.append(Problem(str(run), "no hours: metrics.jsonl has no updates per second"))
            continue
        at = np.interp(mine["step"], steps, hours)
        share = 1 / together[run]
        parts.append(mine.assign(hours=at, device_hours=at * share))
        totals.append({"run": run, "hours": hours[-1], "device_hours": hours[-1] * share})
    columns = [*curves.columns, "hours", "device_hours"]
    return Timed(
        pd.DataFrame(totals, columns=["run", "hours", "device_hours"]),
        pd.concat([pd.DataFrame(columns=columns), *parts]) if not parts else pd.concat(parts),
        problems,
    )


def _clock(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Steps at which a run logged, and the hours of training until then."""
    entries, _ = folders.read_lines(folder / "metrics.jsonl")
    rates = {entry["step"]: folders.number(entry.get("updates_per_second")) for entry in entries}
    steps, hours = [0], [0.0]
    for step in sorted(rates):
        if rates[step] > 0 and step > steps[-1]:
            hours.append(hours[-1] + (step - steps[-1]) / rates[step] / 3600)
            steps.append(step)
    return np.array(steps), np.array(hours)


def write(results: Results, out: Path) -> Written:
    """Draw hours.png and hours.pdf into `out`, and write hours.csv.

    Raises:
        AnalysisError: nothing is evaluated, or no run logged a rate.
    """
    points = scores.per_run(results)
    points = points.assign(method=methods.name(points))
    timed = compute(results)
    results = results._replace(problems=[*results.problems, *timed.problems])
    if timed.runs.empty:
        raise AnalysisError(f"{results.folder}: no run has logged how fast it trains")
    curves = timed.evaluations.merge(points[["run", "method", "env", "seed", "device"]], on="run")
    numbers = curves[
        ["run", "method", "env", "seed", "update", "hours", "device_hours", "score", "device"]
    ].round(6)
    numbers.to_csv(out / "hours.csv", index=False, lineterminator="\n")
    files = _draw(results, points, curves, out / "hours")
    return Written([*files, out / "hours.csv"], results.problems)


def _draw(results: Results, points: pd.DataFrame, curves: pd.DataFrame, stem: Path) -> list[Path]:
    names = list(dict.fromkeys(points["method"]))[:_MANY]
    colors = drawing.colors(names)
    datasets = sorted(set(curves["env"]))
    legend = [Line2D([], [], color=colors[name], label=name, linewidth=1.6) for name in names]
    seeds = points.groupby(["method", "env"])["seed"].nunique()
    few = " or ".join(map(str, sorted(set(seeds))))
    kinds = ", ".join(sorted(set(map(scores.data_name, points["provenance"]))))
    caption = [
        f"Line: mean over seeds ({few}) at the same update; band: Student's 95% interval, none of "
        "one seed, cut at the panel's edge. Hours are those of updates, without evaluation and "
        "pauses; of runs that trained together each has an equal share of the device's. Device: "
        f"{', '.join(sorted(set(points['device'])))}.",
        f"Data: {kinds}.",
        *drawing.incomplete(results),
    ]
    width, height = 2 * _PANEL_WIDTH, len(datasets) * _PANEL_HEIGHT
    with drawing.figure(width, height, legend, caption) as figure:
        grid = figure.subplots(len(datasets), 2, squeeze=False, sharey="row")
        for env, row in zip(datasets, grid, strict=True):
            for (column, label), axes in zip(_AXES.items(), row, strict=True):
                for name in names:
                    mine = curves[(curves["env"] == env) & (curves["method"] == name)]
                    _draw_line(axes, mine, column, colors[name])
                inside = curves.loc[curves["env"] == env, "score"]
                axes.set_ylim(*drawing.limits([*inside], [], margin=0.1))
                axes.set_xlabel(label)
                axes.set_xlim(left=0)
            row[0].set_ylabel("normalized score")
            row[0].set_title(env, loc="left", fontweight="bold")
        return drawing.save(figure, stem)


def _draw_line(axes: object, mine: pd.DataFrame, column: str, color: str) -> None:
    runs = mine["run"].nunique()
    by_update = mine.groupby("update").agg(
        at=(column, "mean"), mean=("score", "mean"), std=("score", "std"), size=("score", "size")
    )
    whole = by_update[by_update["size"] == runs]  # where every seed has come to
    axes.plot(whole["at"], whole["mean"], color=color, linewidth=1.5)
    if runs > 1:
        half = stats.t.ppf(0.975, runs - 1) * whole["std"] / math.sqrt(runs)
        axes.fill_between(
            whole["at"], whole["mean"] - half, whole["mean"] + half, color=color, alpha=0.15,
            linewidth=0,
        )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""

    def run(results: Results, out: Path, _: argparse.Namespace) -> Written:
        return write(results, out)

    return command.main(command.parser("Score against the hours of training."), run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
