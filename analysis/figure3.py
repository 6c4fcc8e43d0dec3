"""Score against the number of components M, as in LOM's Figure 3: PNG, PDF, CSV and Markdown.

    python -m analysis.figure3 [sweep] [--statistic last|last_ten|best]

One panel per dataset (and algorithm, beta and settings, where several were run): one point per
seed, their mean, and an interval over seeds.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib.axes
import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from analysis import command, drawing, scores, table
from analysis.command import Written
from analysis.folders import AnalysisError
from analysis.runs import Problem, Results
from analysis.table import plain

_PANEL_WIDTH, _PANEL_HEIGHT, _COLUMNS = 3.6, 3.1, 3
_SEED_OFFSETS = (0.13, 0.3)  # right of the mean, in distances between two values of M


def write(results: Results, out: Path, statistic: str = scores.DEFAULT) -> Written:
    """Draw the figure into `out` and write its numbers beside it.

    Args:
        statistic: what a point shows, a key of `scores.STATISTICS`.

    Raises:
        AnalysisError: nothing to draw, or a cell mixes data or repeats a seed.
    """
    points = scores.per_run(results)
    without = points[points["M"].isna()]
    problems = [
        *results.problems,
        *(Problem(run, "not drawn: it has no M") for run in without["run"]),
    ]
    points = points.drop(index=without.index)
    if points.empty:
        raise AnalysisError(f"{results.folder}: no run has a number of components M to draw over")
    results = results._replace(problems=problems)
    cells = scores.per_cell(points)
    caption = _caption(results, points, cells, statistic)

    files = _draw(points, cells, statistic, caption, out / "figure3")
    csv_file, markdown_file = out / "figure3.csv", out / "figure3.md"
    _numbers(points, cells, statistic).to_csv(csv_file, index=False, lineterminator="\n")
    title = f"Score against M: {results.name}"
    body = _readable(points, cells, statistic)
    markdown_file.write_text(command.markdown(title, results, body, caption))
    return Written([*files, csv_file, markdown_file], problems)


def _draw(
    points: pd.DataFrame, cells: pd.DataFrame, statistic: str, caption: Sequence[str], stem: Path
) -> list[Path]:
    panels = [panel for _, panel in points.groupby(drawing.PANEL, dropna=False)]
    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    width = max(columns * _PANEL_WIDTH, 5.0)
    legend = _legend(points, cells)
    with drawing.figure(width, rows * _PANEL_HEIGHT, legend, caption) as figure:
        all_axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, panel in zip(all_axes, panels, strict=False):
            _draw_panel(axes, panel, statistic, width / columns)
        for axes in all_axes[len(panels) :]:
            axes.axis("off")
        return drawing.save(figure, stem)


def _draw_panel(
    axes: matplotlib.axes.Axes, panel: pd.DataFrame, statistic: str, width: float
) -> None:
    cells = scores.per_cell(panel)  # sorted by M, the one field in which they differ
    values = cells["M"].tolist()
    positions = np.arange(len(values))  # evenly spaced, so that 1 and 2 stay apart beside 20
    means = cells[statistic].to_numpy()
    color = drawing.algorithm(panel["label"].iloc[0])
    axes.plot(positions, means, color=color, linewidth=1.4, zorder=2)
    low, high = cells[f"{statistic}_low"].to_numpy(), cells[f"{statistic}_high"].to_numpy()
    axes.errorbar(
        positions, means, yerr=np.stack([means - low, high - means]), fmt="D", markersize=4.5,
        color=color, capsize=4, linewidth=1.4, zorder=3,
    )  # fmt: skip
    seeds = sorted(panel["seed"].unique())
    offsets = dict(zip(seeds, np.linspace(*_SEED_OFFSETS, len(seeds)), strict=True))
    for row in panel.itertuples():
        _draw_seed(
            axes,
            values.index(row.M) + offsets[row.seed],
            getattr(row, statistic),
            row.status,
        )
    dataset_score = panel["dataset_score"].iloc[0]
    if not math.isnan(dataset_score):
        axes.axhline(dataset_score, color=drawing.DATASET, linestyle=(0, (5, 3)), linewidth=1.2)
    axes.set_xticks(positions, [plain(value) for value in values])
    margin = 0.5 if len(values) > 2 else 1.0
    axes.set_xlim(-margin, len(values) - 1 + margin)
    lowest, highest = drawing.limits([*panel[statistic], dataset_score], [*low, *high], margin=0.12)
    axes.set_ylim(lowest, highest)
    axes.set_xlabel("number of components M")
    axes.set_ylabel("normalized score")
    env, *details = drawing.heading(panel)
    text = drawing.fold([*details, *drawing.lengths(panel)], width - 0.45)
    axes.set_title(text, loc="left", fontsize=drawing.CAPTION_SIZE)
    axes.annotate(
        env, (0, 1), (0, 8 + 9.5 * (text.count("\n") + 1)), xycoords="axes fraction",
        textcoords="offset points", fontweight="bold",
    )  # fmt: skip


def _draw_seed(axes: matplotlib.axes.Axes, position: float, score: float, status: str) -> None:
    axes.plot(position, score, zorder=4, **_marker(status))


def _marker(status: str) -> dict[str, object]:
    """Filled: finished; hollow: not (yet) finished; cross: failed or diverged."""
    if status in ("failed", "diverged"):
        return {"marker": "X", "color": drawing.INK, "markersize": 6, "linestyle": ""}
    face = drawing.SEED if status == "finished" else "white"
    return {
        "marker": "o", "markersize": 5, "markerfacecolor": face, "linestyle": "",
        "markeredgecolor": drawing.INK, "markeredgewidth": 0.7,
    }  # fmt: skip


def _legend(points: pd.DataFrame, cells: pd.DataFrame) -> list[Line2D]:
    kinds = {
        "finished": "one seed",
        "running": "one seed, unfinished",
        "failed": "failed or diverged",
    }
    groups = points["status"].map(
        lambda status: status if status == "finished" else
        "failed" if status in ("failed", "diverged") else "running"
    )  # fmt: skip
    handles = [
        Line2D([], [], label=label, **_marker(status))
        for status, label in kinds.items()
        if (groups == status).any()
    ]
    barred = (cells["seeds"] > 1).any()
    labels = set(points["label"])
    mean = Line2D(
        [], [], marker="D", markersize=4.5, linewidth=1.4,
        color=drawing.algorithm(labels.pop()) if len(labels) == 1 else drawing.INK,
        label="mean and interval" if barred else "mean",
    )  # fmt: skip
    handles.append(mean)
    if points["dataset_score"].notna().any():
        handles.append(
            Line2D([], [], color=drawing.DATASET, linestyle=(0, (5, 3)), label="dataset's own mean")
        )
    return handles


def _caption(
    results: Results, points: pd.DataFrame, cells: pd.DataFrame, statistic: str
) -> list[str]:
    sentences = [
        "Score: 100 (R - random) / (expert - random).",
        f"Point: one seed, {scores.STATISTICS[statistic]} ({scores.sizes(points, statistic)}).",
    ]
    if (cells["seeds"] > 1).any():
        counts = " or ".join(map(str, sorted(set(cells["seeds"]) - {1})))
        sentences.append(
            f"Bar: Student's 95% interval of the mean over {counts} seeds; where it leaves the "
            "panel, the CSV file has its ends."
        )
    if (cells["seeds"] == 1).any():
        sentences.append("No bar: one seed.")
    if points["dataset_score"].notna().any():
        sentences.append("Dashed: mean score of the dataset's own episodes.")
    return [" ".join(sentences), *drawing.incomplete(results)]


def _numbers(points: pd.DataFrame, cells: pd.DataFrame, statistic: str) -> pd.DataFrame:
    """One row per point, with its cell's mean and interval repeated."""
    seeds = points[
        [*scores.CELL, "seed", "run", "status", "evaluated_update", "evaluations"]
    ].assign(score=points[statistic], statistic=statistic)
    columns = {
        statistic: "mean", f"{statistic}_std": "std", f"{statistic}_low": "low",
        f"{statistic}_high": "high",
    }  # fmt: skip
    shared = cells[[*scores.CELL, *columns, "interval", "dataset_score", "data", "provenance"]]
    return seeds.merge(shared.rename(columns=columns), on=scores.CELL).round(6)


def _readable(points: pd.DataFrame, cells: pd.DataFrame, statistic: str) -> pd.DataFrame:
    rows = table.readable(cells, statistic)
    seeds = [
        ", ".join(
            f"{seed}: {score:.1f}"
            for seed, score in zip(cell["seed"], cell[statistic], strict=True)
        )
        for _, cell in points.groupby(scores.CELL, dropna=False, sort=True)
    ]
    rows.insert(rows.columns.get_loc("interval"), "seed: score", seeds)
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = command.parser("Score against the number of components M.")
    parser.add_argument(
        "--statistic",
        choices=list(scores.STATISTICS),
        default=scores.DEFAULT,
        help="what a point is",
    )

    def run(results: Results, out: Path, arguments: argparse.Namespace) -> Written:
        return write(results, out, arguments.statistic)

    return command.main(parser, run, argv)


if __name__ == "__main__":
    raise SystemExit(main())
