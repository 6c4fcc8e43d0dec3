"""LOM's Table 2 as far as it was run, beside the paper's numbers: terminal, Markdown, CSV, LaTeX.

    python -m analysis.table2 [sweep] [--statistic last|last_ten|best]

The paper does not say what its scores count. Ours are returns; what compares is each method's score
relative to LOM's, and the order of the methods.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis import comparison, comparison_forms, ranking, scores, table2_caption
from analysis.command import Written
from analysis.comparison import PaperTable
from analysis.comparison_forms import Line, Page
from analysis.runs import Results

PAPER = PaperTable(
    "Table 2",
    {"bc": "BC", "mdn": "MDN", "awac": "AWAC", "wcgan": "WCGAN", "wcvae": "WCVAE", "lom": "LOM"},
    Path(__file__).with_name("lom_table2.csv"),
)
_BEST = 2.0  # reward of a step at the first quadrant's goal; at another it is 1, elsewhere 0
_RELATIVE = {"mean": "relative", "paper_mean": "paper_relative"}  # to LOM's
# Beside the return: columns of the grid, and what their lines are called.
_MORE = {"at_best": "best goal, %", "at_goal": "any goal, %", "score": "normalized"}


def covers(results: Results) -> bool:
    """Whether several methods can be compared on a task of the table."""
    return comparison.covers(results, PAPER)


def write(results: Results, out: Path, statistic: str = scores.DEFAULT) -> Written:
    """Write table2.md, table2.csv and table2.tex into `out`.

    Args:
        statistic: what is averaged over seeds, a key of `scores.STATISTICS`.

    Raises:
        AnalysisError: no run of the table is evaluated yet, or a cell mixes data or repeats a seed.
    """
    return comparison_forms.write(*compare(results, statistic), out)


def compare(results: Results, statistic: str) -> tuple[Results, Page]:
    """The results with what was left out among their problems, and the table."""
    selection = comparison.select(results, PAPER)
    grid = _grid(selection.shown, statistic)
    page = Page(
        stem="table2",
        title=f"LOM's Table 2, from {results.name}",
        columns=list(PAPER.methods.values()),
        lines=lines(grid),
        heading=lambda task: ("", task),
        notes=table2_caption.notes(selection, grid, statistic),
        grid=grid,
    )
    return selection.results, page


def _grid(shown: Results, statistic: str) -> pd.DataFrame:
    """A row per cell of the paper's table: mean and deviation of all there is to show of it."""
    last = shown.episodes["final_reward"]
    at = {"at_best": last == _BEST, "at_goal": last > 0}
    shares = {name: (100.0 * held).where(last.notna()) for name, held in at.items()}
    shown = shown._replace(episodes=shown.episodes.assign(**shares))
    grid = comparison.grid(PAPER, scores.per_run(shown, "return"), statistic)
    tasks = grid.groupby("dataset", sort=False)
    grid = pd.concat([_with_relative(rows) for _, rows in tasks], ignore_index=True)
    for quantity in _MORE:
        cells = scores.per_cell(scores.per_run(shown, quantity))
        names = {"label": "method", "env": "dataset", statistic: quantity}
        names |= {f"{statistic}_std": f"{quantity}_std"}
        grid = grid.merge(cells.rename(columns=names)[list(names.values())], how="left")
    return grid


def lines(grid: pd.DataFrame) -> list[Line]:
    """A task's scores, relative scores, ranks, ends of episodes; the sums over the tasks."""
    made = []
    for task, row in grid.groupby("dataset", sort=False):
        made += comparison_forms.compared(task, row)
        run = row["mean"].notna()
        if run.any():
            made += _relative_lines(task, row)
        if run.sum() > 1:
            # The paper's among the methods run here, so that the two are ranks of the same ones.
            for whose, prefix, style in (("ours", "", ""), ("paper", "paper_", "dim")):
                means, deviations = row[f"{prefix}mean"].where(run), row[f"{prefix}std"]
                placed = ranking.ranks(means, deviations)
                made.append(_line(task, f"rank, {whose}", placed, style))
        for quantity, kind in _MORE.items():
            if row[quantity].notna().any():
                cells = map(comparison_forms.score, row[quantity], row[f"{quantity}_std"])
                made.append(_line(task, kind, list(cells)))
    sums = _sums(grid)
    if sums["mean"].notna().sum() > 1:
        made += comparison_forms.compared("sum of the tasks", sums)
        made += _relative_lines("sum of the tasks", sums)
    return made


def _sums(grid: pd.DataFrame) -> pd.DataFrame:
    """The sums over tasks as a task of its own; without our score where a task is missing."""
    methods = grid.groupby("method", sort=False)
    sums = methods[list(_RELATIVE)].agg(lambda values: values.sum(skipna=False)).reset_index()
    finished = methods["status"].agg(lambda values: (values == "finished").all())
    status = finished.map({True: "finished", False: "unfinished"}).to_numpy()
    return _with_relative(sums.assign(status=status, std=math.nan, paper_std=math.nan))


def _with_relative(rows: pd.DataFrame) -> pd.DataFrame:
    """One task's rows with scores over LOM's; none is negative, and LOM's may be nothing."""
    lom = rows[rows["method"] == "lom"].iloc[0]
    return rows.assign(
        **{
            relative: rows[mean] / (lom[mean] if lom[mean] > 0 else math.nan)
            for mean, relative in _RELATIVE.items()
        }
    )


def _relative_lines(task: str, row: pd.DataFrame) -> list[Line]:
    if row["relative"].isna().all():
        return []
    ours, paper = (
        ["" if math.isnan(value) else f"{value:.2f}" for value in row[column]]
        for column in ("relative", "paper_relative")
    )
    return [_line(task, "ours / LOM", ours), _line(task, "paper / LOM", paper, "dim")]


def _line(task: str, kind: str, cells: list[str], style: str = "") -> Line:
    return Line(task, kind, cells, [False] * len(cells), style)


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return comparison_forms.main(PAPER, compare, argv)


if __name__ == "__main__":
    raise SystemExit(main())
