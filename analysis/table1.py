"""LOM's Table 1 as far as it was run, beside the paper's numbers: terminal, Markdown, CSV, LaTeX.

python -m analysis.table1 [sweep] [--statistic last|last_ten|best]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import comparison, comparison_caption, comparison_forms, scores
from analysis.command import Written
from analysis.comparison import PaperTable, Selection
from analysis.comparison_forms import Line, Page
from analysis.runs import Results

PAPER = PaperTable(
    "Table 1",
    {
        "onestep": "OneStep",
        "awac": "AWAC",
        "cql": "CQL",
        "td3_bc": "TD3BC",
        "lapo": "LAPO",
        "dmpo": "DMPO",
        "wcgan": "WCGAN",
        "wcvae": "WCVAE",
        "lom": "LOM",
    },
    Path(__file__).with_name("lom_table1.csv"),
)


def covers(results: Results) -> bool:
    """Whether several methods can be compared on a dataset of the table."""
    return comparison.covers(results, PAPER)


def write(results: Results, out: Path, statistic: str = scores.DEFAULT) -> Written:
    """Write table1.md, table1.csv and table1.tex into `out`.

    Args:
        statistic: what is averaged over seeds, a key of `scores.STATISTICS`.

    Raises:
        AnalysisError: no run of the table is evaluated yet, or a cell mixes data or repeats a seed.
    """
    return comparison_forms.write(*compare(results, statistic), out)


def compare(results: Results, statistic: str) -> tuple[Results, Page]:
    """The results with what was left out among their problems, and the table."""
    selection = comparison.select(results, PAPER)
    grid = comparison.grid(PAPER, selection.points, statistic)
    grid.insert(grid.columns.get_loc("statistic"), "difference", grid["mean"] - grid["paper_mean"])
    page = Page(
        stem="table1",
        title=f"LOM's Table 1, from {results.name}",
        columns=list(PAPER.methods.values()),
        lines=lines(grid),
        heading=_heading,
        notes=_notes(selection, len(grid), statistic),
        grid=grid,
    )
    return selection.results, page


def lines(grid: pd.DataFrame) -> list[Line]:
    """Two lines per dataset, ours and the paper's, and their difference where there is one."""
    made = []
    for dataset, row in grid.groupby("dataset", sort=False):
        made += comparison_forms.compared(dataset, row)
        if row["difference"].notna().any():
            differences = [
                "" if np.isnan(value) else f"{round(value, 1) + 0.0:+.1f}"  # never -0.0
                for value in row["difference"]
            ]
            made.append(Line(dataset, "diff", differences, [False] * len(row), "italic"))
        if (row["overlap"] != "").any():
            made.append(
                Line(dataset, "overlap", list(row["overlap"]), [False] * len(row), "italic")
            )
    return made


def _heading(dataset: str) -> tuple[str, str]:
    """The kind of data, and the robot."""
    robot, _, kind = dataset.partition("-")
    return kind, robot


def _notes(selection: Selection, cells: int, statistic: str) -> list[str]:
    points = selection.points
    return [
        "Scores are normalized returns, 100 (R - random) / (expert - random). Ours: mean ± "
        f"standard deviation over seeds of the {scores.STATISTICS[statistic]} of each run "
        f"({scores.sizes(points, statistic)}); a mean without deviation is of one seed. "
        "Diff: ours - paper. Overlap: whether Student's 95% intervals of the two means overlap, "
        "where both have several seeds and a deviation; that they do is no proof of equality. "
        "Bold: the highest mean of a line, whatever the deviations.",
        "Paper: Table 1 of Wang, Jin and Montana (ICLR 2025), 4 seeds, on D4RL's data; it gives "
        "deviations for LAPO to LOM only and does not say which evaluations it averages.",
        comparison_caption.data(
            points,
            "Where the data are not D4RL's, the difference is one of data too, and speaks neither "
            "for nor against the paper's numbers.",
        ),
        *comparison_caption.runs(selection, cells, "table1.md"),
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return comparison_forms.main(PAPER, compare, argv)


if __name__ == "__main__":
    raise SystemExit(main())
