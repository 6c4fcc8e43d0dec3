"""What methods score over several datasets: IQM, mean, median, ranks, who is above whom, profiles.

    python -m analysis.aggregates [sweep] [--statistic last|last_ten|best]

Only datasets on which every method was run count. Writes aggregates.md, .csv and .tex, ranks.csv,
improvement.csv, and the performance profiles as a figure, profiles.png, .pdf and .csv.
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

from analysis import command, drawing, latex, methods, scores, statistics
from analysis.command import Written
from analysis.folders import AnalysisError
from analysis.runs import Problem, Results
from analysis.statistics import Estimate

_THRESHOLDS = 101
_MANY = 10  # methods; a figure of more tells no colors apart


class Aggregates(NamedTuple):
    """Statistics over the datasets that all methods share."""

    methods: list[str]  # by IQM, the highest first
    datasets: list[str]
    points: pd.DataFrame  # `scores.per_run` of these datasets, with `method`
    overall: pd.DataFrame  # per method: each aggregate with its interval, the mean rank, runs
    ranks: pd.DataFrame  # of the methods (columns) on each dataset (rows), 1 the highest
    improvement: pd.DataFrame  # method, other: the probability that the first is above, interval
    left_out: list[Problem]


def compute(results: Results, statistic: str = scores.DEFAULT) -> Aggregates:
    """All of it.

    Raises:
        AnalysisError: nothing is evaluated, or no dataset has runs of every method.
    """
    points = scores.per_run(results)
    points = points.assign(method=methods.name(points))
    unscored = points[points[statistic].isna()]
    points = points.drop(index=unscored.index)
    names = list(dict.fromkeys(points["method"]))
    datasets = methods.shared_datasets(points, names)
    if not datasets:
        has = points.groupby("method", sort=False)["env"].unique()
        listed = "".join(f"\n  {method}: {', '.join(envs)}" for method, envs in has.items())
        raise AnalysisError(f"no dataset has scored runs of every method:{listed}")
    inside = points["env"].isin(datasets)
    left_out = [
        *(Problem(run, "left out: it has no score") for run in unscored["run"]),
        *(
            Problem(row.run, f"left out: not every method was run on {row.env}")
            for row in points[~inside].itertuples()
        ),
    ]
    points = points[inside]
    strata = {name: methods.strata(points, name, datasets, statistic) for name in names}
    means = pd.DataFrame(
        {name: [np.mean(runs) for runs in strata[name]] for name in names}, index=datasets
    )
    ranks = means.round(1).rank(axis=1, ascending=False)  # what prints the same is a tie
    rows = []
    for name in names:
        row = {"method": name, "runs": sum(map(len, strata[name]))}
        for aggregate, function in statistics.AGGREGATES.items():
            row |= _columns(aggregate, statistics.aggregate(strata[name], function))
        rows.append(row | {"mean rank": ranks[name].mean()})
    overall = pd.DataFrame(rows).sort_values("IQM", ascending=False, kind="stable")
    pairs = [
        {"method": one, "other": other}
        | _columns("probability", statistics.improvement(strata[one], strata[other]))
        for one in overall["method"]
        for other in overall["method"]
        if one != other
    ]
    columns = ["method", "other", "probability", "probability_low", "probability_high"]
    return Aggregates(
        list(overall["method"]), datasets, points, overall.reset_index(drop=True), ranks,
        pd.DataFrame(pairs, columns=columns), left_out,
    )  # fmt: skip


def _columns(name: str, estimate: Estimate) -> dict[str, float]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def write(results: Results, out: Path, statistic: str = scores.DEFAULT) -> Written:
    """Write the tables and the figure into `out`; what `compute` raises."""
    found = compute(results, statistic)
    results = results._replace(problems=[*results.problems, *found.left_out])
    title = f"Scores over {_count(len(found.datasets), 'dataset')}: {results.name}"
    body, notes = readable(found), notes_of(found, statistic)
    command.show(title, body, notes)
    files = {
        name: out / name
        for name in (
            "aggregates.md", "aggregates.csv", "aggregates.tex", "ranks.csv", "improvement.csv",
        )
    }  # fmt: skip
    files["aggregates.md"].write_text(
        command.markdown(title, results, body, notes), encoding="utf-8"
    )
    frames = {"aggregates": found.overall, "improvement": found.improvement}
    frames["ranks"] = found.ranks.rename_axis("dataset").reset_index()
    for name, frame in frames.items():
        frame.round(6).to_csv(files[f"{name}.csv"], index=False, lineterminator="\n")
    files["aggregates.tex"].write_text(
        latex.table(body, f"{title}. {' '.join(notes)}", "tab:aggregates"), encoding="utf-8"
    )
    drawn = _draw(found, statistic, notes[-1], out / "profiles")
    return Written([*files.values(), *drawn], results.problems)


def readable(found: Aggregates) -> pd.DataFrame:
    """A row per method, as strings."""
    rows, first = [], found.methods[0]
    for row in found.overall.to_dict("records"):
        cells = {"method": row["method"]}
        for aggregate in statistics.AGGREGATES:
            cells[aggregate] = interval(
                *(row[f"{aggregate}{end}"] for end in ("", "_low", "_high"))
            )
        cells["mean rank"] = f"{row['mean rank']:.1f}"
        pair = found.improvement[
            (found.improvement["method"] == row["method"]) & (found.improvement["other"] == first)
        ]
        if len(pair):
            cells[f"P(above {first})"] = interval(*pair.iloc[0, 2:], digits=2)
        rows.append(cells | {"runs": str(row["runs"])})
    frame = pd.DataFrame(rows).fillna("")
    return frame[[*frame.columns.drop("runs"), "runs"]]


def interval(value: float, low: float, high: float, digits: int = 1) -> str:
    """`12.3 (10.0 to 14.6)`, or the value alone."""
    if math.isnan(low):
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def notes_of(found: Aggregates, statistic: str) -> list[str]:
    """What a reader must know; the last entry is of the data."""
    points = found.points
    seeds = points.groupby(["method", "env"]).size()
    few = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    kinds = ", ".join(sorted(set(map(scores.data_name, points["provenance"]))))
    alone = (
        " A dataset with a single run tells nothing of how runs vary: there is no interval then."
        if seeds.min() < 2
        else ""
    )
    files = points.groupby("env")["sha256"].nunique()
    differing = list(files.index[files > 1])
    warning = f"NOT COMPARABLE: the runs' data for {', '.join(differing)} differ."
    return [
        *([warning] if differing else []),
        f"Of each run its {scores.STATISTICS[statistic]} ({scores.sizes(points, statistic)}), a "
        "normalized return. IQM: mean of the middle half of all runs; mean and median: of the "
        "datasets' means. In brackets 95% intervals over seeds: stratified bootstrap of 2,000 "
        f"draws, widened for few seeds as Student's interval is.{alone}",
        "P(above ...): probability that a run scores above one of the method named, mean over "
        "datasets, with Newcombe's interval. Mean rank: 1 is the highest mean of a dataset, equal "
        "means share one. The datasets count as given, not as drawn from others.",
        f"Datasets: {', '.join(found.datasets)} ({kinds}). Seeds: {few} a method and dataset.",
    ]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _draw(found: Aggregates, statistic: str, data: str, stem: Path) -> list[Path]:
    """Performance profiles, and their numbers as a CSV file."""
    values = found.points[statistic]
    thresholds = np.linspace(values.min() - 1e-9, values.max(), _THRESHOLDS)
    curves = {
        name: statistics.profile(
            methods.strata(found.points, name, found.datasets, statistic), thresholds
        )
        for name in found.methods
    }
    colors = drawing.colors(found.methods)
    shown = found.methods[:_MANY]
    caption = [
        "Line: share of runs, mean over datasets, that score above the threshold. Band: pointwise "
        "95% interval over seeds, of a stratified bootstrap spread for few seeds. Of each run its "
        f"{scores.STATISTICS[statistic]}.",
        data,
    ]
    if len(shown) < len(found.methods):
        caption.append(
            f"Drawn are the {_MANY} of {len(found.methods)} methods with the highest IQM; "
            "profiles.csv has all."
        )
    legend = [Line2D([], [], color=colors[name], label=name, linewidth=1.6) for name in shown]
    with drawing.figure(6.0, 3.2, legend, caption) as figure:
        axes = figure.subplots()
        for name in shown:
            share, low, high = curves[name]
            axes.fill_between(thresholds, low, high, color=colors[name], alpha=0.15, linewidth=0)
            axes.plot(thresholds, share, color=colors[name], linewidth=1.6)
        axes.set_xlabel("normalized score")
        axes.set_ylabel("share of runs above")
        axes.set_ylim(-0.02, 1.02)
        files = drawing.save(figure, stem)
    frame = pd.concat(
        pd.DataFrame(
            {"method": name, "threshold": thresholds, "share": share, "low": low, "high": high}
        )
        for name, (share, low, high) in curves.items()
    )
    frame.round(6).to_csv(stem.with_suffix(".csv"), index=False, lineterminator="\n")
    return [*files, stem.with_suffix(".csv")]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = command.parser("What methods score over several datasets.")
    parser.add_argument(
        "--statistic", choices=list(scores.STATISTICS), default=scores.DEFAULT, help="of each run"
    )

    def run(results: Results, out: Path, arguments: argparse.Namespace) -> Written:
        written = write(results, out, arguments.statistic)
        return written

    return command.main(parser, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
