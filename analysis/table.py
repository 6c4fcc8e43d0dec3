"""The result table of a sweep or of a whole results folder: terminal, CSV and Markdown.

python -m analysis.table [sweep]
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis import command, scores
from analysis.command import Written
from analysis.runs import Results

NOTES = (
    "Scores are normalized returns, 100 (R - random) / (expert - random).",
    "`last` is a run's last evaluation; `last ten` the mean of its last ten, or of as many as it "
    "has (`evaluations`); `best` the highest of all, which is chosen by the score it then reports "
    "and so is optimistic: more evaluations alone raise it.",
    "± is the standard deviation over seeds. The interval is Student's, at 95%, of the mean over "
    "seeds: wide where seeds are few, and none of one seed, which says nothing of the next.",
    "`data's own` is the mean score of the dataset's own episodes.",
)


_NOTHING = "-"
_LEGEND = Text(
    "±: standard deviation over seeds. last ten: mean of the last ten evaluations. best: of all,\n"
    "and so optimistic. interval: Student's 95% of the mean over seeds; of one seed there is none.",
    style="dim",
)


def write(results: Results, out: Path) -> tuple[pd.DataFrame, list[Path]]:
    """Write table.csv (full precision) and table.md into `out`; the cells and the two paths.

    Raises:
        AnalysisError: nothing is evaluated yet, or a cell mixes data or repeats a seed.
    """
    cells = scores.per_cell(scores.per_run(results))
    csv_file, markdown_file = out / "table.csv", out / "table.md"
    cells.round(6).to_csv(csv_file, index=False, lineterminator="\n")
    title = f"Results of {results.name}"
    markdown_file.write_text(command.markdown(title, results, readable(cells), NOTES))
    return cells, [csv_file, markdown_file]


def readable(cells: pd.DataFrame, statistic: str = scores.DEFAULT) -> pd.DataFrame:
    """`scores.per_cell`'s frame as strings for people; the spread and interval of `statistic`."""
    others = [other for other in scores.STATISTICS if other != statistic]
    return pd.DataFrame(
        {
            "algorithm": cells["label"],
            "dataset": cells["env"],
            "M": cells["M"].map(plain),
            "beta": cells["beta"].map(plain),
            "settings": cells["settings"],
            "seeds": cells["seeds"].astype(str),
            scores.HEADINGS[statistic]: _means(cells, statistic),
            "interval": [
                kind if math.isnan(low) else f"{low:.1f} to {high:.1f}"
                for low, high, kind in zip(
                    cells[f"{statistic}_low"],
                    cells[f"{statistic}_high"],
                    cells["interval"],
                    strict=True,
                )
            ],
            **{scores.HEADINGS[other]: _means(cells, other) for other in others},
            "evaluations": cells["evaluations"].astype(str),
            "data's own": cells["dataset_score"].map(_score),
            "data": cells["data"],
            "status": cells["status"],
        }
    )


def plain(value: float) -> str:
    """A setting's value without trailing zeros; a dash where there is none."""
    return _NOTHING if pd.isna(value) else f"{value:g}"


def terminal(results: Results, cells: pd.DataFrame) -> Group:
    """A table per dataset for a terminal; what is the same in all its rows stands above it."""
    parts: list[RenderableType] = [Text(f"Normalized scores of {results.name}", style="bold")]
    for _, dataset in cells.groupby(["env", "provenance"], sort=True):
        parts += ["", *_terminal_table(readable(dataset))]
    return Group(*parts, _LEGEND)


def _terminal_table(rows: pd.DataFrame) -> tuple[Text, Table]:
    rows = rows.drop(columns="evaluations")
    identity = ["dataset", "algorithm", "beta", "settings", "data", "data's own", "status"]
    shared = [column for column in identity if rows[column].nunique() == 1]
    names = {"beta": "beta ", "data's own": "data's own score "}
    title = [
        names.get(column, "") + rows[column].iloc[0]
        for column in shared
        if rows[column].iloc[0] not in ("", _NOTHING)
    ]
    if (rows["M"] == _NOTHING).all():
        shared.append("M")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in rows.columns.drop(shared):
        table.add_column(
            column,
            justify="left" if column in identity else "right",
            overflow="fold",
        )
    for row in rows.drop(columns=shared).itertuples(index=False):
        table.add_row(*(Text(cell) for cell in row))
    return Text(" · ".join(title), style="bold"), table


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""

    def run(results: Results, out: Path, _: argparse.Namespace) -> Written:
        cells, files = write(results, out)
        # A pipe or a log file has no width of its own to fold cells to.
        console = Console(width=None if sys.stdout.isatty() else 120)
        console.print(terminal(results, cells), highlight=False)
        return Written(files, results.problems)

    return command.main(command.parser("Table of scores over seeds."), run, argv)


def _means(cells: pd.DataFrame, statistic: str) -> list[str]:
    """`12.3 ± 4.5`, or the mean alone of a single seed."""
    return [
        _score(mean) if math.isnan(std) else f"{mean:.1f} ± {std:.1f}"
        for mean, std in zip(cells[statistic], cells[f"{statistic}_std"], strict=True)
    ]


def _score(value: float) -> str:
    return _NOTHING if math.isnan(value) else f"{value:.1f}"


if __name__ == "__main__":
    raise SystemExit(main())
