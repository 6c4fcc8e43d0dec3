"""A table beside a paper's, for a terminal, for Markdown and for LaTeX, and as numbers in a CSV."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from analysis import command, scores
from analysis.command import Written
from analysis.comparison import PaperTable
from analysis.latex import environment, escape
from analysis.runs import Results

UNFINISHED = "†"
_TERMINAL_WIDTH = 120


class Line(NamedTuple):
    """One line of the table: a number of one kind for each method on a dataset."""

    dataset: str
    kind: str  # what the numbers are
    cells: list[str]  # one per method, "" where there is nothing
    best: list[bool]  # whether the cell is set in bold
    style: str = ""  # of the line in a terminal


class Page(NamedTuple):
    """A table with its caption, ready to be set."""

    stem: str  # of the files
    title: str
    columns: list[str]  # names of the methods
    lines: list[Line]  # a dataset's lines together
    # Of a dataset: a heading above it in a terminal, or "", and what it is called below that.
    heading: Callable[[str], tuple[str, str]]
    notes: list[str]  # the caption, a paragraph each
    grid: pd.DataFrame  # the numbers, a row per cell


def score(mean: float, std: float) -> str:
    """`12.3±4.5`; the mean alone where there is no deviation, nothing where there is no mean."""
    if math.isnan(mean):
        return ""
    return f"{mean:.1f}" if math.isnan(std) else f"{mean:.1f}±{std:.1f}"


def highest(means: pd.Series) -> list[bool]:
    """Ties in what is printed are ties; one mean alone is not the highest of anything."""
    rounded = means.round(1)
    return [means.notna().sum() > 1 and mean == rounded.max() for mean in rounded]


def compared(dataset: str, row: pd.DataFrame) -> list[Line]:
    """Our scores on a dataset, with a mark where runs are not finished, and the paper's."""
    unfinished = row["mean"].notna() & (row["status"] != "finished")
    ours = [
        text + UNFINISHED * flag
        for text, flag in zip(map(score, row["mean"], row["std"]), unfinished, strict=True)
    ]
    printed = list(map(score, row["paper_mean"], row["paper_std"]))
    return [
        Line(dataset, "ours", ours, highest(row["mean"])),
        Line(dataset, "paper", printed, highest(row["paper_mean"]), "dim"),
    ]


def terminal(page: Page) -> Group:
    """The table in 120 columns, with the headings of its datasets."""
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("")
    table.add_column("")
    for name in page.columns:
        table.add_column(name, justify="right", overflow="fold")
    shown = ""
    for line, first in zip(page.lines, _first(page.lines), strict=True):
        heading, name = page.heading(line.dataset)
        if first and table.rows and not heading:
            table.add_row()
        elif heading != shown:
            shown = heading
            table.add_row(Text(heading, style="bold"))
        table.add_row(
            name if first else "",
            line.kind,
            *(
                Text(text, style="bold" if best else "")
                for text, best in zip(line.cells, line.best, strict=True)
            ),
            style=line.style,
        )
    notes = (Text(note, style="dim") for note in page.notes)
    return Group(Text(page.title, style="bold"), "", table, "", *notes)


def _first(lines: Sequence[Line]) -> list[bool]:
    """Which lines are the first of their dataset."""
    datasets = [line.dataset for line in lines]
    return [before != own for before, own in zip([None, *datasets], datasets, strict=False)]


def markdown_body(page: Page) -> pd.DataFrame:
    """The table's lines as the strings of a Markdown table."""
    rows = [
        [
            line.dataset if first else "",
            line.kind,
            *(
                f"**{text}**" if best else text
                for text, best in zip(line.cells, line.best, strict=True)
            ),
        ]
        for line, first in zip(page.lines, _first(page.lines), strict=True)
    ]
    return pd.DataFrame(rows, columns=["dataset", "", *page.columns])


def latex(page: Page) -> str:
    """A table* in booktabs' style, to be read by a document with \\input."""
    body = []
    for line, first in zip(page.lines, _first(page.lines), strict=True):
        if body and first:
            body.append(r"\addlinespace")
        names = [escape(line.dataset) if first else "", escape(line.kind)]
        cells = [_math(*cell) for cell in zip(line.cells, line.best, strict=True)]
        body.append(f"{' & '.join([*names, *cells])} \\\\")
    caption = " ".join(map(escape, [f"{page.title}.", *page.notes]))
    header = f"dataset & & {' & '.join(map(escape, page.columns))}"
    columns = f"ll{'r' * len(page.columns)}"
    return environment(columns, header, body, caption, f"tab:lom-{page.stem}")


def _math(text: str, best: bool) -> str:
    """`$12.3_{\\pm 4.5}$`, as the paper sets it; a range of ranks is no difference.

    Words stay words.
    """
    if not text:
        return ""
    if re.fullmatch(r"\d+-\d+|yes|no", text):
        return text.replace("-", "--")
    mean, _, std = text.removesuffix(UNFINISHED).partition("±")
    mark = r"^{\dagger}" if text.endswith(UNFINISHED) else ""
    mean = rf"\mathbf{{{mean}}}" if best else mean
    deviation = rf"_{{\pm {std}}}" if std else ""
    return f"${mean}{mark}{deviation}$"


def write(results: Results, page: Page, out: Path) -> Written:
    """Write the page into `out` as Markdown, CSV and LaTeX."""
    files = [out / f"{page.stem}.{kind}" for kind in ("md", "csv", "tex")]
    markdown_file, csv_file, latex_file = files
    text = command.markdown(page.title, results, markdown_body(page), page.notes)
    markdown_file.write_text(text, encoding="utf-8")
    page.grid.round(6).to_csv(csv_file, index=False, lineterminator="\n")
    latex_file.write_text(latex(page), encoding="utf-8")
    return Written(files, results.problems)


def main(
    paper: PaperTable,
    compare: Callable[[Results, str], tuple[Results, Page]],
    argv: Sequence[str] | None,
) -> int:
    """The command line of a table.

    Args:
        compare: makes the page of results and a statistic; its results know what was left out.
    """
    parser = command.parser(f"LOM's {paper.name} beside the paper's numbers.")
    parser.add_argument(
        "--statistic", choices=list(scores.STATISTICS), default=scores.DEFAULT, help="of each run"
    )

    def run(results: Results, out: Path, arguments: argparse.Namespace) -> Written:
        results, page = compare(results, arguments.statistic)
        written = write(results, page, out)
        # A pipe or a log file has no width of its own to fold cells to.
        console = Console(width=None if sys.stdout.isatty() else _TERMINAL_WIDTH)
        console.print(terminal(page), highlight=False)
        return written

    return command.main(parser, run, argv)
