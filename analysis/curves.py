"""Learning curves: score against updates, a panel per M; optionally rows of logged metrics.

    python -m analysis.curves [sweep] [--metrics policy/advantage,...]

One figure (PNG and PDF) per algorithm, dataset, beta and settings, and one CSV of the scores.
"""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib.axes
import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from analysis import command, drawing, runs, scores
from analysis.command import Written
from analysis.folders import AnalysisError
from analysis.runs import Results
from analysis.table import plain

_PANEL_WIDTH, _PANEL_HEIGHT = 2.3, 2.0
_SCORE = "normalized score"
_WIDTHS = {"score": (0.9, 1.8), "value": (0.6, 1.2)}  # of a seed's line and the mean's
_STYLES = {"finished": "-", "failed": ":", "diverged": ":"}  # any other: unfinished, dashed


def write(results: Results, out: Path, metrics: Sequence[str] = ()) -> Written:
    """Draw every learning curve of `results` into `out`, with a row for each of `metrics`.

    Raises:
        AnalysisError: nothing is evaluated yet, a metric was never logged, or a cell mixes data or
            repeats a seed.
    """
    evaluated = scores.per_run(results)
    curves = scores.evaluations(results.episodes)
    curves = curves.merge(
        evaluated[["run", *scores.CELL, "seed", "status", "provenance"]], on="run"
    )
    # A pre-training phase that is evaluated too would fold back onto the same axis.
    curves = curves[curves["phase"] == curves.groupby("run")["phase"].transform("last")]
    logged, problems = _logged(evaluated, metrics)
    results = results._replace(problems=[*results.problems, *problems])

    csv_file = out / "curves.csv"
    columns = ["run", *scores.CELL, "seed", "status", "provenance", "phase", "update", "final"]
    numbers = curves[[*columns, "episodes", "score"]].round(6)
    numbers.to_csv(csv_file, index=False, lineterminator="\n")
    files = [csv_file]
    groups = [group for _, group in evaluated.groupby(drawing.PANEL, dropna=False)]
    for group in groups:
        files += _draw(results, group, curves, logged, metrics, out / _stem(group, groups))
    return Written(files, results.problems)


def _logged(
    evaluated: pd.DataFrame, metrics: Sequence[str]
) -> tuple[pd.DataFrame, list[runs.Problem]]:
    """The wanted metrics of all runs; each of one phase, the last that logs it."""
    if not metrics:
        return pd.DataFrame(columns=runs.METRIC_COLUMNS), []
    logged, problems = runs.load_metrics(evaluated)
    known = sorted(logged["metric"].unique())
    for metric in metrics:
        if metric not in known:
            near = difflib.get_close_matches(metric, known, n=1, cutoff=0.0)
            hint = f"did you mean {near[0]!r}? There are " if near else "there are "
            raise AnalysisError(f"no metric {metric!r}: {hint}{', '.join(known) or 'none'}")
    logged = logged[logged["metric"].isin(metrics)].sort_values(["run", "metric", "step"])
    last_phase = logged.groupby("metric")["phase"].transform("last")
    return logged[logged["phase"] == last_phase], problems


def _stem(group: pd.DataFrame, groups: Sequence[pd.DataFrame]) -> str:
    """A file name that says what it shows; with more than label and dataset only where needed."""
    first = group.iloc[0]
    stem = f"curves_{first['label']}_{first['env']}"
    alike = [
        other.iloc[0]
        for other in groups
        if (other.iloc[0]["label"], other.iloc[0]["env"]) == (first["label"], first["env"])
    ]
    for column in ("beta", "settings", "provenance"):
        if len({str(other[column]) for other in alike}) > 1:
            stem += f"_{column}-{first[column]}"
    return re.sub(r"[^\w.=+-]+", "-", stem)


def _draw(
    results: Results, group: pd.DataFrame, curves: pd.DataFrame, logged: pd.DataFrame,
    metrics: Sequence[str], stem: Path,
) -> list[Path]:  # fmt: skip
    columns = [column for _, column in group.groupby("M", dropna=False, sort=True)]
    rows = 1 + len(metrics)
    width = max(_PANEL_WIDTH * len(columns) + 0.5, 5.0)
    caption = _caption(results, group, curves)
    env, *details = drawing.heading(group)
    title = f"{env}: {'; '.join(details)}"
    legend = _legend(group)
    with drawing.figure(width, _PANEL_HEIGHT * rows + 0.2, legend, caption, title) as figure:
        grid = figure.subplots(rows, len(columns), squeeze=False, sharey="row", sharex="row")
        for column, column_axes in zip(columns, grid.T, strict=True):
            if not pd.isna(column["M"].iloc[0]):
                column_axes[0].set_title(f"M = {plain(column['M'].iloc[0])}")
            frame = curves[curves["run"].isin(column["run"])]
            _draw_panel(column_axes[0], column, frame, "score")
            dataset_score = column["dataset_score"].iloc[0]
            if pd.notna(dataset_score):
                column_axes[0].axhline(dataset_score, color=drawing.DATASET, linestyle=(0, (5, 3)))
            for metric, axes in zip(metrics, column_axes[1:], strict=True):
                mine = logged[(logged["metric"] == metric) & logged["run"].isin(column["run"])]
                _draw_panel(axes, column, mine, "value")
        for label, row_axes in zip([_SCORE, *metrics], grid, strict=True):
            row_axes[0].set_ylabel(label.replace("/", "/\n"), fontsize=8)
        return drawing.save(figure, stem)


def _draw_panel(
    axes: matplotlib.axes.Axes, column: pd.DataFrame, frame: pd.DataFrame, value: str
) -> None:
    """A thin line per seed, and their mean where every seed has a value."""
    thin, thick = _WIDTHS[value]
    for row in column.itertuples():
        mine = frame[frame["run"] == row.run]
        axes.plot(
            mine["update"], mine[value], color=drawing.SEED, linewidth=thin,
            linestyle=_STYLES.get(row.status, "--"), marker="." if len(mine) == 1 else "",
        )  # fmt: skip
    by_update = frame.groupby("update")[value].agg(["mean", "size"])
    mean = by_update.loc[by_update["size"] == len(column), "mean"]
    if len(column) > 1:
        color = drawing.algorithm(column["label"].iloc[0])
        axes.plot(mean.index, mean, color=color, linewidth=thick)
    phase = frame["phase"].iloc[0] if len(frame) else ""
    axes.set_xlabel(f"{phase} updates".strip())
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: _thousands(count)))


def _thousands(count: float) -> str:
    if count and count % 1_000_000 == 0:
        return f"{count / 1e6:g}M"
    return f"{count / 1e3:g}k" if abs(count) >= 1000 else f"{count:g}"


def _legend(group: pd.DataFrame) -> list[Line2D]:
    def line(label: str, color: str, width: float, style: object) -> Line2D:
        return Line2D([], [], label=label, color=color, linewidth=width, linestyle=style)

    statuses = set(group["status"])
    handles = []
    if "finished" in statuses:
        handles.append(line("one seed", drawing.SEED, 0.9, "-"))
    if statuses - set(_STYLES):
        handles.append(line("one seed, unfinished", drawing.SEED, 0.9, "--"))
    if statuses & {"failed", "diverged"}:
        handles.append(line("one seed, failed or diverged", drawing.SEED, 0.9, ":"))
    if group.groupby("M", dropna=False).size().max() > 1:
        handles.append(line("mean over seeds", drawing.algorithm(group["label"].iloc[0]), 1.8, "-"))
    if group["dataset_score"].notna().any():
        handles.append(line("dataset's own mean", drawing.DATASET, 1.2, (0, (5, 3))))
    return handles


def _caption(results: Results, group: pd.DataFrame, curves: pd.DataFrame) -> list[str]:
    mine = curves[curves["run"].isin(group["run"])]
    sizes = " or ".join(str(size) for size in sorted(set(mine["episodes"])))
    caption = [
        f"Line: one seed, mean of {sizes} episodes per evaluation, unsmoothed; the mean over seeds "
        "is drawn where every seed has a value. Score: 100 (R - random) / (expert - random). "
        f"{'; '.join(drawing.lengths(group)).capitalize()}.",
    ]
    return [*caption, *drawing.incomplete(results)]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = command.parser("Learning curves of a sweep, and of metrics that its runs logged.")
    parser.add_argument(
        "--metrics", default="", help="comma-separated names, such as policy/rare_choice_share"
    )

    def run(results: Results, out: Path, arguments: argparse.Namespace) -> Written:
        metrics = [name.strip() for name in arguments.metrics.split(",") if name.strip()]
        return write(results, out, metrics)

    return command.main(parser, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
